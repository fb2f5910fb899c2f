"""From measurements to a table: medians, ranges, ratios. No I/O, no clock."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from bench.workloads import Workload

OURS: Final = "netstack"


@dataclass(frozen=True)
class Measurement:
    """One run of one workload in one contender."""

    workload: str
    contender: str = ""
    round: int = 0
    value: float | None = None
    """In the workload's unit; None where it failed."""
    cpu: float | None = None
    """Seconds of CPU that the forwarder's processes used; None where nobody but the kernel forwards."""
    work: float = 0.0
    """Octets, requests or datagrams."""
    problem: str = ""
    """Why there is no value, or what went wrong beside it."""


@dataclass(frozen=True)
class Summary:
    """The rounds of one workload in one contender."""

    middle: float
    least: float
    most: float
    cost: float | None
    """CPU time per piece of work, in the unit of the workload's Cost."""


def summarize(measurements: Sequence[Measurement], workload: Workload, contender: str) -> Summary | None:
    """None where not one round succeeded."""
    good = [m for m in measurements if (m.workload, m.contender) == (workload.name, contender) and m.value is not None]
    values = [m.value for m in good if m.value is not None]
    if not values:
        return None
    costs = [m.cpu / m.work * workload.cost.scale for m in good if m.cpu is not None and m.work]
    return Summary(median(values), min(values), max(values), median(costs) if costs else None)


def table(measurements: Sequence[Measurement], workloads: Sequence[Workload], contenders: Sequence[str]) -> str:
    """The figures, each a median with its range, and how many times as fast as each of the others ours is."""
    others = [name for name in contenders if name != OURS] if OURS in contenders else []
    rows = [["", "unit", *contenders, *(f"/ {name}" for name in others)]]
    for workload in workloads:
        summaries = {name: summarize(measurements, workload, name) for name in contenders}
        ratios = [_ratio(summaries[OURS], summaries[name], less_is_better=workload.less_is_better) for name in others]
        rows.append([workload.title, workload.unit, *map(_spread, summaries.values()), *ratios])
    return aligned(rows)


def cost_table(measurements: Sequence[Measurement], workloads: Sequence[Workload], contenders: Sequence[str]) -> str:
    """CPU time of the forwarder's processes per piece of work; empty where no contender has any."""
    rows = [["", "unit", *contenders]]
    for workload in workloads:
        summaries = [summarize(measurements, workload, name) for name in contenders]
        costs = ["-" if s is None or s.cost is None else number(s.cost) for s in summaries]
        if set(costs) != {"-"}:
            rows.append([workload.title, workload.cost.unit, *costs])
    return aligned(rows) if len(rows) > 1 else ""


def problems(measurements: Sequence[Measurement]) -> list[str]:
    """One line for each run in which something went wrong."""
    return [
        f"{'failed' if m.value is None else 'note'}: round {m.round}, {m.workload}, {m.contender}: {m.problem}"
        for m in measurements
        if m.problem
    ]


def _ratio(ours: Summary | None, other: Summary | None, *, less_is_better: bool) -> str:
    if ours is None or other is None:
        return "-"
    above, below = (other, ours) if less_is_better else (ours, other)
    return f"{above.middle / below.middle:.2f}" if below.middle else "-"


def _spread(summary: Summary | None) -> str:
    if summary is None:
        return "failed"
    if summary.least == summary.most:
        return number(summary.middle)
    return f"{number(summary.middle)} ({number(summary.least)}-{number(summary.most)})"


def number(value: float) -> str:
    """Three digits that mean something; thousands as 12.3k."""
    if value >= 10_000:
        return f"{value / 1000:.0f}k" if value >= 99_950 else f"{value / 1000:.1f}k"
    if value >= 99.95:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 9.995 else f"{value:.2f}"


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Rows as text: the first two columns to the left, the others to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        # Words to the left, figures to the right.
        words = [cell.ljust(width) for cell, width in zip(row[:2], widths[:2], strict=True)]
        figures = [cell.rjust(width) for cell, width in zip(row[2:], widths[2:], strict=True)]
        lines.append("  ".join([*words, *figures]).rstrip())
    return "\n".join(lines)
