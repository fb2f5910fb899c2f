"""Quantities and tables as people read them."""

from collections.abc import Sequence


def duration(seconds: float) -> str:
    """Two or three digits and a unit: 38 us, 2.1 ms, 1.5 s, 3 min."""
    seconds = max(seconds, 0.0)
    if seconds < 0.9995e-3:
        return f"{seconds * 1e6:.0f} us"
    if seconds < 0.9995:
        return _digits(seconds * 1e3, "ms")
    if seconds < 120:
        return _digits(seconds, "s")
    if seconds < 2 * 3600:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h"


def octets(count: int) -> str:
    """With a binary unit: 512, 1.5 KiB, 20 MiB."""
    if count < 1 << 10:
        return str(count)
    value = float(count)
    for unit in ("KiB", "MiB", "GiB"):
        value /= 1024
        if value < 1023.5:
            return _digits(value, unit)
    return _digits(value / 1024, "TiB")


def columns(rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> list[str]:
    """The rows as lines with aligned columns, two blanks apart; `right` are those aligned to the right."""
    if not rows:
        return []
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
    return [
        "  ".join(
            cell.rjust(width) if index in right else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
            if width
        ).rstrip()
        for row in rows
    ]


def _digits(value: float, unit: str) -> str:
    return f"{value:.1f} {unit}" if value < 9.95 else f"{value:.0f} {unit}"
