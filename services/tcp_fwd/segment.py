"""TCP segments in frames: read from the client, and made for it with what never changes in a flow computed once."""

import struct
from collections.abc import Callable
from typing import Final

from netstack.packet import frame as frames
from netstack.packet import tcp
from netstack.packet.checksum import checksum, fold, octet_sum, pseudo_sum
from netstack.packet.flow import Flow
from netstack.packet.reason import MalformedPacketError, Reason
from netstack.packet.vnet import F_DATA_VALID, F_NEEDS_CSUM, GSO_NONE, GSO_TCPV4, GSO_TCPV6, VNET_LEN
from netstack.packet.vnet import emit as emit_vnet

_V4_TCP: Final = VNET_LEN + 20
_V6_TCP: Final = VNET_LEN + 40
_TRUSTED: Final = F_NEEDS_CSUM | F_DATA_VALID

# One unpack reads all that is looked at. Of the vnet header, the flags; of the IP header, the length, what says that it
# is a fragment, and the protocol; then addresses and ports as one key, and of the TCP header seq, ack, data offset,
# flags, window. The longer form goes on with the three words of timestamps where RFC 7323 appendix A puts them.
_V4: Final = struct.Struct("!B11xH2xHxB2x12sIIBBH4x").unpack_from
_V4_OPTIONS: Final = struct.Struct("!B11xH2xHxB2x12sIIBBH4xIII").unpack_from
_V6: Final = struct.Struct("!B13xHBx36sIIBBH4x").unpack_from
_V6_OPTIONS: Final = struct.Struct("!B13xHBx36sIIBBH4xIII").unpack_from
_FRAGMENT: Final = 0x3FFF  # more fragments, and the offset
_NO_OPTIONS: Final = tcp.HEADER_LEN << 2  # of the octet that has the data offset
_ONLY_TIMESTAMPS: Final = (tcp.HEADER_LEN + tcp.TIMESTAMPS_LEN) << 2

MAX_IP: Final = 65535  # octets; the length fields of both IP versions have 16 bits
NO_TIMESTAMP: Final = -1

_flow: Final = tuple.__new__  # a NamedTuple without the call of a Python function that its own __new__ is


class Segment:
    """One segment of the client."""

    __slots__ = ("ack", "flags", "key", "options", "payload", "seq", "tsecr", "tsval", "window")

    def __init__(
        self, key: bytes, seq: int, ack: int, flags: int, window: int, options: bytes, payload: bytes | memoryview,
        tsval: int = NO_TIMESTAMP, tsecr: int = NO_TIMESTAMP,
    ) -> None:  # fmt: skip
        self.key = key
        """Addresses and ports as in the packet; netstack.packet.flow.tcp_key."""
        self.seq = seq
        self.ack = ack
        self.flags = flags
        self.window = window
        """As on the wire, not scaled."""
        self.options = options
        """The options field, but for timestamps that stand at its beginning in their usual form; mostly empty."""
        self.payload = payload
        self.tsval = tsval
        self.tsecr = tsecr

    def __repr__(self) -> str:
        return (
            f"<Segment flags={self.flags:#x} seq={self.seq} ack={self.ack} window={self.window}"
            f" options={self.options.hex()} octets={len(self.payload)} tsval={self.tsval} tsecr={self.tsecr}>"
        )

    @property
    def length(self) -> int:
        """SEG.LEN: the octets of data, and one each for SYN and FIN."""
        return len(self.payload) + ((self.flags & tcp.SYN) >> 1) + (self.flags & tcp.FIN)

    def stamped(self, tsval: int, tsecr: int) -> "Segment":
        """The same with these timestamps."""
        return Segment(
            self.key, self.seq, self.ack, self.flags, self.window, self.options, self.payload, tsval, tsecr
        )  # fmt: skip


def parse(octets: bytes | memoryview) -> Segment:
    """Read a frame that holds TCP; raises MalformedPacketError (malformed-..., bad-checksum, fragment).

    The payload of a view is a view.
    """
    size = len(octets)
    if size < _V4_TCP + tcp.HEADER_LEN:
        raise MalformedPacketError(Reason.MALFORMED_TCP, f"{size} octets hold no TCP segment")
    if octets[VNET_LEN] != 0x45:
        return _parse_v6(octets, size)
    kind = tsval = tsecr = 0
    if size >= _V4_TCP + tcp.HEADER_LEN + tcp.TIMESTAMPS_LEN:
        (
            marks, length, fragment, protocol, key, seq, ack, offset, flags, window, kind, tsval, tsecr,
        ) = _V4_OPTIONS(octets)  # fmt: skip
    else:
        marks, length, fragment, protocol, key, seq, ack, offset, flags, window = _V4(octets)
    if not marks & _TRUSTED or protocol != tcp.PROTOCOL or fragment & _FRAGMENT:
        return _parse_slowly(octets)
    end = VNET_LEN + length
    if offset == _ONLY_TIMESTAMPS and kind == tcp.TIMESTAMPS_HEAD and _V4_TCP + 32 <= end <= size:
        return Segment(key, seq, ack, flags, window, b"", _part(octets, _V4_TCP + 32, end), tsval, tsecr)
    if offset == _NO_OPTIONS and _V4_TCP + 20 <= end <= size:
        return Segment(key, seq, ack, flags, window, b"", _part(octets, _V4_TCP + 20, end))
    body = _body(_V4_TCP, offset, end, size)
    options, tsval, tsecr = _options(octets, _V4_TCP, body, (kind, tsval, tsecr))
    return Segment(key, seq, ack, flags, window, options, _part(octets, body, end), tsval, tsecr)


