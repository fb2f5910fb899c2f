"""The receiving half of a connection: what the client sent, in order, and how much more it may send (RFC 9293 3.8.6).

What is acknowledged is what the host socket took or what waits for it here; the window offered is the room left, and
its right edge never moves back. Octets that came before their turn wait in order within the window.
"""

from bisect import insort
from typing import Final

from netstack.packet.seqnum import MASK, diff

CAPACITY: Final = 2 << 20
"""Octets that may wait for the host socket, per flow: the largest window offered.

1 MiB cost a tenth of the upload rate on two cores and 4 MiB gained nothing (bench, one stream).
"""

WINDOW_SCALE: Final = 7
"""Offers in units of 128 octets; 65535 of them hold CAPACITY."""

assert CAPACITY >> WINDOW_SCALE <= 0xFFFF


class Receiver:
    """RCV.NXT, RCV.WND and the octets out of order."""

    __slots__ = ("_ahead", "_edge", "capacity", "pending", "rcv_nxt", "scale")

    def __init__(self, irs: int, *, scaled: bool, capacity: int = CAPACITY) -> None:
        self.rcv_nxt = (irs + 1) & MASK
        self.scale = WINDOW_SCALE if scaled else 0
        self.capacity = capacity if scaled else min(capacity, 0xFFFF)
        self.pending = 0
        """Octets given to the owner that the host socket has not taken yet."""
        self._edge = 0  # how far the offered window reaches beyond rcv_nxt
        self._ahead: list[tuple[int, memoryview]] = []  # (octets beyond rcv_nxt when sorted in, data)

    def window(self) -> int:
        """The window field to send now, scaled; remembers what was offered."""
        room = max(self.capacity - self.pending, 0)
        offered = max(room, self._edge) >> self.scale
        # What scaling cuts off the offer was promised before: the client may be sending it.
        self._edge = max(self._edge, offered << self.scale)
        return offered

    @property
    def offered(self) -> int:
        """How many octets beyond rcv_nxt the client knows it may send."""
        return self._edge

    @property
    def reopened(self) -> bool:
        """Whether the room has grown so much that the client should be told (RFC 9293 section 3.8.6.2.2)."""
        grown = self.capacity - self.pending - self._edge
        return grown >= self.capacity // 4

    def acceptable(self, seq: int, length: int) -> bool:
        """The test of RFC 9293 section 3.10.7.4: does any part of the segment lie in the window?"""
        first = diff(seq, self.rcv_nxt)
        edge = self._edge
        if length == 0:
            # At the right edge too, as Linux has it: a client that filled the window acknowledges from there.
            return 0 <= first <= edge
        return edge > 0 and first < edge and first + length > 0

    def receive(self, seq: int, data: memoryview) -> list[memoryview]:
        """Take the data of an acceptable segment; gives what is now in order, for the host socket."""
        first = diff(seq, self.rcv_nxt)
        if first < 0:
            data = data[-first:]
            first = 0
        if first + len(data) > self._edge:
            data = data[: self._edge - first]
        if not data:
            return []
        if first > 0:
            # A copy: the data may be a view of a batch, which it would keep alive.
            insort(self._ahead, (first, memoryview(bytes(data))), key=_position)
            return []
        ready = [data]
        self._advance(len(data))
        while self._ahead and self._ahead[0][0] <= 0:
            first, data = self._ahead.pop(0)
            if first + len(data) > 0:
                rest = data[-first:]
                ready.append(rest)
                self._advance(len(rest))
        return ready

    def _advance(self, octets: int) -> None:
        self.rcv_nxt = (self.rcv_nxt + octets) & MASK
        self._edge -= octets
        self.pending += octets
        if self._ahead:
            self._ahead = [(first - octets, data) for first, data in self._ahead]

    def advance_over_fin(self) -> None:
        """The client's FIN occupies one sequence number."""
        self.rcv_nxt = (self.rcv_nxt + 1) & MASK
        self._edge = max(self._edge - 1, 0)


def _position(entry: tuple[int, memoryview]) -> int:
    return entry[0]
