"""The clock of another host, from nothing but its messages."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netstack.runtime.farclock import WINDOW, FarClock


@pytest.mark.parametrize(
    ("messages", "waits"),
    [
        pytest.param([(100.0, 5.0)], [0.0], id="of the first one nothing is known"),
        pytest.param([(100.0, 5.0), (101.0, 6.5)], [0.0, 0.5], id="one that took longer"),
        pytest.param([(100.0, 5.0), (101.0, 5.75), (102.0, 7.0)], [0.0, 0.0, 0.25], id="a quicker one is the measure"),
        pytest.param([(5.0, 100.0), (6.0, 101.5)], [0.0, 0.5], id="their clock is behind ours"),
    ],
)
def test_a_wait_is_what_a_message_took_beyond_the_quickest(messages, waits) -> None:
    clock = FarClock()
    assert [clock.heard(sent_at, now) for sent_at, now in messages] == pytest.approx(waits)


def test_while_nothing_was_heard_a_time_stays_as_it_is() -> None:
    assert FarClock().theirs(7.0) == 7.0


def test_a_drift_is_followed() -> None:
    clock = FarClock()
    clock.heard(0.0, 100.0)
    clock.heard(WINDOW, 101.0 + WINDOW)
    assert clock.theirs(101.0 + WINDOW) == 1.0 + WINDOW, "the least of the window before still counts"
    clock.heard(2 * WINDOW, 102.0 + 2 * WINDOW)
    clock.heard(3 * WINDOW, 103.0 + 3 * WINDOW)
    assert clock.theirs(103.0 + 3 * WINDOW) == pytest.approx(1.0 + 3 * WINDOW), "an older one no longer"


@given(
    offset=st.floats(-1e6, 1e6),
    delays=st.lists(st.floats(0.0001, 5.0), min_size=1, max_size=20),
)
def test_cause_and_effect_keep_their_order(offset: float, delays: list[float]) -> None:
    clock = FarClock()
    true = 1000.0
    for delay in delays:
        true += 1.0
        wait = clock.heard(true, true + delay + offset)
        received = clock.theirs(true + delay + offset)
        assert wait >= 0
        assert true - 1e-6 <= received <= true + delay + 1e-6, "after it was sent, and not later than it came"
