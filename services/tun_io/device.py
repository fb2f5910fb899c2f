"""The TUN's descriptors: handed over by whoever opened it, read and written in whole frames."""

import mmap
import os
import socket
import stat
from collections.abc import Sequence
from typing import Final

from netstack.wire import steering

BURST: Final = 64  # packets a turn; as many as a batch may hold
HEAD: Final = 128  # octets of a packet that tell whose it is, where there are no extension headers
SHORTEST_TCP: Final = 10 + 40  # octets of a frame with no more than IPv4 and TCP headers


class NoDeviceError(OSError):
    """Nobody handed over a TUN."""


_DESCRIPTORS: Final = 64  # at most, of one device


def receive_descriptors(handover: int) -> list[int]:
    """Take the TUN's descriptors from the inherited socket whose number is given; raises NoDeviceError.

    There is one for each queue, and perhaps one of the table by which packets are steered: see `split`. Blocks until
    they are there: without a device there is nothing to do.
    """
    with socket.socket(fileno=handover) as channel:
        channel.settimeout(None)
        _, descriptors, _, _ = socket.recv_fds(channel, 1, _DESCRIPTORS)
    if not descriptors:
        raise NoDeviceError("the supervisor closed the handover socket without a TUN descriptor")
    for descriptor in descriptors:
        os.set_blocking(descriptor, False)
    return descriptors


def split(descriptors: Sequence[int]) -> tuple[Sequence[int], memoryview | None]:
    """The descriptors of queues, and the table, where there is one, mapped; its descriptor is closed."""
    last = descriptors[-1]
    if stat.S_IFMT(os.fstat(last).st_mode):
        return descriptors, None
    # Neither a device nor, as in tests, a socket: what bpf(2) makes has an inode without a type.
    table = memoryview(mmap.mmap(last, steering.SIZE))
    os.close(last)
    return descriptors[:-1], table
