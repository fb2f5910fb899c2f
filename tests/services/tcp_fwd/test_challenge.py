"""Challenge ACKs: ten in five seconds (RFC 5961 section 7)."""

from hypothesis import given
from hypothesis import strategies as st

from services.tcp_fwd.challenge import AT_ONCE, PERIOD, Challenges


def test_so_many_and_no_more_until_the_period_is_over():
    one = Challenges()
    assert [one.allow(1.0) for _ in range(AT_ONCE + 3)] == [True] * AT_ONCE + [False] * 3
    assert not one.allow(1.0 + PERIOD - 0.01)
    assert one.allow(1.0 + PERIOD)


@given(st.lists(st.floats(0, 2), max_size=200))
def test_never_more_than_twice_as_many_in_any_five_seconds(gaps):
    one, now, allowed = Challenges(), 0.0, []
    for gap in gaps:
        now += gap
        if one.allow(now):
            allowed.append(now)
    for first in allowed:
        assert sum(first <= when < first + PERIOD for when in allowed) <= 2 * AT_ONCE
