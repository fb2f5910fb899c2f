"""Sequence numbers around the circle (RFC 9293 section 3.4)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netstack.packet import seqnum

TOP = 0xFFFFFFFF
NUMBER = st.integers(0, TOP)
STEP = st.integers(-(1 << 31), (1 << 31) - 1)


@pytest.mark.parametrize(
    ("a", "b", "lt", "le"),
    [
        (1, 2, True, True),
        (2, 1, False, False),
        (7, 7, False, True),
        (TOP, 0, True, True),
        (0, TOP, False, False),
        (TOP - 9, 10, True, True),
    ],
    ids=["before", "after", "equal", "the last is before the first", "and not the other way", "across the end"],
)
def test_order(a: int, b: int, lt: bool, le: bool) -> None:
    assert (seqnum.lt(a, b), seqnum.le(a, b)) == (lt, le)


@pytest.mark.parametrize(
    ("number", "first", "size", "inside"),
    [(5, 5, 1, True), (6, 5, 1, False), (4, 5, 10, False), (5, 5, 0, False), (3, TOP, 5, True), (4, TOP, 5, False)],
    ids=["the first", "just past it", "just before it", "nothing is in an empty window", "across the end", "past that"],
)
def test_in_window(number: int, first: int, size: int, inside: bool) -> None:
    assert seqnum.in_window(number, first, size) is inside


@given(NUMBER, STEP)
def test_the_difference_of_what_was_added_is_what_was_added(a: int, step: int) -> None:
    b = seqnum.add(a, step)
    assert 0 <= b <= TOP
    assert seqnum.diff(b, a) == step


@given(NUMBER, STEP.filter(lambda step: abs(step) != 1 << 31))
def test_order_is_the_sign_of_the_difference(a: int, step: int) -> None:
    b = seqnum.add(a, step)
    assert seqnum.lt(a, b) is (step > 0)
    assert seqnum.le(a, b) is (step >= 0)


@given(NUMBER, st.integers(0, TOP), st.integers(0, TOP))
def test_a_window_holds_its_size_of_numbers_from_the_first(first: int, ahead: int, size: int) -> None:
    assert seqnum.in_window(seqnum.add(first, ahead), first, size) is (ahead < size)
