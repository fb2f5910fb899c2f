"""The receiving half of a connection: what the client sent, in order, and how much more it may send (RFC 9293 3.8.6).

What is acknowledged is what the host socket took or what waits for it here; the window offered is the room left, and
its right edge never moves back. Octets that came before their turn wait in blocks within the window, and are reported
as SACK (RFC 2018) with the block that changed last in front; what came twice is reported once (D-SACK, RFC 2883).
"""

from typing import Final

from netstack.packet.seqnum import MASK, diff
from netstack.packet.tcp import DEFAULT_MSS_V4
from services.tcp_fwd.limits import Buffers

CAPACITY: Final = 2 << 20
"""Octets that may wait for the host socket, per flow: the largest window offered.

1 MiB cost a tenth of the upload rate on two cores and 4 MiB gained nothing (bench, one stream).
"""

WINDOW_SCALE: Final = 7
"""Offers in units of 128 octets; 65535 of them hold CAPACITY."""

MAX_BLOCKS: Final = 256
"""Holes that may be open at once. Who makes more, one octet at a time, must send the rest again."""

BLOCK_COST: Final = 256
"""Octets of memory, rounded up, that a block takes beside its data."""

DELAYED_ACK: Final = 0.005
"""Seconds for an acknowledgement to wait for data that carries it.

RFC 9293 section 3.8.6.3 allows 0.5 and Linux takes 0.04, but only after a number of quick ones: a client with Nagle's
algorithm waits for it between two small writes. A near server's reply comes within this time, a far one's never would.
"""
ACK_EVERY: Final = 2  # full segments; RFC 9293 section 3.8.6.3: at least every second one

assert CAPACITY >> WINDOW_SCALE <= 0xFFFF


class Block:
    """Octets that came before their turn, without a hole."""

    __slots__ = ("data", "seq")

    def __init__(self, seq: int, data: bytes | memoryview) -> None:
        self.seq = seq
        self.data = bytearray(data)

    @property
    def end(self) -> int:
        """The sequence number after the last octet."""
        return (self.seq + len(self.data)) & MASK


