"""The train of acknowledgements: what ends slow start, and what does not."""

import pytest

from netstack.packet.seqnum import MASK
from services.tcp_fwd.hystart import LEAST, HyStart

ISS = 0xFFFFFF00  # close to the end of the circle
RTT = 0.04
WINDOW = 100_000  # octets in flight when the round begins


def ends_after(gaps: list[float], *, rtt: float = RTT) -> float | None:
    """Seconds of a round after which slow start is over, where acknowledgements of 1,000 octets come in these gaps."""
    hystart = HyStart(ISS)
    ack, now = ISS, 10.0
    assert not hystart.over(ack, (ISS + WINDOW) & MASK, now, rtt)
    for gap in gaps:
        ack, now = (ack + 1000) & MASK, now + gap
        if hystart.over(ack, (ack + WINDOW) & MASK, now, rtt):
            return now - 10.0
    return None


def test_acknowledgements_that_come_closely_for_half_a_round_trip_end_it():
    assert ends_after([0.001] * 60) == pytest.approx(0.021)


def test_a_short_train_does_not():
    assert ends_after([0.0001] * 90) is None


@pytest.mark.parametrize("at", [0, 5, 15])
def test_nor_does_one_with_a_pause_in_it(at):
    gaps = [0.001] * 60
    gaps[at] = RTT / 4
    assert ends_after(gaps) is None


def test_the_next_round_begins_another_train():
    gaps = [0.001] * 220
    gaps[5] = RTT  # the first round, of a hundred acknowledgements, is spoilt
    assert ends_after(gaps) == pytest.approx(0.099 + RTT + 0.021)


def test_a_path_as_short_as_the_turns_of_the_loop_tells_nothing():
    rtt = LEAST * 0.9
    assert ends_after([rtt / 10] * 60, rtt=rtt) is None
