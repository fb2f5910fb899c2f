"""The spare queues of the TUN, lent to workers that read and write the device themselves.

Theory of operation. The kernel puts a packet of the client into the queue through which something was last written to
the same flow, and one of which it knows nothing into any queue, by a hash of its addresses and ports
(drivers/net/tun.c, tun_automq_select_queue). So a worker that has a queue of its own gets the packets of its flows
without a hop, and now and then others, which it passes on to tun_io as `Astray`.

A worker asks over a Unix socket, since a descriptor cannot travel through ZeroMQ, and has the queue as long as that
connection is open. A queue that nobody has is detached: the kernel gives it nothing. What is in it then is lost, as in
the ring of a network card that is reset; it is taken from a worker that is gone, or gives it back when it has no flow.
A tun_io that was started anew finds queues attached, and leaves those to their workers that claim them in time.
"""

import contextlib
import errno
import fcntl
import logging
import os
import socket
import struct
from asyncio import AbstractEventLoop
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from netstack.runtime.queue import NEW

# <linux/if_tun.h>
_TUNSETQUEUE: Final = 0x400454D9
_TUNGETIFF: Final = 0x800454D2
_IFF_ATTACH_QUEUE: Final = 0x0200
_IFF_DETACH_QUEUE: Final = 0x0400
_REQUEST: Final = struct.Struct("=16sH22x")

_BACKLOG: Final = 64

_log = logging.getLogger(__name__)


def attach(descriptor: int) -> None:
    """Have the kernel give packets to a queue; takes no privilege. Raises OSError."""
    fcntl.ioctl(descriptor, _TUNSETQUEUE, _REQUEST.pack(b"", _IFF_ATTACH_QUEUE))


def detach(descriptor: int) -> None:
    """The opposite; what was in it is lost. Raises OSError."""
    fcntl.ioctl(descriptor, _TUNSETQUEUE, _REQUEST.pack(b"", _IFF_DETACH_QUEUE))


def is_attached(descriptor: int) -> bool:
    """Whether it gets packets; False where it is no queue of a TUN."""
    try:
        _, flags = _REQUEST.unpack(fcntl.ioctl(descriptor, _TUNGETIFF, bytes(_REQUEST.size)))
    except OSError:
        return False
    return not flags & _IFF_DETACH_QUEUE


class Queues:
    """Who has which spare queue."""

    def __init__(
        self, loop: AbstractEventLoop, path: Path, descriptors: Sequence[int], on_change: Callable[[], None]
    ) -> None:
        """Listens at path. on_change is called when flows may have moved from one queue to another."""
        self._loop = loop
        self._path = path
        self._descriptors = tuple(descriptors)
        self._on_change = on_change
        self._unclaimed = {index for index, each in enumerate(self._descriptors) if is_attached(each)}
        self._free = [index for index in range(len(self._descriptors)) if index not in self._unclaimed]
        self._lent: dict[socket.socket, int] = {}
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        path.unlink(missing_ok=True)
        self._listener.bind(str(path))
        self._listener.listen(_BACKLOG)
        loop.add_reader(self._listener.fileno(), self._accept)

    def __len__(self) -> int:
        """How many are lent."""
        return len(self._lent)

    def expire(self) -> None:
        """Those who had a queue of a tun_io before this one have had their time to say so."""
        for index in self._unclaimed:
            self._take_back(index)
        self._unclaimed = set()

    def close(self) -> None:
        """Stop. Queues stay with who has them: another tun_io may follow."""
        self._loop.remove_reader(self._listener.fileno())
        self._listener.close()
        for connection in list(self._lent):
            self._loop.remove_reader(connection.fileno())
            connection.close()
        for descriptor in self._descriptors:
            os.close(descriptor)

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:
            return  # it went away again
        connection.settimeout(0)
        self._loop.add_reader(connection.fileno(), self._asked, connection)

    def _asked(self, connection: socket.socket) -> None:
        try:
            asked = connection.recv(1)
        except OSError:
            asked = b""
        if not asked or connection in self._lent or not self._give(connection, asked[0]):
            self._loop.remove_reader(connection.fileno())
            connection.close()
            if (index := self._lent.pop(connection, None)) is not None:
                self._take_back(index)

    def _give(self, connection: socket.socket, index: int) -> bool:
        """Lend the queue of that number, which the worker has already, or with NEW a free one; False without one."""
        if index != NEW:
            if index not in self._unclaimed:
                return False
            self._unclaimed.discard(index)
            descriptors = []
        else:
            if not self._free:
                return False
            index = self._free.pop()
            descriptors = [self._descriptors[index]]
            try:
                attach(descriptors[0])
            except OSError as error:
                self._free.append(index)
                if error.errno != errno.ENOTTY:  # what is no TUN has no queues
                    _log.warning("no queue of the TUN for a worker, which makes it slow: %s", error)
                return False
            self._on_change()
        self._lent[connection] = index
        try:
            socket.send_fds(connection, [bytes([index])], descriptors)
        except OSError:
            return False
        return True

    def _take_back(self, index: int) -> None:
        with contextlib.suppress(OSError):  # the device is gone, or it was detached
            detach(self._descriptors[index])
        self._free.append(index)
        self._on_change()
