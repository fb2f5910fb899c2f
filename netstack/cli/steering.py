"""The program by which the kernel chooses the queue of the TUN for a packet: eBPF, made here octet by octet.

Without it the kernel goes by what was last written to a flow, and else by a hash over all queues: what nothing was
written to yet, such as a SYN or a one-way stream of datagrams, then often comes to a worker of another stage, and takes
a detour. With it, plain TCP, UDP, DNS and echo requests go to the queue that a table names (netstack.wire.steering),
which tun_io fills in: one row for each stage, a column chosen by the client's endpoint (for an echo request its address
and identifier), so that all that an endpoint sends comes to one worker. Everything else goes to the first queue, that
of tun_io: QUIC where it is blocked, fragments, IP options and extension headers, other protocols.

Loading it takes CAP_BPF and CAP_NET_ADMIN, or root; where it cannot be loaded the kernel's own way is good enough.
"""

import ctypes
import errno
import fcntl
import os
import platform
import struct
from collections.abc import Sequence
from typing import Final

from netstack.packet import icmp, tcp, udp
from netstack.wire.steering import COLUMNS, DNS_ROW, SIZE, TCP_ROW, UDP_ROW

_SYS_BPF: Final = {"x86_64": 321, "aarch64": 280, "riscv64": 280}
"""<asm/unistd.h>"""

# <linux/bpf.h>
_MAP_CREATE: Final = 0
_PROG_LOAD: Final = 5
_ARRAY: Final = 2
_MMAPABLE: Final = 1 << 10
_SOCKET_FILTER: Final = 1
_MAP_VALUE: Final = 2  # BPF_PSEUDO_MAP_VALUE

_DNS_PORT: Final = 53

_TUNSETSTEERINGEBPF: Final = 0x800454E0  # <linux/if_tun.h>

# Opcodes: class, size or source, operation.
_MOV: Final = 0xB7
_MOV_REG: Final = 0xBF
_ADD_REG: Final = 0x0F
_AND: Final = 0x57
_RSH: Final = 0x77
_XOR_REG: Final = 0xAF
_JA: Final = 0x05
_JEQ: Final = 0x15
_JNE: Final = 0x55
_LOAD: Final = 0x71  # an octet of memory
_LOAD_64: Final = 0x18  # of two instructions
_ABSOLUTE: Final = {1: 0x30, 2: 0x28, 4: 0x20}
"""So many octets of the packet, in host order, into R0; past its end the program ends, with 0."""
_EXIT: Final = 0x95

_RESULT, _PACKET, _PROTOCOL, _HASH, _PORT = 0, 6, 7, 8, 9  # registers
_SCRATCH: Final = 2


def load(quic_ports: Sequence[int]) -> tuple[int, int]:
    """The descriptors of the program and its table; raises OSError where they may not be."""
    table = _bpf(_MAP_CREATE, struct.pack("=IIIII", _ARRAY, 4, SIZE, 1, _MMAPABLE))
    try:
        code = program(table, quic_ports)
        octets = ctypes.create_string_buffer(code, len(code))
        licence = ctypes.create_string_buffer(b"Apache-2.0")
        return _bpf(
            _PROG_LOAD,
            struct.pack(
                "=IIQQIIQ", _SOCKET_FILTER, len(code) // 8, ctypes.addressof(octets), ctypes.addressof(licence), 0, 0, 0
            ),
        ), table
    except OSError:
        os.close(table)
        raise


def steer(descriptor: int, quic_ports: Sequence[int]) -> int:
    """Have a TUN's packets steered; gives the table's descriptor. Raises OSError where that cannot be."""
    code, table = load(quic_ports)
    try:
        fcntl.ioctl(descriptor, _TUNSETSTEERINGEBPF, struct.pack("=i", code))
    except OSError:
        os.close(table)
        raise
    finally:
        os.close(code)  # the device holds it
    return table


