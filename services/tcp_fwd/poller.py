"""Readiness of the host sockets: an epoll of our own behind one descriptor of the loop.

Each socket is registered once, edge-triggered, for both directions, and never modified. The loop's own add_reader and
add_writer cost several microseconds each, several times per connection, and a callback of the loop three per event.
"""

import asyncio
import select
from collections.abc import Callable
from typing import Final

READABLE: Final = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR
WRITABLE: Final = select.EPOLLOUT | select.EPOLLHUP | select.EPOLLERR
CONNECTED: Final = select.EPOLLOUT
"""Of a socket that connects: it is over, one way or the other. An error alone may be one that it goes on after."""
ENDED: Final = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR | select.EPOLLPRI
"""No further edge will come: what there is must be read to its end. Urgent data splits what is read without an edge."""

_EVENTS: Final = select.EPOLLIN | select.EPOLLPRI | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET
_BURST: Final = 64  # events a turn of the loop


class Poller:
    """The sockets, by descriptor, and who is told of their events."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        before: Callable[[], None] = lambda: None,
        after: Callable[[], None] = lambda: None,
    ) -> None:
        """before and after are called around each turn in which there are events."""
        self._before = before
        self._after = after
        self._epoll = select.epoll()
        self._handlers: dict[int, Callable[[int], None]] = {}
        self._removed: set[int] = set()
        self._loop = loop
        loop.add_reader(self._epoll.fileno(), self._ready)

    def add(self, descriptor: int, handler: Callable[[int], None]) -> None:
        """Tell handler of each edge from now on, with the events of epoll(7); one comes at once if it is ready."""
        self._handlers[descriptor] = handler
        self._epoll.register(descriptor, _EVENTS)

    def remove(self, descriptor: int) -> None:
        """The descriptor is about to be closed; a new one may get its number at once.

        The kernel takes out of an epoll what is closed.
        """
        if self._handlers.pop(descriptor, None) is not None:
            self._removed.add(descriptor)

    def close(self) -> None:
        """Stop."""
        self._loop.remove_reader(self._epoll.fileno())
        self._epoll.close()

    def _ready(self) -> None:
        handlers = self._handlers
        removed = self._removed
        removed.clear()
        self._before()
        for descriptor, events in self._epoll.poll(0, _BURST):
            # What was closed meanwhile is gone, and a new socket with its number has had no event yet.
            if descriptor not in removed:
                handlers[descriptor](events)
        self._after()