def _part(octets: bytes | memoryview, start: int, end: int) -> bytes | memoryview:
    """Of octets that are few, a copy: two views cost more."""
    if isinstance(octets, bytes):
        return octets[start:end] if end > start else b""
    return octets[start:end]


def _parse_v6(octets: bytes | memoryview, size: int) -> Segment:
    if octets[VNET_LEN] >> 4 != 6 or size < _V6_TCP + tcp.HEADER_LEN:
        return _parse_slowly(octets)
    kind = tsval = tsecr = 0
    if size >= _V6_TCP + tcp.HEADER_LEN + tcp.TIMESTAMPS_LEN:
        marks, length, protocol, key, seq, ack, offset, flags, window, kind, tsval, tsecr = _V6_OPTIONS(octets)
    else:
        marks, length, protocol, key, seq, ack, offset, flags, window = _V6(octets)
    if not marks & _TRUSTED or protocol != tcp.PROTOCOL:
        return _parse_slowly(octets)
    end = _V6_TCP + length
    body = _body(_V6_TCP, offset, end, size)
    options, tsval, tsecr = _options(octets, _V6_TCP, body, (kind, tsval, tsecr))
    return Segment(key, seq, ack, flags, window, options, _part(octets, body, end), tsval, tsecr)


def _body(upper: int, offset: int, end: int, size: int) -> int:
    """Where the data begins."""
    header = (offset >> 4) * 4
    if header < tcp.HEADER_LEN or upper + header > end or end > size:
        raise MalformedPacketError(Reason.MALFORMED_TCP, f"data offset {header}, {end - upper} octets of segment")
    return upper + header


def _options(
    octets: bytes | memoryview, upper: int, body: int, timestamps: tuple[int, int, int]
) -> tuple[bytes, int, int]:
    """What is left of the options field behind timestamps in their usual form, and these."""
    start = upper + tcp.HEADER_LEN
    kind, tsval, tsecr = timestamps
    if kind == tcp.TIMESTAMPS_HEAD and body >= start + tcp.TIMESTAMPS_LEN:
        return bytes(octets[start + tcp.TIMESTAMPS_LEN : body]), tsval, tsecr
    return bytes(octets[start:body]), NO_TIMESTAMP, NO_TIMESTAMP


def _parse_slowly(octets: bytes | memoryview) -> Segment:
    """IP options, extension headers, or a checksum to verify (packets forwarded into the TUN come without offloads)."""
    octets = bytes(octets)
    whole = frames.parse(octets)
    if whole.protocol != tcp.PROTOCOL:
        raise MalformedPacketError(Reason.UNKNOWN_PROTOCOL, f"protocol {whole.protocol} is not TCP")
    header = tcp.parse(octets, whole.upper, whole.end)
    if not whole.trusted:
        length = whole.end - whole.upper
        initial = pseudo_sum(whole.source, whole.destination, tcp.PROTOCOL, length)
        if checksum(octets[whole.upper : whole.end], initial) != 0:
            raise MalformedPacketError(Reason.BAD_CHECKSUM, "TCP")
    body = whole.upper + header.data_offset
    start = whole.upper + tcp.HEADER_LEN
    kind = tsval = tsecr = 0
    if body >= start + tcp.TIMESTAMPS_LEN:
        kind, tsval, tsecr = struct.unpack_from("!III", octets, start)
    options, tsval, tsecr = _options(octets, whole.upper, body, (kind, tsval, tsecr))
    key = bytes(whole.source) + bytes(whole.destination) + bytes(octets[whole.upper : whole.upper + 4])
    return Segment(
        key, header.seq, header.ack, header.flags, header.window, options, memoryview(octets)[body : whole.end],
        tsval, tsecr,
    )  # fmt: skip


def flow_of(key: bytes) -> Flow:
    """The flow that a key stands for."""
    size = (len(key) - 4) // 2
    client_port = key[-4] << 8 | key[-3]
    server_port = key[-2] << 8 | key[-1]
    return _flow(Flow, (tcp.PROTOCOL, key[:size], client_port, key[size : 2 * size], server_port))


