"""When slow start is to end before a loss: HyStart (Ha and Rhee, Taming the elephants, 2011). No I/O, no clock.

A window that doubles until the queue of the path overflows loses as much as had been sent. The acknowledgements of one
round come as fast as the path carries data: when they have come closely for half a round trip, the window, which they
have let grow meanwhile, holds what the path does without a queue, and up to half as much again.

Of that paper this is the train of acknowledgements, as in Linux. A round trip that grows (RFC 9406) tells of a queue
only when it is there: with one as long as the path itself (bench.lossy) that was too late.
"""

from typing import Final

from netstack.packet.seqnum import MASK

LEAST: Final = 0.004
"""Seconds; on a path with a shorter round trip acknowledgements come when the loop's turn does, and say nothing."""
GAP: Final = 8  # one part in so many of the round trip may lie between two acknowledgements of a train

_HALF: Final = 1 << 31


class HyStart:
    """The train of the round that is going on."""

    __slots__ = ("_began", "_end", "_last")

    def __init__(self, iss: int) -> None:
        self._end = iss  # an acknowledgement of this begins the next round
        self._began = 0.0
        self._last = 0.0

    def over(self, ack: int, snd_nxt: int, now: float, min_rtt: float) -> bool:
        """Whether slow start is, as an acknowledgement that came while the window was in use shows."""
        if (ack - self._end) & MASK < _HALF:
            self._end = snd_nxt
            self._began = self._last = now
            return False
        if now - self._last > min_rtt / GAP:
            return False  # nor will it be in this round
        self._last = now
        return now - self._began > min_rtt / 2 and min_rtt >= LEAST
