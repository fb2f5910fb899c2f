"""The spare queues of the TUN, lent to workers that read and write the device themselves.

Theory of operation. The kernel puts a packet of the client into the queue through which something was last written to
the same flow, and one of which it knows nothing into any queue, by a hash of its addresses and ports
(drivers/net/tun.c, tun_automq_select_queue). So a worker that has a queue of its own gets the packets of its flows
without a hop, and now and then others, which it passes on to tun_io as `Astray`.

A worker asks over a Unix socket, since a descriptor cannot travel through ZeroMQ: one octet with the number of the
queue that it has, or NEW, then its name. The answer is the number of the one that it has from then on, with a
descriptor if that is another one, or NEW where there is none. It has the queue as long as that connection is open and
its heartbeats come. A queue that nobody has is detached: the kernel gives it nothing. What is in it then is lost, as in
the ring of a network card that is reset; it is taken from a worker that is gone, or gives it back when it has no flow.

A tun_io that was started anew finds queues attached, and leaves those to their workers that claim them in time. Who is
not in its roster yet is not answered, and asks again.
"""

import contextlib
import errno
import fcntl
import logging
import os
import socket
import struct
from asyncio import AbstractEventLoop
from collections import deque
from collections.abc import Callable, Container, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from netstack.runtime.queue import NEW
from netstack.wire.steering import Steering

# <linux/if_tun.h>
_TUNSETQUEUE: Final = 0x400454D9
_TUNGETIFF: Final = 0x800454D2
_IFF_ATTACH_QUEUE: Final = 0x0200
_IFF_DETACH_QUEUE: Final = 0x0400
_REQUEST: Final = struct.Struct("=16sH22x")

_BACKLOG: Final = 64
_ASKING: Final = 32  # connections that have not said anything
_ASK: Final = 256  # octets: a number and a name

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


class _Loan(NamedTuple):
    """What a connection stands for."""

    number: int
    worker: bytes


class Queues:
    """Who has which spare queue."""

    def __init__(
        self,
        loop: AbstractEventLoop,
        path: Path,
        descriptors: Sequence[int],
        *,
        is_worker: Callable[[bytes], bool],
        on_change: Callable[[], None],
        steering: Steering | None = None,
    ) -> None:
        """Listens at path. Only who is a worker by its name gets a queue, and one at a time.

        on_change is called when a queue came or went: flows may have moved from one to another. steering is told of
        what is attached, where there is such a table.
        """
        self._loop = loop
        self._descriptors = tuple(descriptors)
        self._is_worker = is_worker
        self._on_change = on_change
        self._steering = steering
        self._unclaimed = {index for index, each in enumerate(self._descriptors) if is_attached(each)}
        # Taken from the front: one that was taken back rests, since a worker that was stopped may still look at it.
        self._free = deque(index for index in range(len(self._descriptors)) if index not in self._unclaimed)
        self._asking: dict[socket.socket, None] = {}  # those that have not said anything, oldest first
        self._lent: dict[socket.socket, _Loan] = {}
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        path.unlink(missing_ok=True)
        self._listener.bind(str(path))
        self._listener.listen(_BACKLOG)
        loop.add_reader(self._listener.fileno(), self._accept)

    def __len__(self) -> int:
        """How many are lent."""
        return len(self._lent)

    def of(self, workers: Container[bytes]) -> list[int]:
        """The numbers of the queues that these workers have."""
        return [loan.number for loan in self._lent.values() if loan.worker in workers]

    def expire(self) -> None:
        """Those who had a queue of a tun_io before this one have had their time to say so."""
        unclaimed, self._unclaimed = self._unclaimed, set()
        for index in unclaimed:
            self._take_back(index)

    def withdraw(self, worker: bytes) -> None:
        """A worker is gone, or as good as gone: what comes for it must not lie in a queue that nobody reads."""
        for connection, loan in list(self._lent.items()):
            if loan.worker == worker:
                self._let_go(connection)

    def close(self) -> None:
        """Stop. Queues stay with who has them: another tun_io may follow."""
        self._loop.remove_reader(self._listener.fileno())
        self._listener.close()
        for connection in [*self._lent, *self._asking]:
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
        self._asking[connection] = None
        self._loop.add_reader(connection.fileno(), self._asked, connection)
        if len(self._asking) > _ASKING:
            # A worker says at once what it wants.
            self._asked(next(iter(self._asking)))

    def _asked(self, connection: socket.socket) -> None:
        """A connection has said something, or is gone; one that has said nothing yet has waited long enough."""
        try:
            asked = connection.recv(_ASK)
        except OSError:
            asked = b""
        is_first = connection in self._asking
        self._asking.pop(connection, None)
        if not is_first or not asked or not self._is_worker(asked[1:]) or not self._lend(connection, asked):
            self._let_go(connection)

    def _lend(self, connection: socket.socket, asked: bytes) -> bool:
        """Leave a worker the queue of the number that it says, or give it a free one; False where it has none then."""
        index, worker = asked[0], asked[1:]
        self.withdraw(worker)
        descriptors: list[int] = []
        if index in self._unclaimed:
            self._unclaimed.discard(index)
        else:
            index = self._attach()
            descriptors = [] if index == NEW else [self._descriptors[index]]
        if index != NEW:
            self._lent[connection] = _Loan(index, worker)
            self._on_change()
        try:
            socket.send_fds(connection, [bytes([index])], descriptors)
        except OSError:
            return False
        return index != NEW

    def _attach(self) -> int:
        """The number of a queue that was free, or NEW where there is none."""
        if not self._free:
            return NEW
        index = self._free.popleft()
        try:
            attach(self._descriptors[index])
        except OSError as error:
            self._free.append(index)
            if error.errno != errno.ENOTTY:  # what is no TUN has no queues
                _log.warning("no queue of the TUN for a worker, which makes it slow: %s", error)
            return NEW
        if self._steering is not None:
            self._steering.attached(index)
        return index

    def _let_go(self, connection: socket.socket) -> None:
        self._loop.remove_reader(connection.fileno())
        connection.close()
        loan = self._lent.pop(connection, None)
        if loan is not None:
            self._take_back(loan.number)

    def _take_back(self, index: int) -> None:
        with contextlib.suppress(OSError):  # the device is gone, or it was detached
            detach(self._descriptors[index])
        if self._steering is not None:
            self._steering.detached(index)
        self._free.append(index)
        self._on_change()
