"""When which connection wants to be called: a heap whose entries may be late but never early. No I/O, no clock.

Moving a retransmission timer with every acknowledgement would cost a heap operation each; instead an entry that turns
out too early when it comes up is put back with its real time.
"""

import heapq
from typing import Any, Protocol


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
                continue  # an earlier entry took its place
            item.scheduled = None
            wanted = item.next_timeout()
            if wanted is None:
                continue
            if wanted > now:
                self.schedule(item)
            else:
                ready.append(item)
        return ready

    def next(self) -> float | None:
        """When to call due."""
        return self._heap[0][0] if self._heap else None
