"""The short way of a flow whose datagrams are alike: what they have in common is looked at once. No I/O.

Two datagrams of one flow mostly differ in their length, the identification and the checksums, and in what they carry.
A lane knows the rest of a datagram that went the long way, through netstack.packet.datagram and the flow table. Those
that fit it, one after the other, of one size (the last may be shorter), are collected to leave in one call.
"""

from typing import Final, Generic, TypeVar

from netstack.packet import ipv4, ipv6, udp, vnet
from netstack.packet.vnet import VNET_LEN
from services.udp_fwd.outgoing import Header

MAX_SEGMENTS: Final = 64  # UDP_MAX_SEGMENTS of linux/udp.h before 6.10; 128 since
MAX_OCTETS: Final = 65000  # of payload; with headers a train must stay below 65,536

_V4_START: Final = VNET_LEN + ipv4.HEADER_LEN + udp.HEADER_LEN
_V6_START: Final = VNET_LEN + ipv6.HEADER_LEN + udp.HEADER_LEN
_V4_QUOTE: Final = VNET_LEN + 576  # octets of a frame; more is never quoted (netstack.packet.icmp)
_V6_QUOTE: Final = VNET_LEN + 1280
_PLAIN_V4: Final = 0x45

Where = TypeVar("Where")
Frame = bytes | memoryview


def key_of(frame: Frame) -> bytes:
    """Which lane a frame could be for: addresses and ports where plain UDP has them; any octets of what is not that."""
    if len(frame) < _V4_START:
        return b""
    return bytes(frame[22:34]) if frame[VNET_LEN] == _PLAIN_V4 else bytes(frame[18:54])


class Lane(Generic[Where]):
    """What the datagrams of one flow have in common, and those that are about to leave."""

    __slots__ = ("_head", "_is_v4", "_last", "_middle", "_most", "_size", "destination", "header", "parts", "segment")

    def __init__(self, frame: Frame, destination: Where, header: Header) -> None:
        """The frame is one of them that was found right, plain, and of this key; header is what of it is carried over.

        Only frames for which `can_be` is true have a lane.
        """
        self.destination = destination
        self.header = header
        self._is_v4 = frame[VNET_LEN] == _PLAIN_V4
        self._head = bytes(frame[:12] if self._is_v4 else frame[:14])
        self._middle = bytes(frame[16:20] if self._is_v4 else frame[16:18])
        _, gso_type, _, gso_size, _, _ = vnet.parse(bytes(frame[:VNET_LEN]))
        self.segment = gso_size if gso_type == vnet.GSO_UDP_L4 else 0
        """Where each frame is a train of the client's own: the octets of its datagrams."""
        self.parts: list[Frame] = []
        """Payloads; together they are the octets of the datagrams that are to leave."""
        self._last = frame
        self._size = 0
        self._most = 0

    @property
    def size(self) -> int:
        """Octets of each datagram that is to leave; the last may be shorter."""
        return self.segment or self._size

    @property
    def quote(self) -> bytes:
        """Of the packet that was added last, what an ICMP error may quote. The frame must still be there."""
        return bytes(self._last[VNET_LEN : _V4_QUOTE if self._is_v4 else _V6_QUOTE])

    def fits(self, frame: Frame) -> bool:
        """Whether a frame with this lane's key is right, and has the header that the lane knows."""
        length = len(frame)
        if self._is_v4:
            return (
                frame[:12] == self._head
                and frame[16:20] == self._middle
                and frame[12] << 8 | frame[13] == length - VNET_LEN
                and frame[34] << 8 | frame[35] == length - VNET_LEN - ipv4.HEADER_LEN
                # The header's checksum: see netstack.packet.checksum.
                and int.from_bytes(frame[10:30], "big") % 0xFFFF == 0
            )
        return (
            frame[:14] == self._head
            and frame[16:18] == self._middle
            and frame[14] << 8 | frame[15] == length - VNET_LEN - ipv6.HEADER_LEN
            and frame[54:56] == frame[14:16]
        )

    def add(self, frame: Frame) -> bool:
        """Let a frame that fits leave with the others; False where they must leave first."""
        payload = frame[_V4_START if self._is_v4 else _V6_START :]
        size = len(payload)
        parts = self.parts
        if not parts:
            self._size = size
            self._most = 1 if self.segment or not size else max(1, min(MAX_SEGMENTS, MAX_OCTETS // size))
        elif size > self._size or len(parts) >= self._most or not size:
            return False
        elif size < self._size:
            self._most = 0  # it is the last
        parts.append(payload)
        self._last = frame
        return True

    def take(self) -> list[Frame]:
        """What is to leave now; the lane is empty after it, and holds no frame."""
        parts = self.parts
        self.parts = []
        self._last = b""
        return parts


def can_be(frame: Frame) -> bool:
    """Whether a frame of UDP that was found right and is plain may stand for those to come.

    Its checksum was left to the offload, and it has no padding; the client's train is not longer than one call takes.
    """
    is_v4 = frame[VNET_LEN] == _PLAIN_V4
    flags, gso_type, _, gso_size, _, _ = vnet.parse(bytes(frame[:VNET_LEN]))
    if not flags & (vnet.F_NEEDS_CSUM | vnet.F_DATA_VALID):
        return False
    if is_v4:
        is_whole = int.from_bytes(frame[12:14], "big") == len(frame) - VNET_LEN
    else:
        is_whole = int.from_bytes(frame[14:16], "big") == len(frame) - VNET_LEN - ipv6.HEADER_LEN
    payload = len(frame) - (_V4_START if is_v4 else _V6_START)
    if gso_type == vnet.GSO_UDP_L4:
        return is_whole and gso_size > 0 and payload <= min(MAX_OCTETS, MAX_SEGMENTS * gso_size)
    return is_whole and gso_type == vnet.GSO_NONE
