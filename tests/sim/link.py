"""A link with a virtual clock: what goes in comes out later, or not at all, or twice, or after its successors."""

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Quality:
    """How good a link is: shares from 0 to 1, delay one way in seconds."""

    delay: float = 0.001
    loss: float = 0.0
    reorder: float = 0.0
    """Of packets that are held up for as much as another half of the delay, so that others overtake them."""
    duplicate: float = 0.0
    burst: float = 0.0
    """The chance, at each packet, that a bad time begins in which half of them are lost (Gilbert and Elliott)."""
    burst_length: float = 8.0
    """Packets that a bad time lasts, on average."""
    bandwidth: float = 12.5e6
    """Octets a second; 12.5e6 are 100 Mbit/s."""
    queue: int = 512 << 10
    """Octets that may wait for the link; what comes then is lost."""


class Clock:
    """Events in the order of their time."""

    def __init__(self) -> None:
        self.now = 0.0
        self._events: list[tuple[float, int, Callable[..., None], Any]] = []
        self._count = 0

    def call_at(self, when: float, call: Callable[..., None], *args: Any) -> None:
        self._count += 1
        heapq.heappush(self._events, (max(when, self.now), self._count, call, args))

    def run(self, until: Callable[[], bool], limit: float) -> bool:
        """Run events until the condition holds; False where `limit` seconds or the events ended first."""
        events = self._events
        while not until():
            if not events or events[0][0] > limit:
                return False
            self.now, _, call, args = heapq.heappop(events)
            call(*args)
        return True


class Link:
    """One direction."""

    def __init__(self, clock: Clock, quality: Quality, seed: int, deliver: Callable[[Any], None]) -> None:
        self._clock = clock
        self._quality = quality
        self._random = random.Random(seed).random
        self._deliver = deliver
        self._free_at = 0.0
        self._bad = False
        self.lost = 0
        self.carried = 0

    def send(self, packet: Any, octets: int) -> None:
        """A packet of so many octets, headers included."""
        quality = self._quality
        now = self._clock.now
        start = max(self._free_at, now)
        if (start - now) * quality.bandwidth + octets > quality.queue or self._is_lost(quality):
            self.lost += 1
            return
        self.carried += 1
        self._free_at = start + octets / quality.bandwidth
        arrives = self._free_at + quality.delay
        if quality.reorder and self._random() < quality.reorder:
            arrives += self._random() * quality.delay
        self._clock.call_at(arrives, self._deliver, packet)
        if quality.duplicate and self._random() < quality.duplicate:
            self._clock.call_at(arrives + quality.delay / 4, self._deliver, packet)

    def _is_lost(self, quality: Quality) -> bool:
        if quality.burst:
            if self._bad:
                self._bad = self._random() >= 1 / quality.burst_length
            else:
                self._bad = self._random() < quality.burst
            if self._bad and self._random() < 0.5:
                return True
        return bool(quality.loss) and self._random() < quality.loss
