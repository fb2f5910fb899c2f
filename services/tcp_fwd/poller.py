"""Readiness of the host sockets.

Each socket is registered once with the epoll of the loop, edge-triggered, for both directions, and never modified. The
loop's own add_reader and add_writer cost several microseconds each, several times per connection.
"""

import select
from collections.abc import Callable
from typing import Final

from netstack.runtime.selector import DirectSelector

READABLE: Final = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR
WRITABLE: Final = select.EPOLLOUT | select.EPOLLHUP | select.EPOLLERR
CONNECTED: Final = select.EPOLLOUT
"""Of a socket that connects: it is over, one way or the other. An error alone may be one that it goes on after."""
FAILED: Final = select.EPOLLERR | select.EPOLLHUP
"""Without one of these there is no error that the socket could tell of."""
ENDED: Final = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR | select.EPOLLPRI
"""No further edge will come: what there is must be read to its end. Urgent data splits what is read without an edge."""
FIN: Final = select.EPOLLRDHUP
"""Of ENDED alone: the far end has closed, all that it sent is there, and no urgent data splits it."""

_EVENTS: Final = select.EPOLLIN | select.EPOLLPRI | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET


class Poller:
    """The sockets, by descriptor, and who is told of their events."""

    def __init__(
        self,
        selector: DirectSelector,
        before: Callable[[], None] = lambda: None,
        after: Callable[[], None] = lambda: None,
    ) -> None:
        """before and after are called around each turn in which there are events."""
        self._selector = selector
        selector.frame(before, after)

    def add(self, descriptor: int, handler: Callable[[int], None]) -> None:
        """Tell handler of each edge from now on, with the events of epoll(7); one comes at once if it is ready."""
        self._selector.watch(descriptor, _EVENTS, handler)

    def remove(self, descriptor: int) -> None:
        """The descriptor is about to be closed; a new one may get its number at once."""
        self._selector.unwatch(descriptor)
