"""What a host socket's error queue says (ip(7), IP_RECVERR), and the ICMP packet that tells the client so."""

import errno
import socket
import struct
import sys
from typing import Final, NamedTuple

from netstack.packet import icmp, ipv4

IP_RECVERR: Final = 11  # linux/in.h
IPV6_RECVERR: Final = 25  # linux/in6.h
_ERRORS: Final = frozenset({(socket.IPPROTO_IP, IP_RECVERR), (socket.IPPROTO_IPV6, IPV6_RECVERR)})
_TTLS: Final = frozenset({(socket.IPPROTO_IP, socket.IP_TTL), (socket.IPPROTO_IPV6, socket.IPV6_HOPLIMIT)})

ANCILLARY: Final = socket.CMSG_SPACE(64)
"""Octets of a control message that holds sock_extended_err and a sockaddr_in6."""

ORIGIN_LOCAL: Final = 1  # linux/errqueue.h: SO_EE_ORIGIN_*
ORIGIN_ICMP: Final = 2
ORIGIN_ICMP6: Final = 3

# struct sock_extended_err: errno, origin, type, code, padding, info, data; the offender's sockaddr follows.
_EXTENDED: Final = struct.Struct("=IBBBBII")
_FAMILY: Final = struct.Struct("=H")
_V4_AT: Final = _EXTENDED.size + 4  # of the address in struct sockaddr_in
_V6_AT: Final = _EXTENDED.size + 8  # in struct sockaddr_in6

# What a router or host says of a packet; redirects and the withdrawn source quench are not the client's concern.
_PASSED: Final = frozenset({icmp.UNREACHABLE, icmp.TIME_EXCEEDED, icmp.PARAMETER_PROBLEM})
_PASSED_V6: Final = frozenset(
    {icmp.V6_UNREACHABLE, icmp.V6_PACKET_TOO_BIG, icmp.V6_TIME_EXCEEDED, icmp.V6_PARAMETER_PROBLEM}
)


class SocketError(NamedTuple):
    """One entry of an error queue."""

    errno: int
    origin: int
    kind: int
    """Type of the ICMP message, code beside it; 0 for a local error."""
    code: int
    info: int
    """The MTU of "packet too big"; the pointer of a parameter problem."""
    offender: bytes
    """Who said it, packed; empty where this host did."""
    ttl: int = ipv4.DEFAULT_TTL
    """Of the ICMP message as it is to arrive: programs tell by it how long the way back is."""


def parse(ancillary: list[tuple[int, int, bytes]]) -> SocketError | None:
    """Find the error among the control messages; None where there is none that can be read.

    Its TTL is known where the socket was asked for that too (IP_RECVTTL, IPV6_RECVHOPLIMIT).
    """
    found: bytes | None = None
    ttl = ipv4.DEFAULT_TTL
    for level, kind, data in ancillary:
        if (level, kind) in _ERRORS and len(data) >= _EXTENDED.size:
            found = data
        elif (level, kind) in _TTLS:
            ttl = max(1, int.from_bytes(data[:4], sys.byteorder) - 1) & 0xFF
    if found is None:
        return None
    number, origin, icmp_type, code, _, info, _ = _EXTENDED.unpack_from(found)
    return SocketError(number, origin, icmp_type, code, info, _offender(found), ttl)


def packet(error: SocketError, quote: bytes, gateway: bytes | None) -> bytes | None:
    """The ICMP packet about the client's packet `quote`, from the offender or, where this host spoke, from the gateway.

    None where the error is nothing that a router would tell.
    """
    version = quote[0] >> 4
    teller = error.offender or gateway
    if error.origin == ORIGIN_ICMP and version == 4 and error.kind in _PASSED:
        return icmp.error(quote, error.kind, error.code, rest=_rest(error), source=teller, ttl=error.ttl)
    if error.origin == ORIGIN_ICMP6 and version == 6 and error.kind in _PASSED_V6:
        carries = error.kind in {icmp.V6_PACKET_TOO_BIG, icmp.V6_PARAMETER_PROBLEM}
        rest = error.info if carries else 0
        return icmp.error(quote, error.kind, error.code, rest=rest, source=teller, ttl=error.ttl)
    if error.origin == ORIGIN_LOCAL:
        if error.errno == errno.EMSGSIZE:
            return too_big(quote, error.info, gateway)
        return unreachable(quote, error.errno, gateway)
    return None


def too_big(quote: bytes, mtu: int, gateway: bytes | None) -> bytes:
    """Fragmentation needed and DF set (RFC 1191), or ICMPv6 packet too big; mtu in octets."""
    if quote[0] >> 4 == 4:
        return icmp.error(quote, icmp.UNREACHABLE, icmp.FRAGMENTATION_NEEDED, rest=mtu & 0xFFFF, source=gateway)
    return icmp.error(quote, icmp.V6_PACKET_TOO_BIG, 0, rest=mtu, source=gateway)


def time_exceeded(quote: bytes, gateway: bytes | None) -> bytes:
    """What a packet that has no hop left gets."""
    if quote[0] >> 4 == 4:
        return icmp.error(quote, icmp.TIME_EXCEEDED, 0, source=gateway)
    return icmp.error(quote, icmp.V6_TIME_EXCEEDED, 0, source=gateway)


def unreachable(quote: bytes, number: int, gateway: bytes | None) -> bytes | None:
    """What this host's own refusal to send (an errno) means to the client; None where only silence fits."""
    four = quote[0] >> 4 == 4
    kind = icmp.UNREACHABLE if four else icmp.V6_UNREACHABLE
    if number in {errno.EHOSTUNREACH, errno.EHOSTDOWN}:
        code = icmp.HOST_UNREACHABLE if four else icmp.V6_ADDRESS_UNREACHABLE
    elif number in {errno.ENETUNREACH, errno.ENETDOWN, errno.EADDRNOTAVAIL}:
        code = icmp.NET_UNREACHABLE if four else icmp.V6_NO_ROUTE
    else:
        return None
    return icmp.error(quote, kind, code, source=gateway)


def _rest(error: SocketError) -> int:
    if error.kind == icmp.UNREACHABLE and error.code == icmp.FRAGMENTATION_NEEDED:
        return error.info & 0xFFFF
    return (error.info & 0xFF) << 24 if error.kind == icmp.PARAMETER_PROBLEM else 0


def _offender(data: bytes) -> bytes:
    if len(data) < _EXTENDED.size + _FAMILY.size:
        return b""
    (family,) = _FAMILY.unpack_from(data, _EXTENDED.size)
    if family == socket.AF_INET and len(data) >= _V4_AT + 4:
        return data[_V4_AT : _V4_AT + 4]
    if family == socket.AF_INET6 and len(data) >= _V6_AT + 16:
        return data[_V6_AT : _V6_AT + 16]
    return b""
