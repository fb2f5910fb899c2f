"""What is read from the TUN: a virtio_net_hdr and an IP packet, taken apart as far as the transport header."""

from typing import Final, NamedTuple

from netstack.packet import ipv4, ipv6, vnet
from netstack.packet.reason import MalformedPacketError, Reason
from netstack.packet.scope import MAPPED
from netstack.packet.vnet import VNET_LEN

IP: Final = VNET_LEN
"""Where the IP header begins in a frame."""


class Frame(NamedTuple):
    """One packet of the client; offsets count from the first octet of `octets`."""

    octets: bytes
    version: int
    protocol: int
    source: bytes
    destination: bytes
    ttl: int
    tos: int
    upper: int
    """Where the transport header begins."""
    end: int
    """Where the IP packet ends; what follows is padding."""
    trusted: bool
    """The checksum field holds only the pseudo-header's sum (or was verified): do not verify."""
    gso_type: int
    gso_size: int

    @property
    def packet(self) -> bytes:
        """The IP packet alone."""
        return self.octets[IP : self.end]


def parse(octets: bytes) -> Frame:
    """Take a frame apart.

    IPv4-mapped addresses (RFC 4291 section 2.5.5.2) are refused: sockets take them for IPv4, past any rule for that.

    Raises MalformedPacketError: malformed-vnet, malformed-ip, malformed-extension, unknown-option, routing-header,
    bad-checksum, or fragment, since a later fragment has no transport header (whoever reassembles does so before).
    """
    if len(octets) <= VNET_LEN:
        raise MalformedPacketError(Reason.MALFORMED_VNET, f"{len(octets)} octets hold no packet")
    flags, gso_type, _, gso_size, _, _ = vnet.parse(octets)
    trusted = bool(flags & (vnet.F_NEEDS_CSUM | vnet.F_DATA_VALID))
    version = octets[IP] >> 4
    if version == 4:
        ip = ipv4.parse(octets, IP)
        if ip.is_fragment:
            raise MalformedPacketError(Reason.FRAGMENT, "IPv4 fragment")
        upper, end = IP + ip.ihl, IP + ip.total_length
        return Frame(
            octets, 4, ip.protocol, ip.source, ip.destination, ip.ttl, ip.tos, upper, end, trusted, gso_type, gso_size
        )
    if version == 6:
        ip6 = ipv6.parse(octets, IP)
        if ip6.source[:12] == MAPPED or ip6.destination[:12] == MAPPED:
            raise MalformedPacketError(Reason.MALFORMED_IP, "an IPv4-mapped address is no address of a packet")
        walked = ipv6.walk(octets, ip6, IP)
        if walked.is_fragment:
            raise MalformedPacketError(Reason.FRAGMENT, "IPv6 fragment")
        upper, end = IP + walked.offset, IP + ipv6.HEADER_LEN + ip6.payload_length
        protocol, ttl, tos = walked.protocol, ip6.hop_limit, ip6.traffic_class
        return Frame(
            octets, 6, protocol, ip6.source, ip6.destination, ttl, tos, upper, end, trusted, gso_type, gso_size
        )
    raise MalformedPacketError(Reason.MALFORMED_IP, f"IP version {version}")
