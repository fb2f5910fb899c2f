"""What a bad link does to packets, one direction of it: which are lost, and when the others come out. No I/O, no clock.

A packet waits in a queue of bounded size for its turn at the bandwidth, may then be lost on the way (it has used its
share of the bandwidth all the same, as on a radio link), and comes out after the delay; some come out twice, some late.
"""

import heapq
import random
from dataclasses import asdict, dataclass
from typing import Any, Final, Self

_OCTET: Final = 8  # bits


@dataclass(frozen=True)
class Quality:
    """How bad a link is, one direction of it. Shares are from 0 to 1, times in seconds."""

    delay: float = 0.0
    """One way; two equal directions make a round trip of twice that."""
    loss: float = 0.0
    """Share of the packets that are lost."""
    burst: float = 1.0
    """Mean number of packets lost in a row: 1 loses each by itself, more is the model of Gilbert (1960)."""
    reorder: float = 0.0
    """Share of the packets that are overtaken by others."""
    reorder_by: float = 0.01
    """How much later those come out."""
    duplicate: float = 0.0
    """Share of the packets that come out twice."""
    bandwidth: float = 0.0
    """Bits a second of IP; 0 is no limit."""
    queue: int = 1 << 20
    """Octets that may wait for their turn at the bandwidth; what comes on top is dropped."""

    def __post_init__(self) -> None:
        shares = (self.loss, self.reorder, self.duplicate)
        if not all(0 <= share < 1 for share in shares) or self.burst < 1 or min(self.delay, self.bandwidth) < 0:
            raise ValueError(f"no link is like that: {self}")

    def as_dict(self) -> dict[str, Any]:
        """For another process."""
        return asdict(self)


@dataclass
class Tally:
    """What became of the packets."""

    received: int = 0
    delivered: int = 0
    """With duplicates."""
    lost: int = 0
    overflowed: int = 0
    """The queue was full."""
    reordered: int = 0
    duplicated: int = 0

    def __add__(self, other: Self) -> "Tally":
        mine, others = asdict(self), asdict(other)
        return Tally(**{name: mine[name] + others[name] for name in mine})


class Direction:
    """One direction of a link."""

    def __init__(self, quality: Quality, seed: int) -> None:
        self._quality = quality
        # Each has numbers of its own: the packets that one seed loses stay the same when others are reordered.
        self._loses, self._reorders, self._duplicates = (random.Random(f"{seed} {what}") for what in "lrd")
        self._losing = False
        self._free_at = 0.0  # when the last packet of the queue has been sent
        self._in_flight: list[tuple[float, int, bytes]] = []
        self._count = 0
        self.tally = Tally()

    def receive(self, packet: bytes, now: float) -> None:
        """A packet goes in."""
        quality, tally = self._quality, self.tally
        tally.received += 1
        sent_at = now
        if quality.bandwidth:
            waits = max(self._free_at - now, 0.0)
            if waits * quality.bandwidth / _OCTET + len(packet) > quality.queue:
                tally.overflowed += 1
                return
            sent_at = self._free_at = now + waits + len(packet) * _OCTET / quality.bandwidth
        if quality.loss and self._is_lost():
            tally.lost += 1
            return
        if quality.reorder and self._reorders.random() < quality.reorder:
            tally.reordered += 1
            sent_at += quality.reorder_by
        self._deliver(packet, sent_at + quality.delay)
        if quality.duplicate and self._duplicates.random() < quality.duplicate:
            tally.duplicated += 1
            self._deliver(packet, sent_at + quality.delay)

    def next_timeout(self) -> float | None:
        """When the next packet comes out."""
        return self._in_flight[0][0] if self._in_flight else None

    def due(self, now: float) -> list[bytes]:
        """What has come out by now, in order."""
        packets = []
        in_flight = self._in_flight
        while in_flight and in_flight[0][0] <= now:
            packets.append(heapq.heappop(in_flight)[2])
        self.tally.delivered += len(packets)
        return packets

    def _deliver(self, packet: bytes, when: float) -> None:
        self._count += 1
        heapq.heappush(self._in_flight, (when, self._count, packet))

    def _is_lost(self) -> bool:
        # Two states: in the one everything is lost, in the other nothing. Their mean stays make share and run length.
        quality = self._quality
        if quality.burst == 1:
            return self._loses.random() < quality.loss
        leaves = 1 / quality.burst if self._losing else quality.loss / (1 - quality.loss) / quality.burst
        if self._loses.random() < leaves:
            self._losing = not self._losing
        return self._losing
