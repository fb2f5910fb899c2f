"""The UDP header (RFC 768)."""

import struct
from typing import Final, NamedTuple

from netstack.packet.checksum import checksum, pseudo_sum
from netstack.packet.reason import MalformedPacketError, Reason

PROTOCOL: Final = 17
HEADER_LEN: Final = 8  # octets
_FORMAT: Final = struct.Struct("!HHHH")


class Header(NamedTuple):
    """The meaning of a UDP header; length covers header and data, in octets."""

    source_port: int
    destination_port: int
    length: int
    checksum: int


def parse(octets: bytes, start: int, end: int) -> Header:
    """Read the header at start of a datagram that ends at end; raises MalformedPacketError (malformed-udp)."""
    if end - start < HEADER_LEN or end > len(octets):
        raise MalformedPacketError(Reason.MALFORMED_UDP, f"{end - start} octets are no UDP header")
    header = Header(*_FORMAT.unpack_from(octets, start))
    if not HEADER_LEN <= header.length <= end - start:
        raise MalformedPacketError(Reason.MALFORMED_UDP, f"length {header.length} of {end - start} octets")
    return header


def emit(source: bytes, destination: bytes, source_port: int, destination_port: int, payload: bytes) -> bytes:
    """Header and payload, the checksum filled in: 0 is sent as 0xFFFF, since 0 means "none" (RFC 768)."""
    length = HEADER_LEN + len(payload)
    head = _FORMAT.pack(source_port, destination_port, length, 0)
    value = checksum(head + payload, pseudo_sum(source, destination, PROTOCOL, length)) or 0xFFFF
    return head[:6] + value.to_bytes(2, "big") + payload


def verify(octets: bytes, start: int, header: Header, source: bytes, destination: bytes) -> bool:
    """Whether the checksum holds. None (0) is valid over IPv4 and not over IPv6 (RFC 8200 section 8.1)."""
    if header.checksum == 0:
        return len(source) == 4
    datagram = octets[start : start + header.length]
    return checksum(datagram, pseudo_sum(source, destination, PROTOCOL, header.length)) == 0
