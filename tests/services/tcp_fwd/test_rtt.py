"""The round-trip time and the timeout, with numbers worked out by hand from RFC 6298 section 2."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.tcp_fwd.rtt import INITIAL_RTO, MAX_RTO, MIN_PROBE, MIN_RTO, MIN_RTT_AGE, RoundTrip


def test_it_begins_with_a_second():
    assert RoundTrip().rto == INITIAL_RTO == 1.0


def test_the_first_measurement_gives_three_times_itself():
    one = RoundTrip()
    one.sample(0.5, 0.0)
    assert (one.srtt, one.rttvar, one.rto) == (0.5, 0.25, 1.5)


def test_the_second_moves_by_an_eighth_and_a_quarter():
    one = RoundTrip()
    one.sample(0.5, 0.0)
    one.sample(1.3, 1.0)
    assert one.rttvar == pytest.approx(0.25 * 0.75 + 0.8 / 4)
    assert one.srtt == pytest.approx(0.6)
    assert one.rto == pytest.approx(0.6 + 4 * 0.3875)


def test_it_doubles_and_a_measurement_ends_that():
    one = RoundTrip()
    one.sample(0.5, 0.0)
    for _ in range(10):
        one.back_off()
    assert one.rto == MAX_RTO
    one.sample(0.5, 1.0)
    assert one.rto < 1.5


def test_the_least_round_trip_is_forgotten_when_it_is_old():
    one = RoundTrip()
    for rtt, now in ((0.2, 0.0), (0.1, 1.0), (0.3, 2.0)):
        one.sample(rtt, now)
    assert one.min_rtt == 0.1
    one.sample(0.4, 2.0 + MIN_RTT_AGE)
    assert one.min_rtt == 0.4


@given(st.lists(st.floats(0, 100), min_size=1))
def test_whatever_is_measured_the_timeouts_stay_within_their_bounds(samples):
    one = RoundTrip()
    for now, rtt in enumerate(samples):
        one.sample(rtt, float(now))
        assert MIN_RTO <= one.rto <= MAX_RTO
        assert MIN_PROBE <= one.probe_after <= one.rto
        assert one.min_rtt <= max(samples)
