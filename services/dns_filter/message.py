"""DNS messages as octets: the header, the question, and where each record lies (RFC 1035 section 4.1).

Only what has to be fast or exact is here: finding records and reading names. A message that must be changed is taken
apart and put together by dnspython (rewrite.py).
"""

import struct
from typing import Final, NamedTuple

HEADER_LEN: Final = 12  # octets
MAX_MESSAGE: Final = 65535  # octets; the two-octet length before each message on a stream (RFC 1035 section 4.2.2)
_MAX_NAME: Final = 255  # octets; RFC 1035 section 2.3.4
_POINTER: Final = 0xC0  # the two high bits of a label's length: a pointer (RFC 1035 section 4.1.4)
_MAX_POINTERS: Final = 128  # a name of 255 octets has at most 127 labels, so honest messages need no more

QR: Final = 0x8000
OPCODE: Final = 0x7800
AA: Final = 0x0400
TC: Final = 0x0200
RD: Final = 0x0100
RA: Final = 0x0080
AD: Final = 0x0020
CD: Final = 0x0010
RCODE: Final = 0x000F

NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED = range(6)
BADVERS: Final = 16

A, CNAME, SOA, AAAA, DNAME, OPT, SVCB, HTTPS = 1, 5, 6, 28, 39, 41, 64, 65
IXFR, AXFR, ANY = 251, 252, 255
IN: Final = 1

ANSWER, AUTHORITY, ADDITIONAL = 0, 1, 2

_HEADER: Final = struct.Struct("!HHHHHH")
_RECORD: Final = struct.Struct("!HHIH")  # type, class, TTL, length of the data
_TYPE_NAMES: Final = {
    1: "A", 2: "NS", 5: "CNAME", 6: "SOA", 12: "PTR", 15: "MX", 16: "TXT", 28: "AAAA", 33: "SRV", 35: "NAPTR",
    39: "DNAME", 43: "DS", 46: "RRSIG", 47: "NSEC", 48: "DNSKEY", 50: "NSEC3", 52: "TLSA", 64: "SVCB", 65: "HTTPS",
    251: "IXFR", 252: "AXFR", 255: "ANY", 257: "CAA",
}  # fmt: skip
_RCODE_NAMES: Final = {
    0: "NOERROR", 1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 4: "NOTIMP", 5: "REFUSED", 16: "BADVERS",
}  # fmt: skip


class MalformedMessageError(ValueError):
    """Octets that are no DNS message."""


class Header(NamedTuple):
    """The fixed part of a message."""

    id: int
    flags: int
    qdcount: int
    ancount: int
    nscount: int
    arcount: int


class Record(NamedTuple):
    """Where one record lies; offsets count from the first octet of the message."""

    section: int
    start: int
    rtype: int
    rclass: int
    ttl: int
    ttl_at: int
    data: int
    end: int


def read_header(octets: bytes) -> Header:
    """The header; raises MalformedMessageError where there is none."""
    if len(octets) < HEADER_LEN:
        raise MalformedMessageError(f"{len(octets)} octets hold no header")
    return Header._make(_HEADER.unpack_from(octets))


def emit_header(header: Header) -> bytes:
    """The twelve octets of a header."""
    return _HEADER.pack(*header)


def question_end(octets: bytes) -> int:
    """Where the one question of a message ends. Its name is the first of the message and cannot be compressed."""
    at = HEADER_LEN
    try:
        while length := octets[at]:
            if length >= 64:
                raise MalformedMessageError("compressed name in the question")
            at += 1 + length
    except IndexError:
        raise MalformedMessageError("the question is cut off") from None
    if at + 1 - HEADER_LEN > _MAX_NAME:
        raise MalformedMessageError("a name of more than 255 octets")
    if at + 5 > len(octets):
        raise MalformedMessageError("the question is cut off")
    return at + 5


def walk(octets: bytes, at: int, header: Header) -> list[Record]:
    """Every record from `at` on, in order; raises MalformedMessageError where the counts and the octets disagree."""
    records: list[Record] = []
    end = len(octets)
    for section, count in ((ANSWER, header.ancount), (AUTHORITY, header.nscount), (ADDITIONAL, header.arcount)):
        for _ in range(count):
            start = at
            at = skip_name(octets, at)
            if at + 10 > end:
                raise MalformedMessageError("a record is cut off")
            rtype, rclass, ttl, length = _RECORD.unpack_from(octets, at)
            data = at + 10
            if data + length > end:
                raise MalformedMessageError("a record's data is cut off")
            if ttl > 0x7FFFFFFF:
                ttl = 0  # RFC 2181 section 8
            records.append(Record(section, start, rtype, rclass, ttl, at + 4, data, data + length))
            at = data + length
    return records


def skip_name(octets: bytes, at: int) -> int:
    """Where the name at `at` ends; raises MalformedMessageError."""
    try:
        while length := octets[at]:
            if length >= _POINTER:
                return at + 2
            if length >= 64:
                raise MalformedMessageError("a label of an unknown kind")
            at += 1 + length
    except IndexError:
        raise MalformedMessageError("a name is cut off") from None
    return at + 1


def read_name(octets: bytes, at: int) -> bytes:
    """The name at `at`, decompressed and in lower case, in wire form; raises MalformedMessageError."""
    parts: list[bytes] = []
    size = 1
    jumps = 0
    try:
        while length := octets[at]:
            if length >= _POINTER:
                target = (length & 0x3F) << 8 | octets[at + 1]
                jumps += 1
                # "a prior occurance of the same name" (RFC 1035 section 4.1.4): one that points forward may loop.
                if target >= at or jumps > _MAX_POINTERS:
                    raise MalformedMessageError("a compression pointer that does not point back")
                at = target
                continue
            if length >= 64:
                raise MalformedMessageError("a label of an unknown kind")
            size += 1 + length
            if size > _MAX_NAME:
                raise MalformedMessageError("a name of more than 255 octets")
            label = octets[at : at + 1 + length]
            if len(label) <= length:
                raise MalformedMessageError("a name is cut off")
            parts.append(label)
            at += 1 + length
    except IndexError:
        raise MalformedMessageError("a name is cut off") from None
    parts.append(b"\0")
    # Length octets are below 64, letters above: lower() touches no length.
    return b"".join(parts).lower()


def name_text(name: bytes) -> str:
    """A name in wire form as people write it, without the final dot; "." for the root (RFC 1035 section 5.1)."""
    labels = []
    at = 0
    while length := name[at]:
        label = name[at + 1 : at + 1 + length]
        is_plain = label.replace(b"-", b"").isalnum()  # of bytes: ASCII alone
        labels.append(label.decode("ascii") if is_plain else "".join(map(_character, label)))
        at += 1 + length
    return ".".join(labels) or "."


def is_meta(rtype: int) -> bool:
    """Whether a type is one of messages, not of data: OPT, TSIG and their like (RFC 6895 section 3.1)."""
    return rtype == OPT or 128 <= rtype <= 255


def rcode_text(rcode: int) -> str:
    """An rcode as people write it."""
    return _RCODE_NAMES.get(rcode) or f"RCODE{rcode}"


def type_text(rtype: int) -> str:
    """A type as people write it; TYPE123 for one that has no name here (RFC 3597 section 5)."""
    return _TYPE_NAMES.get(rtype) or f"TYPE{rtype}"


def _character(octet: int) -> str:
    if octet in b'.\\"();@$':
        return "\\" + chr(octet)
    return chr(octet) if 0x21 <= octet <= 0x7E else f"\\{octet:03d}"
