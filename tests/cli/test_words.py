"""Quantities and tables as people read them."""

import pytest

from netstack.cli.words import columns, duration, octets


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-0.001, "0 us"),
        (0.0, "0 us"),
        (38e-6, "38 us"),
        (999e-6, "999 us"),
        (999.9e-6, "1.0 ms"),
        (2.1e-3, "2.1 ms"),
        (38e-3, "38 ms"),
        (0.9999, "1.0 s"),
        (59.6, "60 s"),
        (180.0, "3 min"),
        (7300.0, "2 h"),
    ],
)
def test_a_duration_has_two_or_three_digits_and_a_unit(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0"), (1023, "1023"), (1536, "1.5 KiB"), (20 << 20, "20 MiB"), (3 << 30, "3.0 GiB"), (5 << 40, "5.0 TiB")],
)
def test_octets_have_a_binary_unit(count: int, text: str) -> None:
    assert octets(count) == text


def test_columns_are_aligned_and_an_empty_one_takes_no_room() -> None:
    assert columns([["a", "", "10"], ["bcd", "", "9"]], right=(2,)) == ["a    10", "bcd   9"]
    assert columns([]) == []
