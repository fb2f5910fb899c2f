"""When which connection wants to be called: a heap whose entries may be late but never early. No I/O, no clock.

Moving a retransmission timer with every acknowledgement would cost a heap operation each; instead an entry that turns
out too early when it comes up is put back with its real time.
"""

import heapq
from typing import Any, Final, Protocol

MAX_STALE: Final = 256
"""Entries of what is over that the heap may hold in any case; beyond it they are at most half of all."""


class Timed(Protocol):
    """What can be scheduled."""

    scheduled: float | None
    """The earliest time for which it stands in the heap; kept by Timers."""

    def next_timeout(self) -> float | None:
        """When it really wants to be called."""


class Timers:
    """The heap."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Any]] = []
        self._count = 0
        self._stale = 0

    def schedule(self, item: Timed) -> bool:
        """Take note of item's next timeout; True where it is now the earliest of all."""
        when = item.next_timeout()
        if when is None or (item.scheduled is not None and item.scheduled <= when):
            return False
        item.scheduled = when
        self._count += 1
        heapq.heappush(self._heap, (when, self._count, item))
        return self._heap[0][2] is item

    def due(self, now: float) -> list[Any]:
        """Take out the items whose time has come."""
        ready: list[Any] = []
        while self._heap and self._heap[0][0] <= now:
            when, _, item = heapq.heappop(self._heap)
            if item.scheduled != when:
                self._stale = max(self._stale - 1, 0)
                continue  # an earlier entry took its place, or it was forgotten
            item.scheduled = None
            wanted = item.next_timeout()
            if wanted is None:
                continue
            if wanted > now:
                self.schedule(item)
            else:
                ready.append(item)
        return ready

    def forget(self, item: Timed) -> None:
        """The item is over: it is not to be called, nor kept alive by its entry for long."""
        if item.scheduled is None:
            return
        item.scheduled = None
        self._stale += 1
        if self._stale > MAX_STALE and 2 * self._stale > len(self._heap):
            self._heap = [entry for entry in self._heap if entry[2].scheduled == entry[0]]
            heapq.heapify(self._heap)
            self._stale = 0

    def next(self) -> float | None:
        """When to call due."""
        return self._heap[0][0] if self._heap else None
