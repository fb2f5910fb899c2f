"""When which connection wants to be called: a heap whose entries may be late but never early. No I/O, no clock.

Moving a retransmission timer with every acknowledgement would cost a heap operation each; instead an entry that turns
out too early when it comes up is put back with its real time. An entry whose place another has taken, or whose item
is over, lets go of the item at once, and of its own place when its time comes or such entries become the most.
"""

import heapq
from typing import Any, Final, Protocol

MAX_STALE: Final = 256
"""Entries of nothing that the heap may hold in any case; beyond it they are at most half of all."""


class Timed(Protocol):
    """What can be scheduled."""

    entry: list[Any] | None
    """Its place in the heap: the time, a number, and itself; kept by Timers."""

    def next_timeout(self) -> float | None:
        """When it really wants to be called."""


class Timers:
    """The heap."""

    def __init__(self) -> None:
        self._heap: list[list[Any]] = []
        self._count = 0
        self._stale = 0

    def schedule(self, item: Timed) -> bool:
        """Take note of item's next timeout; True where it is now the earliest of all."""
        when = item.next_timeout()
        if when is None or (item.entry is not None and item.entry[0] <= when):
            return False
        self._release(item)
        self._count += 1
        item.entry = [when, self._count, item]
        heapq.heappush(self._heap, item.entry)
        return self._heap[0] is item.entry

    def due(self, now: float) -> list[Any]:
        """Take out the items whose time has come."""
        ready: list[Any] = []
        while self._heap and self._heap[0][0] <= now:
            item = heapq.heappop(self._heap)[2]
            if item is None:
                self._stale -= 1
                continue
            item.entry = None
            wanted = item.next_timeout()
            if wanted is None:
                continue
            if wanted > now:
                self.schedule(item)
            else:
                ready.append(item)
        return ready

    def forget(self, item: Timed) -> None:
        """The item is over: it is not to be called, nor kept alive."""
        self._release(item)

    def next(self) -> float | None:
        """When to call due."""
        return self._heap[0][0] if self._heap else None

    def _release(self, item: Timed) -> None:
        if item.entry is None:
            return
        item.entry[2] = None
        item.entry = None
        self._stale += 1
        if self._stale > MAX_STALE and 2 * self._stale > len(self._heap):
            self._heap = [entry for entry in self._heap if entry[2] is not None]
            heapq.heapify(self._heap)
            self._stale = 0
