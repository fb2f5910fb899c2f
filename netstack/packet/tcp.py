"""The TCP header and its options (RFC 9293 section 3.1, RFC 7323, RFC 2018)."""

import struct
from collections.abc import Sequence
from typing import Final, NamedTuple

from netstack.packet.reason import MalformedPacketError, Reason

PROTOCOL: Final = 6
HEADER_LEN: Final = 20  # octets, without options
FORMAT: Final = struct.Struct("!HHIIBBHHH")  # ports, seq, ack, data offset, flags, window, checksum, urgent pointer

FIN: Final = 0x01
SYN: Final = 0x02
RST: Final = 0x04
PSH: Final = 0x08
ACK: Final = 0x10
URG: Final = 0x20
ECE: Final = 0x40
CWR: Final = 0x80

CHECKSUM_OFFSET: Final = 16  # octets into the header
DEFAULT_MSS_V4: Final = 536  # octets; RFC 9293 section 3.7.1, where the SYN names none
DEFAULT_MSS_V6: Final = 1220

_END: Final = 0
_NOP: Final = 1
_MSS: Final = 2
_WINDOW_SCALE: Final = 3
_SACK_PERMITTED: Final = 4
_SACK: Final = 5
_TIMESTAMPS: Final = 8
MAX_WINDOW_SCALE: Final = 14  # RFC 7323 section 2.3

TIMESTAMPS_HEAD: Final = 0x0101080A
"""The first four octets of the timestamps option as RFC 7323 appendix A lays it out: NOP, NOP, kind, length."""
TIMESTAMPS_LEN: Final = 12  # octets, with the two NOPs


class Options(NamedTuple):
    """The options we know; None where the segment has none of the kind."""

    mss: int | None = None
    window_scale: int | None = None
    sack_permitted: bool = False
    timestamps: tuple[int, int] | None = None  # TSval, TSecr
    sack: tuple[tuple[int, int], ...] = ()  # left and right edges, as on the wire


NO_OPTIONS: Final = Options()


def parse_options(octets: bytes) -> Options:
    """Read an options field. An option cut off ends the list, as in Linux; what is unknown is passed over."""
    mss: int | None = None
    window_scale: int | None = None
    sack_permitted = False
    timestamps: tuple[int, int] | None = None
    sack: tuple[tuple[int, int], ...] = ()
    at = 0
    end = len(octets)
    while at < end:
        kind = octets[at]
        if kind == _END:
            break
        if kind == _NOP:
            at += 1
            continue
        if at + 1 >= end:
            break
        length = octets[at + 1]
        if length < 2 or at + length > end:
            break
        body = octets[at + 2 : at + length]
        if kind == _TIMESTAMPS and length == 10:
            timestamps = (int.from_bytes(body[:4], "big"), int.from_bytes(body[4:], "big"))
        elif kind == _SACK and (length - 2) % 8 == 0:
            edges = struct.unpack(f"!{len(body) // 4}I", body)
            sack = tuple(zip(edges[::2], edges[1::2], strict=True))
        elif kind == _MSS and length == 4:
            mss = int.from_bytes(body, "big")
        elif kind == _WINDOW_SCALE and length == 3:
            window_scale = min(body[0], MAX_WINDOW_SCALE)
        elif kind == _SACK_PERMITTED and length == 2:
            sack_permitted = True
        at += length
    return Options(mss, window_scale, sack_permitted, timestamps, sack)


def emit_options(options: Options) -> bytes:
    """The options field, padded to a multiple of four octets."""
    parts = []
    if options.mss is not None:
        parts.append(struct.pack("!BBH", _MSS, 4, options.mss))
    if options.sack_permitted:
        parts.append(b"\x04\x02")
    if options.timestamps is not None:
        parts.append(struct.pack("!BBII", _TIMESTAMPS, 10, *options.timestamps))
    if options.window_scale is not None:
        parts.append(struct.pack("!BBB", _WINDOW_SCALE, 3, options.window_scale))
    if options.sack:
        parts.append(struct.pack("!BB", _SACK, 2 + 8 * len(options.sack)))
        parts.extend(struct.pack("!II", left, right) for left, right in options.sack)
    field = b"".join(parts)
    return field + bytes([_NOP]) * (-len(field) % 4)


def emit_timestamps(tsval: int, tsecr: int) -> bytes:
    """The timestamps option as RFC 7323 appendix A lays it out."""
    return struct.pack("!III", TIMESTAMPS_HEAD, tsval, tsecr)


def emit_sack(blocks: Sequence[tuple[int, int]]) -> bytes:
    """A SACK option of at most four blocks, left and right edges, aligned by two NOPs (RFC 2018 section 3)."""
    head = bytes((_NOP, _NOP, _SACK, 2 + 8 * len(blocks)))
    return head + b"".join(struct.pack("!II", left, right) for left, right in blocks)


class Header(NamedTuple):
    """The meaning of a TCP header; data_offset in octets."""

    source_port: int
    destination_port: int
    seq: int
    ack: int
    data_offset: int
    flags: int
    window: int
    options: Options


def parse(octets: bytes, start: int, end: int) -> Header:
    """Read the header at start of a segment that ends at end; raises MalformedPacketError (malformed-tcp)."""
    if end - start < HEADER_LEN or end > len(octets):
        raise MalformedPacketError(Reason.MALFORMED_TCP, f"{end - start} octets are no TCP header")
    sport, dport, seq, ack, offset, flags, window, _, _ = FORMAT.unpack_from(octets, start)
    length = (offset >> 4) * 4
    if not HEADER_LEN <= length <= end - start:
        raise MalformedPacketError(Reason.MALFORMED_TCP, f"data offset {length} of {end - start} octets")
    options = NO_OPTIONS
    if length > HEADER_LEN:
        options = parse_options(octets[start + HEADER_LEN : start + length])
    return Header(sport, dport, seq, ack, length, flags, window, options)
