"""ICMP echo (RFC 792, RFC 4443): the client's request, what a ping socket is given, and the reply. No I/O."""

import struct
from typing import Final, NamedTuple

from netstack.packet import frame, icmp
from netstack.packet.checksum import checksum, pseudo_sum
from netstack.packet.reason import MalformedPacketError, Reason
from services.udp_fwd.reply import UNKNOWN, Arrived, Sender

_HEADER: Final = struct.Struct("!BBHHH")  # type, code, checksum, identifier, sequence
_HEADER_LEN: Final = 8  # octets
_V4_REPLY: Final = bytes((icmp.ECHO_REPLY, 0))  # type and code
_WORD: Final = 0xFFFF


class Echo(NamedTuple):
    """An echo request of the client."""

    client: bytes
    identifier: int
    server: bytes
    sequence: int
    message: bytes
    """The whole ICMP message; a ping socket puts in its own identifier and checksum."""
    tos: int
    ttl: int
    packet: bytes

    @property
    def flow_label(self) -> int:
        """Of IPv6; 0 for IPv4."""
        return 0 if len(self.client) == 4 else int.from_bytes(self.packet[1:4], "big") & 0xFFFFF


def protocol(address: bytes) -> int:
    """The protocol of echo to this address: 1 (ICMP) or 58 (ICMPv6)."""
    return icmp.PROTOCOL if len(address) == 4 else icmp.PROTOCOL_V6


def parse(octets: bytes) -> Echo:
    """Read a frame that holds an echo request.

    Raises MalformedPacketError: what frame.parse raises, malformed-icmp, bad-checksum, or unknown-protocol for anything
    that is no echo request.
    """
    whole = frame.parse(octets)
    if whole.protocol != protocol(whole.source):
        raise MalformedPacketError(Reason.UNKNOWN_PROTOCOL, f"protocol {whole.protocol} is neither UDP nor echo")
    if whole.end - whole.upper < _HEADER_LEN:
        raise MalformedPacketError(Reason.MALFORMED_ICMP, f"{whole.end - whole.upper} octets are no echo request")
    message = octets[whole.upper : whole.end]
    kind, code, _, identifier, sequence = _HEADER.unpack_from(message)
    request = icmp.ECHO_REQUEST if whole.version == 4 else icmp.V6_ECHO_REQUEST
    if kind != request:
        raise MalformedPacketError(Reason.UNKNOWN_PROTOCOL, f"ICMP type {kind} is no echo request")
    if code != 0:
        raise MalformedPacketError(Reason.MALFORMED_ICMP, f"echo request with code {code}")
    if not whole.trusted and not _verify(whole, message):
        raise MalformedPacketError(Reason.BAD_CHECKSUM, "ICMP")
    return Echo(
        whole.source, identifier, whole.destination, sequence, message, whole.tos, whole.ttl, whole.packet
    )  # fmt: skip


def sequence_of(message: bytes) -> int | None:
    """The sequence number of an echo message as a ping socket gives it back, also from its error queue."""
    if len(message) < _HEADER_LEN:
        return None
    return int.from_bytes(message[6:8], "big")


def reply(sender: Sender, message: bytes, arrived: Arrived = UNKNOWN) -> bytes | None:
    """The frame that brings a reply to the client, whose identifier is the sender's client_port; None where it is no
    echo reply.
    """
    four = len(sender.address) == 4
    if len(message) < _HEADER_LEN or message[0] != (icmp.ECHO_REPLY if four else icmp.V6_ECHO_REPLY):
        return None
    if not four:
        rest = sender.client_port << 16 | message[6] << 8 | message[7]
        body = message[_HEADER_LEN:]
        octets = icmp.emit_v6(sender.address, sender.client, icmp.V6_ECHO_REPLY, 0, rest, body)
        return sender.ip_head(icmp.PROTOCOL_V6, len(octets), arrived) + octets
    # The kernel has looked at the checksum; of what it covers the code and the identifier change (RFC 1624). Of the two
    # forms of zero 0xFFFF is right also where all else is zero.
    port = sender.client_port
    value = ((message[2] + message[4] << 8) + message[1] + message[3] + message[5] - port) % _WORD or _WORD
    ends = (value << 16 | port).to_bytes(4, "big")
    return b"".join((sender.ip_head(icmp.PROTOCOL, len(message), arrived), _V4_REPLY, ends, message[6:]))


def _verify(whole: frame.Frame, message: bytes) -> bool:
    if whole.version == 4:
        return checksum(message) == 0
    return checksum(message, pseudo_sum(whole.source, whole.destination, icmp.PROTOCOL_V6, len(message))) == 0
