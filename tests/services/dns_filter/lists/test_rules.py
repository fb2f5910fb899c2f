"""What a line of a list says."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.dns_filter.lists.rules import (
    AT,
    BELOW,
    MAX_LINE,
    ListLineError,
    Tally,
    check_name,
    merge,
    pack,
    shown,
    unpack,
)

RULES = st.tuples(st.integers(0, 1023), st.integers(1, MAX_LINE), st.integers(1, 3))


@given(RULES, RULES)
def test_rules_are_packed_in_the_order_of_lists_and_lines(
    one: tuple[int, int, int], other: tuple[int, int, int]
) -> None:
    assert unpack(pack(*one)) == one
    assert (pack(*one) < pack(*other)) == (one < other)
    first = min(one[:2], other[:2])
    assert unpack(merge(pack(*one), pack(*other))) == (*first, one[2] | other[2])


def test_a_line_beyond_all_files_is_the_last() -> None:
    assert unpack(pack(3, 1 << 40, AT)) == (3, MAX_LINE, AT)
    assert pack(0, 1, BELOW) < 1 << 64


@pytest.mark.parametrize("name", [b"a", b"ads.example", b"xn--p1ai", b"_dmarc.example", b"a-b.c_d", b"1.example"])
def test_names(name: bytes) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize(
    "name",
    [b"", b".", b"a..b", b"-a.b", b"a-.b", b"a b", "mün.example".encode(), b"a" * 64, b"a." * 127 + b"aa", b"a/b"],
)
def test_what_is_no_name(name: bytes) -> None:
    with pytest.raises(ListLineError, match="is no domain name"):
        check_name(name)


def test_all_errors_are_counted_and_ten_are_named() -> None:
    tally = Tally()
    for line in range(1, 26):
        tally.error(line, "bad")
    assert tally.errors == 25
    assert [line for line, _ in tally.first_errors] == list(range(1, 11))


@pytest.mark.parametrize(
    ("text", "expected"),
    [(b"ab\x1b[1m", '"ab\\x1b[1m"'), (b"\xff\n", '"\\ufffd\\n"'), (b"x" * 61, '"' + "x" * 60 + '..."')],
    ids=["no control of the terminal", "no line end", "no more than a line"],
)
def test_what_stands_in_a_file_is_shown_in_one_line(text: bytes, expected: str) -> None:
    assert shown(text) == expected