class Receiver:
    """RCV.NXT, RCV.WND and the octets out of order."""

    __slots__ = (
        "_buffers", "_recent", "ack_after", "ack_due_at", "ahead", "blocks", "capacity", "duplicate", "edge", "now_ack",
        "pending", "rcv_nxt", "refused", "scale", "ts_recent", "unacked",
    )  # fmt: skip

    def __init__(self, irs: int, *, scaled: bool, buffers: Buffers, capacity: int = CAPACITY) -> None:
        """buffers has the room that all flows share."""
        self._buffers = buffers
        self.rcv_nxt = (irs + 1) & MASK
        self.scale = WINDOW_SCALE if scaled else 0
        self.capacity = capacity if scaled else min(capacity, 0xFFFF)
        self.pending = 0
        """Octets given to the owner that the host socket has not taken yet."""
        self.edge = 0
        """How many octets beyond rcv_nxt the client knows it may send."""
        self.blocks: list[Block] = []
        """What came before its turn, in order, with a hole before each."""
        self._recent: list[Block] = []  # the same, the one that changed last in front
        self.ahead = 0
        """Octets that the blocks take."""
        self.refused = False
        """Something out of order was not kept, since there is no room; the owner sets it back."""
        self.duplicate: tuple[int, int] | None = None
        """What came again since the last acknowledgement."""
        self.ts_recent = 0  # TS.Recent of RFC 7323, which is echoed
        self.ack_after = ACK_EVERY * DEFAULT_MSS_V4
        """Octets after which an acknowledgement waits for nothing."""
        self.now_ack = False
        """An acknowledgement is to leave when the burst is over."""
        self.ack_due_at: float | None = None
        """When the acknowledgement that waits for data to carry it leaves alone."""
        self.unacked = 0
        """Octets received since the last acknowledgement left."""

    def window(self) -> int:
        """The window field to send now, scaled; remembers what was offered."""
        room = self.capacity - self.pending
        edge = self.edge
        if room < edge:
            room = edge
        offered = room >> self.scale
        # What scaling cuts off the offer was promised before: the client may be sending it.
        if offered << self.scale > edge:
            self.edge = offered << self.scale
        return offered

    @property
    def reopened(self) -> bool:
        """Whether the room has grown so much that the client should be told (RFC 9293 section 3.8.6.2.2)."""
        return self.capacity - self.pending - self.edge >= self.capacity >> 2

    def acceptable(self, seq: int, length: int) -> bool:
        """The test of RFC 9293 section 3.10.7.4: does any part of the segment lie in the window?"""
        first = diff(seq, self.rcv_nxt)
        edge = self.edge
        if length == 0:
            # At the right edge too, as Linux has it: a client that filled the window acknowledges from there.
            return 0 <= first <= edge
        return edge > 0 and first < edge and first + length > 0

    def old(self, seq: int, length: int) -> None:
        """Note a segment that came again as a whole."""
        if length and diff((seq + length) & MASK, self.rcv_nxt) <= 0:
            self.duplicate = (seq, (seq + length) & MASK)

    def receive(self, seq: int, data: bytes | memoryview, now: float) -> list[bytes | memoryview]:
        """Take the data of an acceptable segment; gives what is now in order, for the host socket.

        Where there was or is a hole, or nothing is new, the client hears of it at once (RFC 5681 section 4.2).
        """
        holes = bool(self.blocks)
        ready = self._sort(seq, data)
        for piece in ready:
            self.advance(len(piece), now)
        if holes or not ready:
            self.now_ack = True
        return ready

    def advance(self, octets: int, now: float) -> None:
        """Data came in its turn."""
        self.rcv_nxt = (self.rcv_nxt + octets) & MASK
        self.edge -= octets
        self.pending += octets
        self.unacked = unacked = self.unacked + octets
        if unacked >= self.ack_after:
            self.now_ack = True
        elif self.ack_due_at is None:
            self.ack_due_at = now + DELAYED_ACK

    def acknowledged(self) -> None:
        """An acknowledgement of everything leaves."""
        self.now_ack = False
        self.unacked = 0
        self.ack_due_at = None

    def _sort(self, seq: int, data: bytes | memoryview) -> list[bytes | memoryview]:
        first = diff(seq, self.rcv_nxt)
        if first < 0:
            self.duplicate = (seq, self.rcv_nxt)
            data = data[-first:]
            first = 0
        if first + len(data) > self.edge:
            data = data[: self.edge - first]
        if not data:
            return []
        if first > 0:
            self._keep((self.rcv_nxt + first) & MASK, data)
            return []
        ready: list[bytes | memoryview] = [data]
        nxt = (self.rcv_nxt + len(data)) & MASK
        while self.blocks and (ahead := diff(nxt, self.blocks[0].seq)) >= 0:
            block = self.blocks.pop(0)
            self._recent.remove(block)
            self._give(len(block.data) + BLOCK_COST)
            if ahead < len(block.data):
                ready.append(memoryview(block.data)[ahead:])
                nxt = block.end
        return ready

    def _keep(self, seq: int, data: bytes | memoryview) -> None:
        """A copy: the data may be a view of a batch, which it would keep alive."""
        blocks = self.blocks
        at = len(blocks)
        while at and diff(blocks[at - 1].seq, seq) > 0:
            at -= 1
        block = blocks[at - 1] if at else None
        if block is not None and (inside := diff(block.end, seq)) >= 0:
            if inside:
                self.duplicate = (seq, (seq + min(inside, len(data))) & MASK)
            if not self._take(len(data[inside:])):
                return
            block.data += data[inside:]
        elif len(blocks) < MAX_BLOCKS and self._take(len(data) + BLOCK_COST):
            block = Block(seq, data)
            blocks.insert(at, block)
            at += 1
        else:
            self.refused = True
            return
        while at < len(blocks) and (over := diff(block.end, blocks[at].seq)) >= 0:
            other = blocks.pop(at)
            self._recent.remove(other)
            block.data += memoryview(other.data)[over:]
            self._give(min(over, len(other.data)) + BLOCK_COST)
        if block in self._recent:
            self._recent.remove(block)
        self._recent.insert(0, block)

    def _take(self, octets: int) -> bool:
        if octets and not self._buffers.take_ahead(self.ahead, octets):
            self.refused = True
            return False
        self.ahead += octets
        return True

    def _give(self, octets: int) -> None:
        self._buffers.give_ahead(octets)
        self.ahead -= octets

    def forget(self) -> None:
        """The connection is over: what never came in its turn is not wanted any more."""
        self._give(self.ahead)
        self.blocks.clear()
        self._recent.clear()

    def sack(self, most: int) -> list[tuple[int, int]]:
        """The edges of at most so many blocks, a D-SACK first; it is reported once."""
        edges = [(block.seq, block.end) for block in self._recent[:most]]
        if self.duplicate is not None:
            edges.insert(0, self.duplicate)
            self.duplicate = None
        return edges[:most]

    def advance_over_fin(self) -> None:
        """The client's FIN occupies one sequence number."""
        self.rcv_nxt = (self.rcv_nxt + 1) & MASK
        self.edge = max(self.edge - 1, 0)
