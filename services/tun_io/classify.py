"""What a packet of the client is, and who gets it. No I/O, no clock.

Theory of operation. Nearly every packet is IPv4 without options or IPv6 without extension headers, not a fragment, and
TCP, UDP or an echo request; for these a few octets at fixed places say everything. The rest goes the slow way, through
netstack.packet.frame. Only what spreading needs is read: a forwarder still checks what it gets.

A packet is one of:
  TCP      to tcp_fwd, kept together by addresses and ports (port 53 too: tcp_fwd hands it to dns_filter)
  DNS      UDP to port 53 of any address, to dns_filter
  UDP      to udp_fwd, kept together by the client's endpoint
  ECHO     an ICMP or ICMPv6 echo request, to udp_fwd
  or, to the same ones, an ICMP error of the client's side about what they sent: too big, or nobody listens
  QUIC     UDP to a port of quic.ports while quic.block: refused here
  EXPIRED  its TTL or hop limit ends here
or it is dropped, for the reason of the MalformedPacketError.
"""

from enum import IntEnum
from typing import Final, NamedTuple

from netstack.packet import frame as frames
from netstack.packet import icmp, icmp_error, tcp, udp
from netstack.packet.reason import MalformedPacketError, Reason
from netstack.packet.vnet import VNET_LEN

DNS_PORT: Final = 53
_V4_UPPER: Final = VNET_LEN + 20
_V6_UPPER: Final = VNET_LEN + 40
_SYN_OR_ACK: Final = tcp.SYN | tcp.ACK | tcp.RST


class Kind(IntEnum):
    """What a packet is to tun_io."""

    TCP = 0
    DNS = 1
    UDP = 2
    ECHO = 3
    QUIC = 4
    EXPIRED = 5


class Class(NamedTuple):
    """kind; the key that keeps a flow together; whether the packet may open a flow (for TCP: a SYN without ACK)."""

    kind: Kind
    key: bytes
    opens: bool


class Classifier:
    """Classifies frames under one configuration."""

    def __init__(self, quic_ports: frozenset[int]) -> None:
        """quic_ports is empty where QUIC is not blocked."""
        self._quic_ports = quic_ports

    def classify(self, octets: bytes) -> Class:
        """Say what a frame is; raises MalformedPacketError with the reason for dropping it."""
        length = len(octets)
        if length > _V4_UPPER + 7 and octets[10] == 0x45 and not (octets[16] & 0x3F or octets[17]):
            if not 0 < octets[26] < 224:
                raise _unreachable(octets[26], 4)
            if octets[18] <= 1:
                return Class(Kind.EXPIRED, b"", opens=False)
            protocol = octets[19]
            if protocol == tcp.PROTOCOL:
                if length < _V4_UPPER + tcp.HEADER_LEN:
                    raise MalformedPacketError(Reason.MALFORMED_TCP, f"{length - _V4_UPPER} octets of header")
                return Class(Kind.TCP, octets[22:34], octets[43] & _SYN_OR_ACK == tcp.SYN)
            if protocol == udp.PROTOCOL:
                return self._udp(octets[32] << 8 | octets[33], octets[22:26] + octets[30:32])
            return self._other(octets, protocol, _V4_UPPER, octets[22:26])
        if length > _V6_UPPER + 7 and octets[10] >> 4 == 6 and octets[16] in {tcp.PROTOCOL, udp.PROTOCOL}:
            if octets[34] == 0xFF:
                raise MalformedPacketError(Reason.MULTICAST, "IPv6 multicast")
            if octets[17] <= 1:
                return Class(Kind.EXPIRED, b"", opens=False)
            if octets[16] == udp.PROTOCOL:
                return self._udp(octets[52] << 8 | octets[53], octets[18:34] + octets[50:52])
            if length < _V6_UPPER + tcp.HEADER_LEN:
                raise MalformedPacketError(Reason.MALFORMED_TCP, f"{length - _V6_UPPER} octets of header")
            if octets[63] & _SYN_OR_ACK != tcp.SYN:
                return Class(Kind.TCP, octets[18:54], opens=False)
        return self._slowly(octets)  # what opens a TCP flow too: there the addresses are looked at

    def _udp(self, port: int, key: bytes) -> Class:
        if port == DNS_PORT:
            return Class(Kind.DNS, key, opens=True)
        if port in self._quic_ports:
            return Class(Kind.QUIC, key, opens=False)
        return Class(Kind.UDP, key, opens=True)

    def _other(self, octets: bytes, protocol: int, upper: int, client: bytes) -> Class:
        if protocol == icmp.PROTOCOL or protocol == icmp.PROTOCOL_V6:
            kind = octets[upper : upper + 1]
            request = icmp.ECHO_REQUEST if protocol == icmp.PROTOCOL else icmp.V6_ECHO_REQUEST
            if kind == bytes([request]) and len(octets) >= upper + 8:
                return Class(Kind.ECHO, client + octets[upper + 4 : upper + 6], opens=True)
            return _told(octets)
        raise MalformedPacketError(Reason.UNKNOWN_PROTOCOL, f"protocol {protocol}")

    def _slowly(self, octets: bytes) -> Class:
        whole = frames.parse(octets)
        first = whole.destination[0]
        if first >= (224 if whole.version == 4 else 0xFF) or not (
            first if whole.version == 4 else any(whole.destination)
        ):
            raise _unreachable(first, whole.version)
        if whole.ttl <= 1:
            return Class(Kind.EXPIRED, b"", opens=False)
        upper = whole.upper
        if whole.protocol == tcp.PROTOCOL:
            tcp.parse(octets, upper, whole.end)
            key = whole.source + whole.destination + octets[upper : upper + 4]
            return Class(Kind.TCP, key, octets[upper + 13] & _SYN_OR_ACK == tcp.SYN)
        if whole.protocol == udp.PROTOCOL:
            header = udp.parse(octets, upper, whole.end)
            return self._udp(header.destination_port, whole.source + octets[upper : upper + 2])
        return self._other(octets[: whole.end], whole.protocol, upper, whole.source)


def _told(octets: bytes) -> Class:
    """An ICMP error goes to whoever sent the packet that it quotes, where it says something of use there."""
    error = icmp_error.parse(octets)
    if error.protocol == udp.PROTOCOL and error.server_port == DNS_PORT:
        raise MalformedPacketError(Reason.UNKNOWN_PROTOCOL, "an answer of dns_filter's fits any path")
    if not (error.mtu or (error.protocol == udp.PROTOCOL and error.is_port_unreachable)):
        raise MalformedPacketError(Reason.UNKNOWN_PROTOCOL, "ICMP that is nothing to a forwarder")
    kind = {tcp.PROTOCOL: Kind.TCP, udp.PROTOCOL: Kind.UDP}.get(error.protocol, Kind.ECHO)
    return Class(kind, error.key, opens=False)


def _unreachable(first: int, version: int) -> MalformedPacketError:
    """Why nothing is sent to an address that begins with this octet.

    0.0.0.0/8 and :: stand for no host; a socket that is connected there reaches the very host that it lives on.
    """
    if first == 0:
        return MalformedPacketError(Reason.MALFORMED_IP, "the unspecified address is no destination")
    return MalformedPacketError(Reason.MULTICAST, f"IPv{version} multicast or broadcast")
