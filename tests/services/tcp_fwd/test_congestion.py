"""CUBIC, against numbers worked out from RFC 9438, and what holds whatever happens."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.tcp_fwd.congestion import BETA, C, Cubic, initial_window

MSS = 1000
RTT = 0.1


def full(cubic: Cubic, now: float, seconds: float) -> float:
    """The window is in use all the time, and everything arrives; gives the time after it."""
    end = now + seconds
    while now < end:
        cubic.acknowledged(cubic.cwnd, now, RTT)
        now += RTT
    return now


@pytest.mark.parametrize(
    ("mss", "octets"), [(1460, 14600), (1000, 10000), (536, 5360), (9000, 18000), (1, 10)],
    ids=["ten segments", "of any size", "or smaller", "large ones: two", "tiny ones"],
)  # fmt: skip
def test_the_initial_window_is_that_of_rfc_6928(mss, octets):
    assert initial_window(mss) == octets


def test_slow_start_doubles_each_round_trip():
    cubic = Cubic(MSS)
    for _ in range(5):
        cubic.acknowledged(cubic.cwnd, 0.0, RTT)
    assert cubic.cwnd == 32 * initial_window(MSS)


def test_one_acknowledgement_of_a_train_counts_as_much_as_one_for_each_segment():
    one, many = Cubic(MSS), Cubic(MSS)
    one.acknowledged(40 * MSS, 0.0, RTT)
    for _ in range(40):
        many.acknowledged(MSS, 0.0, RTT)
    assert one.cwnd == many.cwnd


def test_a_loss_takes_three_tenths():
    cubic = Cubic(MSS)
    cubic.cwnd = 100 * MSS
    cubic.lost(100 * MSS)
    assert cubic.cwnd == cubic.ssthresh == 70 * MSS


def test_a_loss_in_a_flight_that_did_not_use_the_window_goes_by_the_flight():
    cubic = Cubic(MSS)
    cubic.cwnd = 100 * MSS
    cubic.lost(20 * MSS)
    assert cubic.cwnd == 14 * MSS


def test_the_window_of_the_loss_is_reached_again_after_k_seconds():
    cubic = Cubic(MSS)
    cubic.cwnd = 1000 * MSS
    cubic.lost(1000 * MSS)
    k = (1000 * (1 - BETA) / C) ** (1 / 3)  # RFC 9438 figure 2: 9.09 s
    now = full(cubic, 0.0, k * 0.5)
    assert 0.9 * 1000 * MSS < cubic.cwnd < 1000 * MSS
    now = full(cubic, now, k * 0.5)
    assert cubic.cwnd == pytest.approx(1000 * MSS, rel=0.02)
    full(cubic, now, k)
    assert cubic.cwnd > 1200 * MSS


def test_a_small_window_grows_as_renos_would():
    cubic = Cubic(MSS)
    cubic.cwnd = 10 * MSS
    cubic.lost(10 * MSS)
    now = full(cubic, 0.0, 4 * RTT)
    # RFC 9438 section 4.3: 0.53 segments a round trip, and one once the window of before is reached.
    assert cubic.cwnd == pytest.approx((7 + 4 * 0.53) * MSS, rel=0.06)
    full(cubic, now, 2 * RTT)
    before = cubic.cwnd
    full(cubic, now + 2 * RTT, 4 * RTT)
    assert cubic.cwnd == pytest.approx(before + 4 * MSS, rel=0.06)


def test_a_second_loss_below_the_first_leaves_room_for_others():
    cubic = Cubic(MSS)
    cubic.cwnd = 1000 * MSS
    cubic.lost(1000 * MSS)
    cubic.lost(700 * MSS)
    full(cubic, 0.0, ((595 - 490) / C) ** (1 / 3))
    assert cubic.cwnd == pytest.approx(595 * MSS, rel=0.02)  # 700 * (1 + 0.7) / 2


def test_a_timeout_starts_slowly_up_to_the_threshold():
    cubic = Cubic(MSS)
    cubic.cwnd = 100 * MSS
    cubic.timed_out(100 * MSS)
    assert (cubic.cwnd, cubic.ssthresh) == (MSS, 70 * MSS)
    cubic.collapse()
    assert (cubic.cwnd, cubic.ssthresh) == (MSS, 70 * MSS)


def test_what_was_no_loss_is_undone_once():
    cubic = Cubic(MSS)
    cubic.cwnd = 100 * MSS
    before = cubic.ssthresh
    cubic.lost(100 * MSS)
    cubic.undo()
    assert (cubic.cwnd, cubic.ssthresh) == (100 * MSS, before)
    cubic.cwnd = 50 * MSS
    cubic.undo()
    assert cubic.cwnd == 50 * MSS


def test_an_idle_window_halves_for_each_timeout_of_it():
    cubic = Cubic(MSS)
    cubic.cwnd = 160 * MSS
    cubic.rested(0.25, 0.2)
    assert cubic.cwnd == 80 * MSS
    cubic.rested(100.0, 0.2)
    assert cubic.cwnd == initial_window(MSS)
    assert cubic.ssthresh >= 60 * MSS


def test_idle_time_does_not_count_for_the_growth():
    idle, busy = Cubic(MSS), Cubic(MSS)
    for cubic in (idle, busy):
        cubic.cwnd = 1000 * MSS
        cubic.lost(1000 * MSS)
        full(cubic, 0.0, 1.0)
    idle.rested(0.1, 0.2)
    full(busy, 1.0, 1.0)
    full(idle, 1.1, 1.0)
    assert idle.cwnd == pytest.approx(busy.cwnd, rel=0.01)


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["acknowledged", "lost", "timed_out", "collapse", "undo", "rested"]),
        st.integers(1, 1 << 20), st.floats(0, 10),
    ), max_size=60,
)  # fmt: skip


@given(EVENTS)
def test_the_window_is_never_less_than_a_segment_nor_more_than_one_and_a_half_times_what_it_was(events):
    cubic = Cubic(MSS)
    now, most = 0.0, cubic.cwnd
    for name, octets, seconds in events:
        now += seconds
        before = cubic.cwnd
        match name:
            case "acknowledged":
                cubic.acknowledged(min(octets, cubic.cwnd), now, RTT)
                assert before <= cubic.cwnd <= 2 * before
            case "lost" | "timed_out":
                getattr(cubic, name)(min(octets, cubic.cwnd))
                assert cubic.cwnd <= max(before, 2 * MSS)
            case "rested":
                cubic.rested(seconds, 0.2)
                assert cubic.cwnd <= before
            case _:
                getattr(cubic, name)()
        most = max(most, cubic.cwnd)
        assert MSS <= cubic.cwnd <= most
        assert cubic.ssthresh >= 2 * MSS
