"""A selector for asyncio that calls readers itself.

asyncio makes a handle of each event, and calls it in another turn of its own: 10 to 20 us of interpreted Python a turn,
and several times that where 10 ms have gone by since the last one. Here a reader is called as soon as epoll has said
that its descriptor is ready, and then epoll is asked again; asyncio gets its turn when it has something to do.

What asyncio registers for itself, its transports and its own wake-up pipe, is in a selector of the standard library
inside, which is one descriptor of the epoll here. Alarms are likewise called here: asyncio's timers cost a turn of its
own each.
"""

import heapq
import select
import selectors
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from _typeshed import FileDescriptorLike

_BURST: Final = 64  # events a call of epoll
_NEVER: Final = float("inf")

Event = tuple[selectors.SelectorKey, int]


class DirectSelector:
    """Has what asyncio asks of a selectors.BaseSelector, and readers of its own.

    Not a subclass of that one, which could not be compiled.
    """

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._inside = selectors.EpollSelector()
        self._inside_fd = self._inside.fileno()
        self._epoll.register(self._inside_fd, select.EPOLLIN)
        self._readers: dict[int, Callable[[], object]] = {}
        self._watched: dict[int, Callable[[int], object]] = {}
        self._before: Callable[[], object] | None = None
        self._after: Callable[[], object] | None = None
        self._removed: set[int] = set()
        self._alarms: list[tuple[float, int, Callable[[], object]]] = []  # a heap
        self._alarms_set = 0
        self.stirred = False
        """To be set when something was scheduled, so that asyncio gets its turn before more is waited for."""
        self.on_exception: Callable[[int, Exception], None] | None = None
        """Gets what a reader raised, with its descriptor, or an alarm, with -1; without it `select` raises it."""

    def add_reader(self, descriptor: int, call: Callable[[], object]) -> None:
        """Call this whenever the descriptor is readable, or at its end, in place of what was called before."""
        if descriptor not in self._readers:
            self._epoll.register(descriptor, select.EPOLLIN)
        self._readers[descriptor] = call

    def remove_reader(self, descriptor: int) -> bool:
        """Call it no more; whether there was a reader. To be called before the descriptor is closed."""
        if self._readers.pop(descriptor, None) is None:
            return False
        self._removed.add(descriptor)
        self._epoll.unregister(descriptor)
        return True

    def watch(self, descriptor: int, events: int, call: Callable[[int], object]) -> None:
        """Call this with the events (epoll_ctl(2)) of a descriptor; they are best edge-triggered."""
        self._epoll.register(descriptor, events)
        self._watched[descriptor] = call

    def unwatch(self, descriptor: int) -> None:
        """The descriptor is about to be closed, and a new one may get its number at once.

        The kernel takes out of an epoll what is closed.
        """
        if self._watched.pop(descriptor, None) is not None:
            self._removed.add(descriptor)

    def alarm(self, when: float, call: Callable[[], object]) -> None:
        """Call this once, at that time of time.monotonic() or up to a millisecond later."""
        self._alarms_set += 1
        heapq.heappush(self._alarms, (when, self._alarms_set, call))

    def frame(self, before: Callable[[], object], after: Callable[[], object]) -> None:
        """Call these around what is called for watched descriptors in one go."""
        self._before = before
        self._after = after

    def select(self, timeout: float | None = None) -> list[Event]:
        """Call readers until asyncio has something to do or timeout seconds have gone by; what became ready for it."""
        now = time.monotonic()
        ends = _NEVER if timeout is None else now + timeout
        self.stirred = False
        while True:
            until = min(ends, self._alarms[0][0]) if self._alarms else ends
            ready = self._epoll.poll(-1.0 if until == _NEVER else max(until - now, 0.0), _BURST)
            has_inside = self._call(ready)
            now = time.monotonic()
            if self._alarms and self._alarms[0][0] <= now:
                self._ring(now)
            if has_inside:
                return self._inside.select(0)
            if self.stirred or now >= ends:
                return []

    def _ring(self, now: float) -> None:
        alarms = self._alarms
        while alarms and alarms[0][0] <= now:
            _, _, call = heapq.heappop(alarms)
            try:
                call()
            except Exception as error:
                if self.on_exception is None:
                    raise
                self.on_exception(-1, error)

    def _call(self, ready: list[tuple[int, int]]) -> bool:
        """Call those whose descriptors are ready; whether something inside is."""
        if self._removed:
            self._removed.clear()
        has_inside = has_begun = False
        for descriptor, events in ready:
            # What was removed meanwhile may be another's by now, which has had no event yet.
            if self._removed and descriptor in self._removed:
                continue
            try:
                watching = self._watched.get(descriptor)
                if watching is not None:
                    if not has_begun:
                        has_begun = True
                        if self._before is not None:
                            self._before()
                    watching(events)
                    continue
                reader = self._readers.get(descriptor)
                if reader is not None:
                    reader()
                elif descriptor == self._inside_fd:
                    has_inside = True
            except Exception as error:
                if self.on_exception is None:
                    raise
                self.on_exception(descriptor, error)
        if has_begun and self._after is not None:
            self._after()
        return has_inside

    def register(self, fileobj: "FileDescriptorLike", events: int, data: object = None) -> selectors.SelectorKey:
        """As selectors.BaseSelector; so are the others."""
        return self._inside.register(fileobj, events, data)

    def unregister(self, fileobj: "FileDescriptorLike") -> selectors.SelectorKey:
        """As there."""
        return self._inside.unregister(fileobj)

    def modify(self, fileobj: "FileDescriptorLike", events: int, data: object = None) -> selectors.SelectorKey:
        """As there."""
        return self._inside.modify(fileobj, events, data)

    def get_key(self, fileobj: "FileDescriptorLike") -> selectors.SelectorKey:
        """As there."""
        return self._inside.get_key(fileobj)

    def get_map(self) -> Mapping["FileDescriptorLike", selectors.SelectorKey]:
        """As there."""
        return self._inside.get_map()

    def close(self) -> None:
        """As there."""
        self._readers.clear()
        self._watched.clear()
        self._alarms.clear()
        self._epoll.close()
        self._inside.close()
