"""The IPv4 header (RFC 791)."""

import struct
from typing import Final, NamedTuple

from netstack.packet.checksum import checksum
from netstack.packet.reason import MalformedPacketError, Reason

HEADER_LEN: Final = 20  # octets, without options
DEFAULT_TTL: Final = 64  # hops; RFC 1700's recommendation, and Linux's
_FORMAT: Final = struct.Struct("!BBHHHBBH4s4s")

DF: Final = 0x4000
MF: Final = 0x2000
_OFFSET_MASK: Final = 0x1FFF


class Header(NamedTuple):
    """The meaning of an IPv4 header; offsets and lengths in octets."""

    ihl: int
    tos: int
    total_length: int
    identification: int
    dont_fragment: bool
    more_fragments: bool
    fragment_offset: int
    ttl: int
    protocol: int
    source: bytes
    destination: bytes

    @property
    def is_fragment(self) -> bool:
        """A later fragment carries no ports, so a filter must not read any from it."""
        return self.more_fragments or self.fragment_offset > 0


def parse(octets: bytes, start: int = 0, *, verify: bool = True) -> Header:
    """Read the header that begins at start.

    Raises MalformedPacketError (malformed-ip, bad-checksum) unless version, lengths and checksum agree with the octets.
    """
    available = len(octets) - start
    if available < HEADER_LEN:
        raise MalformedPacketError(Reason.MALFORMED_IP, f"{available} octets are no IPv4 header")
    vihl, tos, total, ident, frag, ttl, proto, _, source, destination = _FORMAT.unpack_from(octets, start)
    ihl = (vihl & 0xF) * 4
    if vihl >> 4 != 4:
        raise MalformedPacketError(Reason.MALFORMED_IP, f"version {vihl >> 4} is not 4")
    if ihl < HEADER_LEN or total < ihl or total > available:
        raise MalformedPacketError(Reason.MALFORMED_IP, f"IHL {ihl}, total length {total}, {available} octets read")
    if verify and checksum(octets[start : start + ihl]) != 0:
        raise MalformedPacketError(Reason.BAD_CHECKSUM, "IPv4 header")
    dont, more, offset = bool(frag & DF), bool(frag & MF), (frag & _OFFSET_MASK) * 8
    return Header(ihl, tos, total, ident, dont, more, offset, ttl, proto, source, destination)


def emit(
    source: bytes,
    destination: bytes,
    protocol: int,
    payload_length: int,
    *,
    ttl: int = DEFAULT_TTL,
    tos: int = 0,
    identification: int = 0,
    fragment: int = DF,
) -> bytes:
    """A header without options, its checksum filled in. `fragment` is the whole flags-and-offset word."""
    head = _FORMAT.pack(
        0x45, tos, HEADER_LEN + payload_length, identification, fragment, ttl, protocol, 0, source, destination
    )
    return head[:10] + checksum(head).to_bytes(2, "big") + head[12:]
