"""A sender whose segments are numbered, for its tests."""

import pytest

from netstack.packet.seqnum import MASK
from services.tcp_fwd.sending import Sender
from tests.services.tcp_fwd.builders import segment, syn

ISS = 0xFFFFFF00  # close to the end of the circle, so that every test crosses it
MSS = 1000
RTT = 0.1


class Flight:
    """An established sender whose segments are numbered from 0, of MSS octets each."""

    def __init__(self, *, window: int = 1 << 20, sack: bool = True, limit: int = 4 << 20, stamps: bool = False) -> None:
        self.now = 0.0
        self.sender = Sender(syn(window=0xFFFF), ISS, scale=5, mss=MSS, sack=sack, limit=limit)
        if stamps:
            self.sender.use_timestamps(7)
        self.sender.take(b"", 1, -RTT)
        self.sender.receive_ack(self.segment(0, window), (), 0.0)
        self.sender.open(window >> 5)
        self.window = window
        self.sent = 0

    def segment(self, octets: int, window: int, tsecr: int = -1, data: bytes = b""):
        one = segment(seq=2000, ack=ISS + 1 + octets, window=window >> 5, data=data)
        return one.stamped(-1, tsecr)

    def send(self, segments: int, *, train: int = 1) -> "Flight":
        for _ in range(0, segments, train):
            data = b"".join(bytes([(self.sent + n) % 256]) * MSS for n in range(train))
            self.sender.take(data, len(data), self.now)
            self.sent += train
        return self

    def ack(self, segments: float, *blocks: tuple[int, int], tsecr: int = -1, window: int | None = None) -> "Flight":
        """Acknowledge so many segments, and these ranges of them as SACK."""
        edges = tuple(((ISS + 1 + left * MSS) & MASK, (ISS + 1 + right * MSS) & MASK) for left, right in blocks)
        one = self.segment(int(segments * MSS), self.window if window is None else window, tsecr)
        self.sender.receive_ack(one, edges, self.now)
        return self

    def again(self) -> list[tuple[int, int]]:
        """What is sent again now: the first segment, and how many octets; the octets are compared."""
        out = []
        while (run := self.sender.resend(self.now, 60 * MSS)) is not None:
            first = ((run.seq - ISS - 1) & MASK) // MSS
            octets = bytes(run.octets)
            assert octets[:1] == bytes([first % 256])
            assert octets[-1:] == bytes([(first + (len(octets) - 1) // MSS) % 256])
            out.append((first, len(octets)))
        return out

    def at(self, now: float) -> "Flight":
        self.now = now
        return self

    def expire(self) -> "Flight":
        assert self.sender.timer is not None
        self.now = self.sender.timer
        self.sender.handle_timeout(self.now)
        return self

    def time_out(self) -> "Flight":
        """Let the retransmission timer run out, after the probe of the tail if there is one."""
        before = self.sender.retransmissions
        while self.sender.retransmissions == before:
            self.expire()
        return self


def measured(**changes) -> Flight:
    """One segment was sent and acknowledged: the round trip is known to be RTT."""
    flight = Flight(**changes).send(1).at(RTT).ack(1)
    assert flight.sender.round_trip.srtt == pytest.approx(RTT, rel=0.01)
    return flight
