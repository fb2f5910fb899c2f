"""TCP segments in frames: read from the client, and made for it with what never changes in a flow computed once."""

import struct
from typing import Final, NamedTuple

from netstack.packet import frame as frames
from netstack.packet import tcp
from netstack.packet.checksum import checksum, fold, octet_sum, pseudo_sum
from netstack.packet.flow import Flow
from netstack.packet.reason import MalformedPacketError, Reason
from netstack.packet.vnet import F_DATA_VALID, F_NEEDS_CSUM, GSO_NONE, GSO_TCPV4, GSO_TCPV6, VNET_LEN
from netstack.packet.vnet import emit as emit_vnet

_V4_TCP: Final = VNET_LEN + 20
_V6_TCP: Final = VNET_LEN + 40
_V4_KEYED: Final = struct.Struct("!12sIIBBH")  # addresses and ports, seq, ack, data offset, flags, window
_V6_KEYED: Final = struct.Struct("!36sIIBBH")
_V4_KEY_AT: Final = VNET_LEN + 12
_V6_KEY_AT: Final = VNET_LEN + 8

MAX_IP: Final = 65535  # octets; the length fields of both IP versions have 16 bits


class Segment(NamedTuple):
    """One segment of the client."""

    key: bytes
    """Addresses and ports as in the packet; netstack.packet.flow.tcp_key."""
    seq: int
    ack: int
    flags: int
    window: int
    """As on the wire, not scaled."""
    options: bytes
    payload: memoryview

    @property
    def length(self) -> int:
        """SEG.LEN: the octets of data, and one each for SYN and FIN."""
        return len(self.payload) + ((self.flags & tcp.SYN) >> 1) + (self.flags & tcp.FIN)


def parse(octets: bytes) -> Segment:
    """Read a frame that holds TCP; raises MalformedPacketError (malformed-..., bad-checksum, fragment)."""
    if len(octets) < _V4_TCP + tcp.HEADER_LEN:
        raise MalformedPacketError(Reason.MALFORMED_TCP, f"{len(octets)} octets hold no TCP segment")
    trusted = octets[0] & (F_NEEDS_CSUM | F_DATA_VALID)
    if trusted and octets[10] == 0x45 and octets[19] == tcp.PROTOCOL and not (octets[16] & 0x3F or octets[17]):
        upper = _V4_TCP
        end = VNET_LEN + (octets[12] << 8 | octets[13])
        key, seq, ack, offset, flags, window = _V4_KEYED.unpack_from(octets, _V4_KEY_AT)
    elif trusted and octets[10] >> 4 == 6 and octets[16] == tcp.PROTOCOL and len(octets) >= _V6_TCP + tcp.HEADER_LEN:
        upper = _V6_TCP
        end = _V6_TCP + (octets[14] << 8 | octets[15])
        key, seq, ack, offset, flags, window = _V6_KEYED.unpack_from(octets, _V6_KEY_AT)
    else:
        return _parse_slowly(octets)
    header = (offset >> 4) * 4
    if header < tcp.HEADER_LEN or upper + header > end or end > len(octets):
        raise MalformedPacketError(Reason.MALFORMED_TCP, f"data offset {header}, {end - upper} octets of segment")
    options = bytes(octets[upper + tcp.HEADER_LEN : upper + header]) if header > tcp.HEADER_LEN else b""
    return Segment(key, seq, ack, flags, window, options, memoryview(octets)[upper + header : end])


def _parse_slowly(octets: bytes) -> Segment:
    """IP options, extension headers, or a checksum to verify (packets forwarded into the TUN come without offloads)."""
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
    return Segment(
        whole.source + whole.destination + octets[whole.upper : whole.upper + 4],
        header.seq, header.ack, header.flags, header.window,
        bytes(octets[whole.upper + tcp.HEADER_LEN : body]), memoryview(octets)[body : whole.end],
    )  # fmt: skip


def flow_of(key: bytes) -> Flow:
    """The flow that a key stands for."""
    size = (len(key) - 4) // 2
    return Flow(
        tcp.PROTOCOL,
        key[:size], int.from_bytes(key[-4:-2], "big"),
        key[size : 2 * size], int.from_bytes(key[-2:], "big"),
    )  # fmt: skip


class Emitter:
    """Makes the frames of one flow towards its client.

    The checksum field gets the pseudo-header's sum only; the kernel behind the TUN completes it, and cuts what is
    longer than gso_size into segments (netstack.packet.vnet).
    """

    __slots__ = ("_base", "_gso_type", "_head", "_ip_sum", "_plain", "_ports", "gso_size", "is_v6", "max_payload")

    _V4: Final = struct.Struct("!BBHHHBBH8s4sIIBBHHH")
    _V6: Final = struct.Struct("!IHBB32s4sIIBBHHH")

    def __init__(self, flow: Flow, mss: int) -> None:
        self.is_v6 = len(flow.client) == 16
        self._head = flow.server + flow.client
        self._ports = flow.server_port.to_bytes(2, "big") + flow.client_port.to_bytes(2, "big")
        self._base = octet_sum(self._head) + tcp.PROTOCOL
        self._ip_sum = octet_sum(self._head) + 0x4500 + 0x4000 + (64 << 8) + tcp.PROTOCOL
        self._gso_type = GSO_TCPV6 if self.is_v6 else GSO_TCPV4
        ip_length = 40 if self.is_v6 else 20
        self._plain = emit_vnet(GSO_NONE, ip_length + tcp.HEADER_LEN, 0, ip_length, tcp.CHECKSUM_OFFSET)
        self.gso_size = mss
        self.max_payload = 0
        self.set_mss(mss)

    def set_mss(self, mss: int) -> None:
        """Send no segment with more than mss octets of data; frames hold a whole number of them."""
        self.gso_size = mss
        room = MAX_IP - (0 if self.is_v6 else 20) - tcp.HEADER_LEN
        self.max_payload = max(room // mss, 1) * mss

    def emit(
        self, seq: int, ack: int, flags: int, window: int, payload: bytes | memoryview = b"", options: bytes = b""
    ) -> bytes:
        """The frame of one segment, or of a train of them where payload is longer than the MSS."""
        return b"".join((self.head(seq, ack, flags, window, len(payload), options), payload))

    def head(self, seq: int, ack: int, flags: int, window: int, octets: int = 0, options: bytes = b"") -> bytes:
        """What stands in front of so many octets of payload."""
        header = tcp.HEADER_LEN + len(options)
        length = header + octets
        partial = fold(self._base + length)
        if octets > self.gso_size or options:
            gso = octets > self.gso_size
            ip_length = 40 if self.is_v6 else 20
            vnet = emit_vnet(
                self._gso_type if gso else GSO_NONE, ip_length + header, self.gso_size if gso else 0, ip_length,
                tcp.CHECKSUM_OFFSET,
            )  # fmt: skip
        else:
            vnet = self._plain
        if self.is_v6:
            head = self._V6.pack(
                0x60000000, length, tcp.PROTOCOL, 64, self._head, self._ports,
                seq, ack, header << 2, flags, window, partial, 0,
            )  # fmt: skip
        else:
            total = 20 + length
            head = self._V4.pack(
                0x45, 0, total, 0, 0x4000, 64, tcp.PROTOCOL, 0xFFFF - fold(self._ip_sum + total), self._head,
                self._ports, seq, ack, header << 2, flags, window, partial, 0,
            )  # fmt: skip
        return b"".join((vnet, head, options))
