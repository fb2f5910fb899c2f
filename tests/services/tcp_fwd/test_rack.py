"""RACK: lost is what was sent well before something that has arrived (RFC 8985 section 6)."""

import pytest

from services.tcp_fwd.rack import Rack
from services.tcp_fwd.rtt import RoundTrip
from services.tcp_fwd.scoreboard import IN_FLIGHT, LOST, RESENT, Run, Scoreboard

RTT = 0.1


def board(*times: float) -> Scoreboard:
    """Runs of ten octets, sent at these times."""
    one = Scoreboard()
    for number, when in enumerate(times):
        one.runs.append(Run(10 * number, 10 * number + 10, when, IN_FLIGHT, bytes(10), 10 * number))
    return one


def measured() -> RoundTrip:
    one = RoundTrip()
    one.sample(RTT, 0.0)
    return one


def deliver(rack: Rack, one: Scoreboard, index: int, now: float) -> None:
    run = one.runs[index]
    rack.delivered(run, now, RTT)
    one.sack(run.seq, run.end)


def lost(one: Scoreboard) -> list[int]:
    return [run.seq // 10 for run in one.runs if run.state & LOST]


def test_what_was_sent_before_and_should_have_come_is_lost():
    rack, one = Rack(0), board(0.0, 0.0, 0.0, 0.05)
    deliver(rack, one, 2, 0.1)
    assert rack.detect(one, 0.1, 0.0) == 0.0
    assert lost(one) == [0, 1]


def test_with_a_window_for_reordering_it_is_waited_for():
    rack, one = Rack(0), board(0.0, 0.0, 0.0)
    deliver(rack, one, 2, 0.1)
    assert rack.detect(one, 0.1, 0.025) == pytest.approx(0.025)
    assert lost(one) == []
    assert rack.detect(one, 0.125, 0.025) == 0.0
    assert lost(one) == [0, 1]


def test_what_was_sent_again_later_is_not_lost_by_what_was_sent_before_that():
    rack, one = Rack(0), board(0.0, 0.0, 0.0)
    one.lose(0)
    one.resend(0, 10, 0.12)
    deliver(rack, one, 2, 0.13)
    rack.detect(one, 0.13, 0.0)
    assert lost(one) == [1]


def test_an_acknowledgement_too_early_for_a_retransmission_says_nothing():
    rack, one = Rack(0), board(0.0, 0.0)
    one.lose(1)
    one.resend(1, 10, 0.12)
    deliver(rack, one, 1, 0.13)
    assert one.runs[1].state & RESENT
    assert rack.detect(one, 0.13, 0.0) == 0.0
    assert lost(one) == []


def test_reordering_is_seen_where_something_old_arrives_that_was_not_sent_again():
    rack, one = Rack(0), board(0.0, 0.0)
    deliver(rack, one, 1, 0.1)
    assert not rack.reordering_seen
    deliver(rack, one, 0, 0.11)
    assert rack.reordering_seen


def test_the_window_is_a_quarter_of_the_least_round_trip_and_grows_when_it_was_too_small():
    rack, trip = Rack(0), measured()
    assert rack.window(trip, hurry=True) == 0.0
    assert rack.window(trip, hurry=False) == pytest.approx(RTT / 4)
    rack.spurious()
    assert rack.window(trip, hurry=True) == pytest.approx(RTT / 2)
    for _ in range(20):
        rack.spurious()
    assert rack.window(trip, hurry=True) == pytest.approx(trip.srtt)
    for _ in range(16):
        rack.recovered()
    assert rack.window(trip, hurry=True) == pytest.approx(RTT / 4)
