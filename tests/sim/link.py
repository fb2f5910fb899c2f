"""A link with a virtual clock: what goes in comes out later, or not at all, or twice, or after its successor."""

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Quality:
    """How bad a link is: shares from 0 to 1, delay one way in seconds."""

    delay: float = 0.001
    loss: float = 0.0
    reorder: float = 0.0
    duplicate: float = 0.0


class Clock:
    """Events in the order of their time."""

    def __init__(self) -> None:
        self.now = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0

    def call_at(self, when: float, call: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._events, (max(when, self.now), self._count, call))

    def run(self, until: Callable[[], bool], limit: float) -> bool:
        """Run events until the condition holds; False where `limit` seconds or the events ended first."""
        while not until():
            if not self._events or self._events[0][0] > limit:
                return False
            self.now, _, call = heapq.heappop(self._events)
            call()
        return True


class Link:
    """One direction."""

    def __init__(self, clock: Clock, quality: Quality, seed: int, deliver: Callable[[bytes], None]) -> None:
        self._clock = clock
        self._quality = quality
        self._random = random.Random(seed)
        self._deliver = deliver

    def send(self, packet: bytes) -> None:
        quality = self._quality
        if self._random.random() < quality.loss:
            return
        copies = 2 if self._random.random() < quality.duplicate else 1
        for _ in range(copies):
            late = 3 * quality.delay if self._random.random() < quality.reorder else 0.0
            self._clock.call_at(self._clock.now + quality.delay + late, lambda: self._deliver(packet))
