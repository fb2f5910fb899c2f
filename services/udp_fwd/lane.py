"""The short way of a flow whose datagrams are alike: what they have in common is looked at once. No I/O.

Two datagrams of one flow mostly differ in their length, the identification and the checksums, and in what they carry.
A lane knows the rest of a datagram that went the long way, through netstack.packet.datagram and the flow table. Those
that fit it, one after the other, of one size (the last may be shorter), are collected to leave in one call.
"""

import struct
import sys
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

# virtio_net_hdr to TOS, total length, identification, fragment to protocol, checksum, addresses and ports, UDP length
_V4: Final = struct.Struct("!12sHH4sH12sH")
# virtio_net_hdr to flow label, payload length, next header and hop limit, addresses and ports, UDP length
_V6: Final = struct.Struct("!14sH2s36sH")

Where = TypeVar("Where")
Frame = bytes | memoryview


class Lane(Generic[Where]):
    """What the datagrams of one flow have in common, and those that are about to leave."""

    __slots__ = (
        "_last",
        "_most",
        "_size",
        "_start",
        "destination",
        "head",
        "header",
        "middle",
        "parts",
        "segment",
        "sum",
    )

    def __init__(self, frame: Frame, destination: Where, header: Header) -> None:
        """The frame is one of them that was found right and plain; header is what of it is carried over.

        Only frames for which `can_be` is true have a lane.
        """
        self.destination = destination
        self.header = header
        if frame[VNET_LEN] == _PLAIN_V4:
            self._start = _V4_START
            self.head, total, identification, self.middle, checksum, _, _ = _V4.unpack_from(frame)
            self.sum = (total + identification + checksum) % 0xFFFF
        else:
            self._start = _V6_START
            self.head, _, self.middle, _, _ = _V6.unpack_from(frame)
            self.sum = 0
        self.segment = int.from_bytes(frame[4:6], sys.byteorder) if frame[1] == vnet.GSO_UDP_L4 else 0
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
        return bytes(self._last[VNET_LEN : _V4_QUOTE if self._start == _V4_START else _V6_QUOTE])

    def add(self, frame: Frame) -> bool:
        """Let a frame that fits leave with the others; False where they must leave first."""
        payload = frame[self._start :]
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


class Lanes(Generic[Where]):
    """All of them, by addresses and ports as they stand in the frame."""

    def __init__(self) -> None:
        self._lanes: dict[bytes, Lane[Where]] = {}

    def __len__(self) -> int:
        return len(self._lanes)

    def find(self, frame: Frame) -> Lane[Where] | None:
        """The lane that a frame fits: the header that it knows, and every length and the header's checksum right."""
        octets = len(frame)
        if octets < _V4_START:
            return None
        if frame[VNET_LEN] == _PLAIN_V4:
            head, total, identification, middle, checksum, key, length = _V4.unpack_from(frame)
            lane = self._lanes.get(key)
            if (
                lane is not None
                and head == lane.head
                and middle == lane.middle
                and total == octets - VNET_LEN
                and length == total - ipv4.HEADER_LEN
                # All other words of the header are those of one whose checksum is right (RFC 1624).
                and (total + identification + checksum) % 0xFFFF == lane.sum
            ):
                return lane
        elif octets >= _V6_START:
            head, total, middle, key, length = _V6.unpack_from(frame)
            lane = self._lanes.get(key)
            if (
                lane is not None
                and head == lane.head
                and middle == lane.middle
                and total == octets - VNET_LEN - ipv6.HEADER_LEN
                and length == total
            ):
                return lane
        return None

    def add(self, frame: Frame, destination: Where, header: Header) -> bytes:
        """From here on what is like this frame (see Lane) goes the short way. Gives the key, by which to remove it."""
        key = bytes(frame[22:34] if frame[VNET_LEN] == _PLAIN_V4 else frame[18:54])
        self._lanes[key] = Lane(frame, destination, header)
        return key

    def remove(self, key: bytes) -> None:
        """Its destination is no longer to be sent to."""
        del self._lanes[key]


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
