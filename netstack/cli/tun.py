"""Opening a TUN device, with its queues, in the network namespace of the calling process."""

import errno
import fcntl
import logging
import os
import struct
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Final

from netstack.cli.sandbox_messages import SandboxError
from netstack.cli.steering import steer
from netstack.runtime.config import Config

DEVICE: Final = "/dev/net/tun"

# <linux/if_tun.h>; the numbers as _IOW makes them on every architecture but alpha, mips, powerpc and sparc.
_TUNSETIFF: Final = 0x400454CA
_TUNSETOFFLOAD: Final = 0x400454D0
_TUNSETVNETHDRSZ: Final = 0x400454D8
_TUNSETQUEUE: Final = 0x400454D9
_TUNSETVNETLE: Final = 0x400454DC
_IFF_TUN: Final = 0x0001
_IFF_MULTI_QUEUE: Final = 0x0100
_IFF_DETACH_QUEUE: Final = 0x0400
_IFF_NO_PI: Final = 0x1000
_IFF_VNET_HDR: Final = 0x4000
_IFF_TUN_EXCL: Final = 0x8000

_CSUM_TSO: Final = 0x01 | 0x02 | 0x04  # checksum, TSO for IPv4 and IPv6
_USO: Final = 0x20 | 0x40  # UDP segmentation for IPv4 and IPv6; Linux 6.2 and later
VNET_HEADER: Final = 10  # octets

SPARE: Final = 16
"""Queues beside the first: workers that may read and write the device themselves. The others go through tun_io."""

_log = logging.getLogger(__name__)


def open_tun(name: str, quic_ports: Sequence[int] = ()) -> tuple[int, ...]:
    """Make the device and return the descriptors of its queues: non-blocking, closed on exec, with vnet headers.

    The first queue takes everything; the SPARE others are detached (netstack.runtime.queue) until somebody attaches
    them. Where it may be had, the last descriptor is that of the table by which packets are steered, all but those to
    quic_ports (netstack.cli.steering). The device lives as long as a descriptor of it is open anywhere. SandboxError
    if there is such a device already or none may be made.
    """
    with ExitStack() as stack:
        first = _open(stack)
        _attach(first, name, _IFF_TUN_EXCL)
        fcntl.ioctl(first, _TUNSETVNETHDRSZ, struct.pack("=i", VNET_HEADER))
        # The header's fields are little-endian to us on every machine.
        fcntl.ioctl(first, _TUNSETVNETLE, struct.pack("=i", 1))
        _offload(first)
        spare = [_open(stack) for _ in range(SPARE)]
        for descriptor in spare:
            _attach(descriptor, name, 0)
            fcntl.ioctl(descriptor, _TUNSETQUEUE, struct.pack("=16sH22x", b"", _IFF_DETACH_QUEUE))
        table = _steer(first, quic_ports)
        stack.pop_all()
    return (first, *spare, *table)


def quic_ports(config: Config) -> tuple[int, ...]:
    """The ports that tun_io alone refuses."""
    return tuple(config.quic.ports) if config.quic.block else ()


def _steer(descriptor: int, quic_ports: Sequence[int]) -> tuple[int, ...]:
    try:
        return (steer(descriptor, quic_ports),)
    except OSError as error:
        _log.debug("packets are not steered to the workers' queues: %s", error)
        return ()


def _open(stack: ExitStack) -> int:
    try:
        descriptor = os.open(DEVICE, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise SandboxError(f"cannot make the TUN: {DEVICE}: {error.strerror}") from None
    stack.callback(os.close, descriptor)
    return descriptor


def _attach(descriptor: int, name: str, flags: int) -> None:
    flags |= _IFF_TUN | _IFF_NO_PI | _IFF_VNET_HDR | _IFF_MULTI_QUEUE
    request = struct.pack("=16sH22x", name.encode(), flags)
    try:
        fcntl.ioctl(descriptor, _TUNSETIFF, request)
    except OSError as error:
        if error.errno in (errno.EBUSY, errno.EEXIST, errno.EINVAL):
            why = f"there is already a device {name} in this namespace: choose another with tun.name"
        elif error.errno in (errno.EPERM, errno.EACCES):
            why = "that takes CAP_NET_ADMIN in the network namespace (in a container: --cap-add NET_ADMIN)"
        else:
            why = str(error.strerror)
        raise SandboxError(f"cannot make the TUN {name}: {why}") from None


def _offload(descriptor: int) -> None:
    try:
        fcntl.ioctl(descriptor, _TUNSETOFFLOAD, _CSUM_TSO | _USO)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        fcntl.ioctl(descriptor, _TUNSETOFFLOAD, _CSUM_TSO)
