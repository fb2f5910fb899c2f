"""The short way of echo requests that are alike, as those of one `ping` are. No I/O.

They differ in the sequence number, what they carry, the checksums and the identification. A lane knows the rest of one
that went the long way, through services.udp_fwd.echo and the flow table.
"""

from typing import Final, Generic, TypeVar

from netstack.packet import icmp, ipv4, ipv6
from netstack.packet.checksum import pseudo_sum
from netstack.packet.vnet import NO_OFFLOAD, VNET_LEN
from services.udp_fwd.lane import Frame
from services.udp_fwd.outgoing import Header

V4_MESSAGE: Final = VNET_LEN + ipv4.HEADER_LEN
V6_MESSAGE: Final = VNET_LEN + ipv6.HEADER_LEN
_ECHO: Final = 8  # octets of an echo header (RFC 792)
_PLAIN_V4: Final = 0x45
_WORD: Final = 0xFFFF
_number: Final = int.from_bytes

Where = TypeVar("Where")


class EchoLane(Generic[Where]):
    """What the requests under one identifier to one address have in common."""

    __slots__ = ("destination", "head", "header", "message", "middle", "pseudo", "sum")

    def __init__(self, frame: Frame, destination: Where, header: Header) -> None:
        """The frame is one of them that was found right and plain; header is what of it is carried over."""
        self.destination = destination
        self.header = header
        self.sum = self.pseudo = 0
        octets = bytes(frame[:V6_MESSAGE])
        if octets[VNET_LEN] == _PLAIN_V4:
            self.message = V4_MESSAGE
            self.head = octets[:12]
            self.middle = octets[16:20]
            self.sum = _changing(octets)
        else:
            self.message = V6_MESSAGE
            self.head = octets[:14]
            self.middle = octets[16:18]
            self.pseudo = pseudo_sum(octets[18:34], octets[34:50], icmp.PROTOCOL_V6, 0)


class EchoLanes(Generic[Where]):
    """All of them, by addresses and identifier as they stand in the frame."""

    def __init__(self) -> None:
        self._lanes: dict[bytes, EchoLane[Where]] = {}

    def __len__(self) -> int:
        return len(self._lanes)

    def find(self, frame: bytes) -> EchoLane[Where] | None:
        """The lane that a frame fits: the headers that it knows, every length and both checksums right."""
        octets = len(frame)
        if octets < V4_MESSAGE + _ECHO:
            return None
        if frame[VNET_LEN] == _PLAIN_V4:
            lane = self._lanes.get(frame[22:32] + frame[34:36])
            if (
                lane is None
                or frame[:12] != lane.head
                or frame[16:20] != lane.middle
                or frame[12] << 8 | frame[13] != octets - VNET_LEN
                # All other words of the header are those of one whose checksum is right (RFC 1624).
                or _changing(frame) != lane.sum
            ):
                return None
        elif octets >= V6_MESSAGE + _ECHO:
            lane = self._lanes.get(frame[18:52] + frame[54:56])
            if (
                lane is None
                or frame[:14] != lane.head
                or frame[16:18] != lane.middle
                or frame[14] << 8 | frame[15] != octets - V6_MESSAGE
            ):  # fmt: skip
                return None
        else:
            return None
        # The sum of all words is that of the number which they make, for 2^16 is 1 modulo 2^16 - 1 (RFC 1071).
        summed = _number(frame[lane.message :], "big")
        if octets & 1:  # the headers in front are even
            summed <<= 8
        if lane.pseudo:
            summed += lane.pseudo + octets - lane.message
        return None if summed % _WORD else lane

    def add(self, frame: Frame, destination: Where, header: Header) -> bytes:
        """From here on what is like this frame goes the short way. Gives the key, by which to remove it."""
        four = frame[VNET_LEN] == _PLAIN_V4
        key = bytes(frame[22:32]) + bytes(frame[34:36]) if four else bytes(frame[18:52]) + bytes(frame[54:56])
        self._lanes[key] = EchoLane(frame, destination, header)
        return key

    def remove(self, key: bytes) -> None:
        """Its destination is no longer to be sent to."""
        del self._lanes[key]


def _changing(frame: bytes) -> int:
    """The sum of what differs in IPv4 headers that are alike: total length, identification and checksum."""
    return ((frame[12] + frame[14] + frame[20] << 8) + frame[13] + frame[15] + frame[21]) % _WORD


def can_be(frame: Frame) -> bool:
    """Whether an echo request that was found right and is plain may stand for those to come.

    Nothing of it was left to the offload, and it has no padding.
    """
    if frame[:VNET_LEN] != NO_OFFLOAD:
        return False
    if frame[VNET_LEN] == _PLAIN_V4:
        return int.from_bytes(frame[12:14], "big") == len(frame) - VNET_LEN
    return int.from_bytes(frame[14:16], "big") == len(frame) - V6_MESSAGE
