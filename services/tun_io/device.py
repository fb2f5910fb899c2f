"""The TUN's descriptor: handed over by whoever opened it, read and written in whole frames."""

import os
import socket
from contextlib import suppress
from typing import Final

MAX_FRAME: Final = 10 + 65535  # octets: a virtio_net_hdr and the largest IP packet
BURST: Final = 64  # packets a turn; as many as a batch may hold


class NoDeviceError(OSError):
    """Nobody handed over a TUN."""


def receive_descriptor(handover: int) -> int:
    """Take the TUN's descriptor from the inherited socket whose number is given; raises NoDeviceError.

    Blocks until it is there: without a device there is nothing to do.
    """
    with socket.socket(fileno=handover) as channel:
        channel.settimeout(None)
        _, descriptors, _, _ = socket.recv_fds(channel, 1, 1)
    if not descriptors:
        raise NoDeviceError("the supervisor closed the handover socket without a TUN descriptor")
    os.set_blocking(descriptors[0], False)
    return descriptors[0]


def read_burst(descriptor: int) -> list[bytes]:
    """What the kernel has ready, at most BURST frames; raises OSError when the device is gone."""
    frames: list[bytes] = []
    with suppress(BlockingIOError):
        while len(frames) < BURST:
            frames.append(os.read(descriptor, MAX_FRAME))
    return frames
