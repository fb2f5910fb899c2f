"""ICMP errors of the client's side: what a host or router there says of a packet that was sent to the client."""

from typing import Final, NamedTuple

from netstack.packet import frame, icmp, ipv4, ipv6, tcp, udp
from netstack.packet.checksum import checksum, pseudo_sum
from netstack.packet.flow import endpoint_key, tcp_key
from netstack.packet.reason import MalformedPacketError, Reason

MIN_MTU_V4: Final = 552  # octets; Linux's min_pmtu: a forged error must not make packets tiny
MIN_MTU_V6: Final = 1280  # RFC 8200 section 5

_HEADER: Final = 8  # octets of ICMP
_QUOTED: Final = 8  # octets of the transport header that are quoted at the least (RFC 792)
_NO_MTU_V4: Final = (32000, 17914, 8166, 4352, 2002, 1492, 1006, MIN_MTU_V4)
"""What a router that names no MTU may have meant: RFC 1191 section 7."""


class IcmpError(NamedTuple):
    """An error, and the packet that it quotes: one from a server to the client."""

    kind: int
    code: int
    rest: int
    """The second word of the header."""
    protocol: int
    server: bytes
    server_port: int
    """As for `port`; of an echo reply 0."""
    client: bytes
    port: int
    """The client's; of an echo reply its identifier."""
    length: int
    """Octets of the packet that it quotes."""
    seq: int
    """Of TCP."""

    @property
    def key(self) -> bytes:
        """Whose flow it is about (netstack.packet.flow)."""
        if self.protocol == tcp.PROTOCOL:
            return tcp_key(self.client, self.port, self.server, self.server_port)
        return endpoint_key(self.client, self.port)

    @property
    def mtu(self) -> int:
        """What the path takes, in octets, where the packet was too big for it; 0 where it says something else."""
        if len(self.client) == 16:
            return max(self.rest, MIN_MTU_V6) if self.kind == icmp.V6_PACKET_TOO_BIG else 0
        if (self.kind, self.code) != (icmp.UNREACHABLE, icmp.FRAGMENTATION_NEEDED):
            return 0
        told = self.rest & 0xFFFF
        return max(told or next((each for each in _NO_MTU_V4 if each < self.length), MIN_MTU_V4), MIN_MTU_V4)

    @property
    def is_port_unreachable(self) -> bool:
        """Nobody listens there."""
        if len(self.client) == 16:
            return (self.kind, self.code) == (icmp.V6_UNREACHABLE, icmp.V6_PORT_UNREACHABLE)
        return (self.kind, self.code) == (icmp.UNREACHABLE, icmp.PORT_UNREACHABLE)


def parse(octets: bytes) -> IcmpError:
    """Read a frame that holds an ICMP error.

    Raises MalformedPacketError: what frame.parse raises, malformed-icmp, bad-checksum, or unknown-protocol where it is
    no ICMP error about a TCP segment, a UDP datagram or an echo reply.
    """
    whole = frame.parse(octets)
    four = whole.version == 4
    message = octets[whole.upper : whole.end]
    if whole.protocol != (icmp.PROTOCOL if four else icmp.PROTOCOL_V6) or not _is_error(message[:1], four=four):
        raise MalformedPacketError(Reason.UNKNOWN_PROTOCOL, "no ICMP error")
    initial = 0 if four else pseudo_sum(whole.source, whole.destination, icmp.PROTOCOL_V6, len(message))
    if not whole.trusted and checksum(message, initial) != 0:
        raise MalformedPacketError(Reason.BAD_CHECKSUM, "ICMP")
    quote = message[_HEADER:]
    server, client, protocol, length, upper = _quoted_v4(quote) if four else _quoted_v6(quote)
    if server != whole.destination:
        raise MalformedPacketError(Reason.MALFORMED_ICMP, "an error goes to the source of what it quotes")
    if len(upper) < _QUOTED:
        raise MalformedPacketError(Reason.MALFORMED_ICMP, f"{len(upper)} octets of transport header are quoted")
    rest = int.from_bytes(message[4:8], "big")
    first, second, seq = (int.from_bytes(upper[at : at + size], "big") for at, size in ((0, 2), (2, 2), (4, 4)))
    if protocol in {tcp.PROTOCOL, udp.PROTOCOL}:
        return IcmpError(message[0], message[1], rest, protocol, server, first, client, second, length, seq)
    reply = icmp.ECHO_REPLY if four else icmp.V6_ECHO_REPLY
    if protocol != whole.protocol or upper[0] != reply:
        raise MalformedPacketError(Reason.UNKNOWN_PROTOCOL, f"an ICMP error about protocol {protocol}")
    return IcmpError(message[0], message[1], rest, protocol, server, 0, client, seq >> 16, length, 0)


def _is_error(kind: bytes, *, four: bool) -> bool:
    if four:
        return kind in {bytes([icmp.UNREACHABLE]), bytes([icmp.TIME_EXCEEDED]), bytes([icmp.PARAMETER_PROBLEM])}
    return b"" < kind < bytes([icmp.V6_ECHO_REQUEST])


def _quoted_v4(quote: bytes) -> tuple[bytes, bytes, int, int, bytes]:
    """Source, destination, protocol, length and the transport header of a packet of which only the start is there."""
    ihl = (quote[0] & 0xF) * 4 if quote else 0
    if len(quote) < ipv4.HEADER_LEN or quote[0] >> 4 != 4 or ihl < ipv4.HEADER_LEN:
        raise MalformedPacketError(Reason.MALFORMED_ICMP, f"{len(quote)} octets quoted are no IPv4 packet")
    if int.from_bytes(quote[6:8], "big") & 0x1FFF:
        raise MalformedPacketError(Reason.UNKNOWN_PROTOCOL, "an ICMP error about a later fragment")
    return quote[12:16], quote[16:20], quote[9], int.from_bytes(quote[2:4], "big"), quote[ihl:]


def _quoted_v6(quote: bytes) -> tuple[bytes, bytes, int, int, bytes]:
    """The same; of extension headers this side sends only that of a fragment."""
    if len(quote) < ipv6.HEADER_LEN or quote[0] >> 4 != 6:
        raise MalformedPacketError(Reason.MALFORMED_ICMP, f"{len(quote)} octets quoted are no IPv6 packet")
    protocol, upper = quote[6], ipv6.HEADER_LEN
    if protocol == ipv6.FRAGMENT and len(quote) >= upper + 8:
        if int.from_bytes(quote[upper + 2 : upper + 4], "big") >> 3:
            raise MalformedPacketError(Reason.UNKNOWN_PROTOCOL, "an ICMP error about a later fragment")
        protocol, upper = quote[upper], upper + 8
    return quote[8:24], quote[24:40], protocol, ipv6.HEADER_LEN + int.from_bytes(quote[4:6], "big"), quote[upper:]
