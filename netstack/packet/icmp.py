"""ICMP (RFC 792, RFC 4884) and ICMPv6 (RFC 4443): echo, and the errors a router sends."""

import struct
from typing import Final

from netstack.packet import ipv4, ipv6
from netstack.packet.checksum import checksum, pseudo_sum

PROTOCOL: Final = 1
PROTOCOL_V6: Final = 58

ECHO_REPLY: Final = 0
UNREACHABLE: Final = 3
ECHO_REQUEST: Final = 8
TIME_EXCEEDED: Final = 11
PARAMETER_PROBLEM: Final = 12

V6_UNREACHABLE: Final = 1
V6_PACKET_TOO_BIG: Final = 2
V6_TIME_EXCEEDED: Final = 3
V6_PARAMETER_PROBLEM: Final = 4
V6_ECHO_REQUEST: Final = 128
V6_ECHO_REPLY: Final = 129

# Codes of "destination unreachable", IPv4 and IPv6.
NET_UNREACHABLE: Final = 0
HOST_UNREACHABLE: Final = 1
PROTOCOL_UNREACHABLE: Final = 2
PORT_UNREACHABLE: Final = 3
FRAGMENTATION_NEEDED: Final = 4
ADMIN_PROHIBITED: Final = 13
V6_NO_ROUTE: Final = 0
V6_ADMIN_PROHIBITED: Final = 1
V6_ADDRESS_UNREACHABLE: Final = 3
V6_PORT_UNREACHABLE: Final = 4

REASSEMBLY_TIME: Final = 1  # the code of "time exceeded" at reassembly, IPv4 and IPv6

_HEADER: Final = struct.Struct("!BBHI")
_QUOTE_V4: Final = 576 - ipv4.HEADER_LEN - 8  # octets; RFC 1812 section 4.3.2.3: not beyond 576 in all
_QUOTE_V6: Final = 1280 - ipv6.HEADER_LEN - 8  # octets; RFC 4443 section 2.4 (c): not beyond the minimum MTU


def emit(kind: int, code: int, rest: int, body: bytes) -> bytes:
    """An ICMP (version 4) message, checksum filled in. `rest` is the second word of the header."""
    head = _HEADER.pack(kind, code, 0, rest)
    value = checksum(head + body)
    return _HEADER.pack(kind, code, value, rest) + body


def emit_v6(source: bytes, destination: bytes, kind: int, code: int, rest: int, body: bytes) -> bytes:
    """An ICMPv6 message, checksum with pseudo-header filled in."""
    head = _HEADER.pack(kind, code, 0, rest)
    value = checksum(head + body, pseudo_sum(source, destination, PROTOCOL_V6, 8 + len(body)))
    return _HEADER.pack(kind, code, value, rest) + body


def error(
    packet: bytes, kind: int, code: int, *, rest: int = 0, source: bytes | None = None, ttl: int = ipv4.DEFAULT_TTL
) -> bytes:
    """The whole IP packet that tells the sender of `packet` (its own IP packet, without vnet header) of an error.

    kind and code are those of the packet's own family; source is the address that speaks, by default the one that the
    packet was sent to. The caller has parsed the packet's IP header.
    """
    if packet[0] >> 4 == 4:
        teller = source or packet[16:20]
        message = emit(kind, code, rest, packet[:_QUOTE_V4])
        return ipv4.emit(teller, packet[12:16], PROTOCOL, len(message), ttl=ttl, tos=0xC0, fragment=0) + message
    teller = source or packet[24:40]
    message = emit_v6(teller, packet[8:24], kind, code, rest, packet[:_QUOTE_V6])
    return ipv6.emit(teller, packet[8:24], PROTOCOL_V6, len(message), hop_limit=ttl) + message


def admin_prohibited(packet: bytes) -> bytes:
    """What a refused UDP or echo packet gets: type 3 code 13, or ICMPv6 type 1 code 1."""
    if packet[0] >> 4 == 4:
        return error(packet, UNREACHABLE, ADMIN_PROHIBITED)
    return error(packet, V6_UNREACHABLE, V6_ADMIN_PROHIBITED)


def port_unreachable(packet: bytes) -> bytes:
    """What a QUIC packet gets, so that the browser falls back to TCP at once; and a closed UDP port."""
    if packet[0] >> 4 == 4:
        return error(packet, UNREACHABLE, PORT_UNREACHABLE)
    return error(packet, V6_UNREACHABLE, V6_PORT_UNREACHABLE)


def may_answer(packet: bytes, protocol: int, upper: int) -> bool:
    """Whether an ICMP error may be sent about this packet.

    Never about an ICMP error, a later fragment, or a packet to or from a multicast or unspecified address (RFC 1122
    section 3.2.2, RFC 4443 section 2.4 (e)). `upper` is where the transport header begins.
    """
    if packet[0] >> 4 == 4:
        if int.from_bytes(packet[6:8], "big") & 0x1FFF:
            return False
        if packet[12] >= 224 or packet[16] >= 224 or packet[12:16] == bytes(4):
            return False
        return protocol != PROTOCOL or packet[upper : upper + 1] in {bytes([ECHO_REQUEST]), bytes([ECHO_REPLY])}
    if packet[8] == 0xFF or packet[24] == 0xFF or packet[8:24] == bytes(16):
        return False
    return protocol != PROTOCOL_V6 or packet[upper : upper + 1] >= bytes([V6_ECHO_REQUEST])