class _Code:
    """Instructions in their order; what is jumped to by name is filled in at the end."""

    def __init__(self) -> None:
        self._lines: list[tuple[int, int, int, int | str, int]] = []
        self._labels: dict[str, int] = {}

    def add(self, operation: int, to: int = 0, source: int = 0, offset: int | str = 0, value: int = 0) -> None:
        self._lines.append((operation, to, source, offset, value))

    def label(self, name: str) -> None:
        """What comes next is jumped to by this name."""
        self._labels[name] = len(self._lines)

    def take(self, octets: int, at: int) -> None:
        """So many octets of the packet into R0."""
        self.add(_ABSOLUTE[octets], value=at)

    def mix(self, octets: int, *places: int) -> None:
        """So many octets at each of these places into the hash."""
        for at in places:
            self.take(octets, at)
            self.add(_XOR_REG, _HASH, _RESULT)

    def octets(self) -> bytes:
        return b"".join(
            struct.pack("=BBhi", operation, source << 4 | to, self._distance(offset, at), value)
            for at, (operation, to, source, offset, value) in enumerate(self._lines)
        )

    def _distance(self, offset: int | str, at: int) -> int:
        return offset if isinstance(offset, int) else self._labels[offset] - at - 1


def program(table: int, quic_ports: Sequence[int]) -> bytes:
    """The instructions, eight octets each."""
    code = _Code()
    add = code.add
    add(_MOV_REG, _PACKET, 1)  # where the loads above look for the packet
    add(_MOV, _HASH)
    code.take(1, 0)
    add(_JEQ, _RESULT, offset="IPv4", value=0x45)  # no options
    add(_RSH, _RESULT, value=4)
    add(_JNE, _RESULT, offset="first queue", value=6)
    code.take(1, 6)
    add(_MOV_REG, _PROTOCOL, _RESULT)
    code.mix(4, 8, 12, 16, 20)
    _add_endpoint(code, 40, icmp.PROTOCOL_V6, icmp.V6_ECHO_REQUEST)
    code.label("IPv4")
    code.take(2, 6)
    add(_AND, _RESULT, value=0x3FFF)
    add(_JNE, _RESULT, offset="first queue", value=0)  # a fragment
    code.take(1, 9)
    add(_MOV_REG, _PROTOCOL, _RESULT)
    code.mix(4, 12)
    _add_endpoint(code, 20, icmp.PROTOCOL, icmp.ECHO_REQUEST)
    code.label("by protocol")
    add(_MOV, _SCRATCH, value=TCP_ROW)
    add(_JEQ, _PROTOCOL, offset="look up", value=tcp.PROTOCOL)
    add(_JNE, _PROTOCOL, offset="first queue", value=udp.PROTOCOL)
    add(_MOV, _SCRATCH, value=DNS_ROW)
    add(_JEQ, _PORT, offset="look up", value=_DNS_PORT)
    for port in quic_ports:
        add(_JEQ, _PORT, offset="first queue", value=port)
    code.label("UDP or echo")
    add(_MOV, _SCRATCH, value=UDP_ROW)
    code.label("look up")
    for bits in (16, 8):
        add(_MOV_REG, _RESULT, _HASH)
        add(_RSH, _RESULT, value=bits)
        add(_XOR_REG, _HASH, _RESULT)
    add(_AND, _HASH, value=COLUMNS - 1)
    add(_ADD_REG, _HASH, _SCRATCH)
    add(_LOAD_64, 1, _MAP_VALUE, value=table)
    add(0)  # its second half: the offset into the value
    add(_ADD_REG, 1, _HASH)
    add(_LOAD, _RESULT, 1)
    add(_EXIT)
    code.label("first queue")
    add(_MOV, _RESULT)
    add(_EXIT)
    return code.octets()


def _add_endpoint(code: _Code, upper: int, echo_protocol: int, echo_request: int) -> None:
    """The client's port or identifier into the hash, and the server's port into its register."""
    code.mix(2, upper)  # the source port, or ICMP's type and code
    code.add(_JEQ, _PROTOCOL, offset=f"ICMP at {upper}", value=echo_protocol)
    code.take(2, upper + 2)
    code.add(_MOV_REG, _PORT, _RESULT)
    code.add(_JA, offset="by protocol")
    code.label(f"ICMP at {upper}")
    code.take(2, upper)
    code.add(_JNE, _RESULT, offset="first queue", value=echo_request << 8)
    code.mix(2, upper + 4)  # the identifier
    code.add(_JA, offset="UDP or echo")


def _bpf(command: int, attributes: bytes) -> int:
    """bpf(2), which the C library does not wrap."""
    number = _SYS_BPF.get(platform.machine())
    if number is None:
        raise OSError(errno.ENOSYS, "bpf")
    libc = ctypes.CDLL(None, use_errno=True)
    octets = ctypes.create_string_buffer(attributes, len(attributes))
    result: int = libc.syscall(ctypes.c_long(number), command, octets, len(attributes))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"bpf: {os.strerror(code)}")
    os.set_inheritable(result, False)  # noqa: FBT003 - its only form
    return result
