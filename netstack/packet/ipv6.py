"""The IPv6 header and the walk over its extension headers (RFC 8200)."""

import struct
from typing import Final, NamedTuple

from netstack.packet import extension
from netstack.packet.reason import MalformedPacketError, Reason

HEADER_LEN: Final = 40  # octets
DEFAULT_HOP_LIMIT: Final = 64
_FORMAT: Final = struct.Struct("!IHBB16s16s")

HOP_BY_HOP: Final = 0
ROUTING: Final = 43
FRAGMENT: Final = 44
DESTINATION_OPTIONS: Final = 60
NO_NEXT_HEADER: Final = 59
_SKIPPED: Final = frozenset({HOP_BY_HOP, ROUTING, DESTINATION_OPTIONS})
MAX_EXTENSIONS: Final = 8  # headers; RFC 8504 section 5.3 suggests a limit of at most 8 where a host chooses one


class Header(NamedTuple):
    """The meaning of an IPv6 header; lengths in octets."""

    traffic_class: int
    flow_label: int
    payload_length: int
    next_header: int
    hop_limit: int
    source: bytes
    destination: bytes


class Upper(NamedTuple):
    """Where the upper layer begins: its protocol, its offset from the first octet of the IPv6 header, and whether the
    walk went through a fragment header (in which case only the first fragment has ports to read).
    """

    protocol: int
    offset: int
    is_fragment: bool
    fragment_header: int


def parse(octets: bytes, start: int = 0) -> Header:
    """Read the fixed header at start; raises MalformedPacketError (malformed-ip)."""
    available = len(octets) - start
    if available < HEADER_LEN:
        raise MalformedPacketError(Reason.MALFORMED_IP, f"{available} octets are no IPv6 header")
    word, length, next_header, hop_limit, source, destination = _FORMAT.unpack_from(octets, start)
    if word >> 28 != 6:
        raise MalformedPacketError(Reason.MALFORMED_IP, f"version {word >> 28} is not 6")
    if HEADER_LEN + length > available:
        raise MalformedPacketError(Reason.MALFORMED_IP, f"payload length {length} in {available} octets")
    return Header(word >> 20 & 0xFF, word & 0xFFFFF, length, next_header, hop_limit, source, destination)


def walk(octets: bytes, header: Header, start: int = 0) -> Upper:
    """Follow the extension headers to the upper layer, at most MAX_EXTENSIONS of them.

    Raises MalformedPacketError: malformed-extension where the chain leaves the packet, is too long, or puts hop-by-hop
    options anywhere but first (RFC 8200 section 4.1); unknown-option and routing-header for what may not be ignored.
    """
    protocol = header.next_header
    offset = HEADER_LEN
    end = HEADER_LEN + header.payload_length
    is_fragment = False
    fragment_header = 0
    for index in range(MAX_EXTENSIONS + 1):
        if protocol in _SKIPPED:
            if protocol == HOP_BY_HOP and index:
                raise MalformedPacketError(Reason.MALFORMED_EXTENSION, "hop-by-hop options are not first")
            if offset + 8 > end:
                raise MalformedPacketError(Reason.MALFORMED_EXTENSION, "the chain leaves the packet")
            length = (octets[start + offset + 1] + 1) * 8
            if offset + length > end:
                raise MalformedPacketError(Reason.MALFORMED_EXTENSION, "the chain leaves the packet")
            if protocol == ROUTING:
                extension.check_routing(octets, offset, start)
            else:
                extension.check_options(octets, offset, length, start)
        elif protocol == FRAGMENT:
            if offset + 8 > end or is_fragment:
                raise MalformedPacketError(Reason.MALFORMED_EXTENSION, "fragment header cut off or repeated")
            is_fragment = True
            fragment_header = offset
            length = 8
            if int.from_bytes(octets[start + offset + 2 : start + offset + 4], "big") >> 3:
                return Upper(octets[start + offset], offset + 8, is_fragment, fragment_header)
        else:
            return Upper(protocol, offset, is_fragment, fragment_header)
        protocol = octets[start + offset]
        offset += length
    raise MalformedPacketError(Reason.MALFORMED_EXTENSION, f"more than {MAX_EXTENSIONS} extension headers")


def last_link(octets: bytes | bytearray, upper: int) -> int:
    """Where, in headers that `walk` has followed up to the offset `upper`, the last Next Header field is."""
    link, at = 6, HEADER_LEN
    while at < upper:
        length = 8 if octets[link] == FRAGMENT else (octets[at + 1] + 1) * 8
        link, at = at, at + length
    return link


def emit(
    source: bytes,
    destination: bytes,
    next_header: int,
    payload_length: int,
    *,
    hop_limit: int = DEFAULT_HOP_LIMIT,
    traffic_class: int = 0,
    flow_label: int = 0,
) -> bytes:
    """A fixed header without extensions."""
    word = 6 << 28 | traffic_class << 20 | flow_label
    return _FORMAT.pack(word, payload_length, next_header, hop_limit, source, destination)
