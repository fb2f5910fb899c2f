"""How long, as people write it: 90, 90s, 5m, 1h, 2d, 1h30m."""

import re
from typing import Final

from netstack.cli.options import UsageError

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_MOST: Final = 365 * 86400
_WHOLE: Final = re.compile(r"(?:[0-9]{1,9}[smhd])+\Z")


def parse_duration(text: str, option: str) -> float:
    """In seconds; raises UsageError that names the option."""
    written = text.strip().lower()
    if re.fullmatch(r"[0-9]{1,9}", written):
        written += "s"
    seconds = 0
    if _WHOLE.match(written):
        seconds = sum(int(number) * _UNITS[unit] for number, unit in re.findall(r"([0-9]+)([smhd])", written))
    if not 1 <= seconds <= _MOST:
        raise UsageError(f"{option} {text!r}: must be a time such as 90s, 5m, 1h or 1h30m, at most 365d")
    return float(seconds)
