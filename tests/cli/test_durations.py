"""How long, as people write it."""

import pytest

from netstack.cli.durations import parse_duration
from netstack.cli.options import UsageError


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("90s", 90), ("5m", 300), ("1h", 3600), ("2d", 172800), ("1h30m", 5400), (" 5M ", 300)],
)
def test_what_people_write(text: str, seconds: float) -> None:
    assert parse_duration(text, "--for") == seconds


@pytest.mark.parametrize(
    "text", ["", "0", "0s", "-5m", "5 m", "1.5h", "h", "5x", "1h x", "366d", "9999999999", "m5", "٣m"]
)
def test_anything_else_is_refused_with_what_is_allowed(text: str) -> None:
    with pytest.raises(UsageError, match="must be a time such as 90s"):
        parse_duration(text, "--for")
