"""The TUN's descriptors: handed over by whoever opened it, read and written in whole frames."""

import os
import socket
from typing import Final

BURST: Final = 64  # packets a turn; as many as a batch may hold
HEAD: Final = 128  # octets of a packet that tell whose it is, where there are no extension headers
SHORTEST_TCP: Final = 10 + 40  # octets of a frame with no more than IPv4 and TCP headers


class NoDeviceError(OSError):
    """Nobody handed over a TUN."""


_QUEUES: Final = 64  # at most, of one device


def receive_descriptors(handover: int) -> list[int]:
    """Take the TUN's descriptors, one a queue, from the inherited socket whose number is given; raises NoDeviceError.

    Blocks until they are there: without a device there is nothing to do.
    """
    with socket.socket(fileno=handover) as channel:
        channel.settimeout(None)
        _, descriptors, _, _ = socket.recv_fds(channel, 1, _QUEUES)
    if not descriptors:
        raise NoDeviceError("the supervisor closed the handover socket without a TUN descriptor")
    for descriptor in descriptors:
        os.set_blocking(descriptor, False)
    return descriptors