class Emitter:
    """Makes the heads of the frames of one flow towards its client: vnet, IP and TCP header.

    The checksum field gets the pseudo-header's sum only; the kernel behind the TUN completes it, and cuts what is
    longer than gso_size into segments (netstack.packet.vnet). What depends on the length alone is kept for the next
    segment of the same length, as most are.
    """

    __slots__ = (
        "_addresses", "_base", "_ip_sum", "_length", "_option_octets", "_pack", "_partial", "_ports", "_start",
        "gso_size", "is_v6", "max_payload", "mss", "timestamps",
    )  # fmt: skip

    # The start (vnet and IP header, ports), seq, ack, data offset and flags, window, checksum; urgent pointer 0.
    _V4: Final = struct.Struct(f"!{_V4_TCP + 4}sIIHHH2x").pack
    _V6: Final = struct.Struct(f"!{_V6_TCP + 4}sIIHHH2x").pack
    _V4_TIMESTAMPS: Final = struct.Struct(f"!{_V4_TCP + 4}sIIHHH2xIII").pack
    _V6_TIMESTAMPS: Final = struct.Struct(f"!{_V6_TCP + 4}sIIHHH2xIII").pack
    _V4_START: Final = struct.Struct("!10sHHHHBBH8s4s").pack
    _V6_START: Final = struct.Struct("!10sIHBB32s4s").pack

    def __init__(self, flow: Flow, mss: int) -> None:
        """mss is what the link's MTU leaves for options and data."""
        self.is_v6 = len(flow.client) == 16
        self._addresses = flow.server + flow.client
        self._ports = flow.server_port.to_bytes(2, "big") + flow.client_port.to_bytes(2, "big")
        self._base = octet_sum(self._addresses) + tcp.PROTOCOL
        self._ip_sum = octet_sum(self._addresses) + 0x4500 + 0x4000 + (64 << 8) + tcp.PROTOCOL
        self._start = b""
        self._partial = 0
        self._length = -1
        self.timestamps = False
        """Each segment made by `head` has the timestamps option."""
        self._option_octets = 0
        self._pack: Callable[..., bytes] = self._V6 if self.is_v6 else self._V4
        self.mss = mss
        self.gso_size = mss
        """Octets of data in one segment."""
        self.max_payload = 0
        """Octets of data in one frame: a whole number of segments."""
        self.set_mss(mss)

    def use_timestamps(self) -> None:
        """The connection has negotiated them: they take their room in every segment."""
        self.timestamps = True
        self._option_octets = tcp.TIMESTAMPS_LEN
        self._pack = self._V6_TIMESTAMPS if self.is_v6 else self._V4_TIMESTAMPS
        self.set_mss(self.mss)

    def set_mss(self, mss: int) -> None:
        """Send no segment with more than mss octets of options and data (RFC 6691)."""
        self.mss = mss
        self.gso_size = mss - self._option_octets
        room = MAX_IP - (0 if self.is_v6 else 20) - tcp.HEADER_LEN - self._option_octets
        self.max_payload = max(room // self.gso_size, 1) * self.gso_size
        self._length = -1

    def head(self, seq: int, ack: int, flags: int, window: int, length: int, tsval: int = 0, tsecr: int = 0) -> bytes:
        """What goes before `length` octets of data, no more than max_payload, with timestamps where they are in use."""
        if length != self._length:
            self._aim(length)
        if self.timestamps:
            return self._pack(
                self._start, seq, ack, _ONLY_TIMESTAMPS << 8 | flags, window, self._partial,
                tcp.TIMESTAMPS_HEAD, tsval, tsecr,
            )  # fmt: skip
        return self._pack(self._start, seq, ack, _NO_OPTIONS << 8 | flags, window, self._partial)

    def _aim(self, length: int) -> None:
        self._start, self._partial = self._started(length, self._option_octets)
        self._length = length

    def _started(self, length: int, option_octets: int) -> tuple[bytes, int]:
        """The octets as far as the ports, and the checksum of the pseudo-header."""
        header = tcp.HEADER_LEN + option_octets
        ip_length = 40 if self.is_v6 else 20
        train = length > self.gso_size
        gso_type = (GSO_TCPV6 if self.is_v6 else GSO_TCPV4) if train else GSO_NONE
        vnet = emit_vnet(
            gso_type, ip_length + header, self.gso_size if train else 0, ip_length, tcp.CHECKSUM_OFFSET
        )  # fmt: skip
        segment = header + length
        partial = fold(self._base + segment)
        if self.is_v6:
            start = self._V6_START(vnet, 0x60000000, segment, tcp.PROTOCOL, 64, self._addresses, self._ports)
            return start, partial
        total = 20 + segment
        ip_checksum = 0xFFFF - fold(self._ip_sum + total)
        start = self._V4_START(
            vnet, 0x4500, total, 0, 0x4000, 64, tcp.PROTOCOL, ip_checksum, self._addresses, self._ports
        )  # fmt: skip
        return start, partial

    def emit(
        self, seq: int, ack: int, flags: int, window: int, payload: bytes | memoryview = b"", options: bytes = b""
    ) -> bytes:
        """A whole frame with these options and no others."""
        start, partial = self._started(len(payload), len(options))
        offset = (tcp.HEADER_LEN + len(options)) << 2
        pack = self._V6 if self.is_v6 else self._V4
        return b"".join((pack(start, seq, ack, offset << 8 | flags, window, partial), options, payload))
