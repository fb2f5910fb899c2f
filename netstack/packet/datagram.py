"""UDP datagrams in frames: one on the way in (or several, where the sender used UDP_SEGMENT), one on the way out."""

import struct
from typing import Final, NamedTuple

from netstack.packet import frame, ipv4, ipv6, udp, vnet
from netstack.packet.checksum import pseudo_sum
from netstack.packet.reason import MalformedPacketError, Reason
from netstack.packet.scope import MAPPED

# virtio_net_hdr (of which nothing in network byte order is read but octets), IPv4 without options, UDP.
_PLAIN: Final = struct.Struct("!BB8xBBHHHBB2x4s4sHHHH")
_PLAIN_LEN: Final = vnet.VNET_LEN + ipv4.HEADER_LEN + udp.HEADER_LEN
# The same of IPv6 without extension headers.
_PLAIN_V6: Final = struct.Struct("!BB8xIHBB16s16sHHHH")
_PLAIN_V6_LEN: Final = vnet.VNET_LEN + ipv6.HEADER_LEN + udp.HEADER_LEN
_HEAD_V4: Final = struct.Struct("!10sBBHHHBBH4s4sHHHH")

_CHECKSUM_AT: Final = 6  # octets into the UDP header


class Datagram(NamedTuple):
    """What a client sent over UDP."""

    client: bytes
    client_port: int
    server: bytes
    server_port: int
    payloads: list[bytes]
    """Mostly one; more where the kernel handed over a segmentation-offloaded train of equal datagrams."""
    tos: int
    ttl: int
    packet: bytes
    """The IP packet, for an ICMP error to quote."""

    @property
    def flow_label(self) -> int:
        """Of IPv6 (RFC 6437); 0 for IPv4."""
        return 0 if len(self.client) == 4 else int.from_bytes(self.packet[1:4], "big") & 0xFFFFF


def parse(octets: bytes) -> Datagram:
    """Read a frame that holds UDP; raises MalformedPacketError (also bad-checksum and fragment)."""
    return _parse_plain(octets) or _parse_plain_v6(octets) or _parse_any(octets)


def _parse_plain(octets: bytes) -> Datagram | None:
    """What nearly every datagram is, in a third of the time; None for whatever is not exactly that.

    One datagram over IPv4 without options, no fragment, no padding, its UDP checksum left to the offload.
    """
    if len(octets) < _PLAIN_LEN:
        return None
    (
        flags, gso_type, vihl, tos, total, _, fragment, ttl, protocol, client, server,
        client_port, server_port, length, _,
    ) = _PLAIN.unpack_from(octets)  # fmt: skip
    if (
        vihl != 0x45
        or protocol != udp.PROTOCOL
        or not flags & (vnet.F_NEEDS_CSUM | vnet.F_DATA_VALID)
        or gso_type != vnet.GSO_NONE
        or fragment & ~ipv4.DF
        or total != len(octets) - vnet.VNET_LEN
        or length != total - ipv4.HEADER_LEN
        or int.from_bytes(octets[10:30], "big") % 0xFFFF  # the header's checksum: see netstack.packet.checksum
    ):
        return None
    return Datagram(client, client_port, server, server_port, [octets[_PLAIN_LEN:]], tos, ttl, octets[10:])


def _parse_plain_v6(octets: bytes) -> Datagram | None:
    """The same over IPv6 without extension headers."""
    if len(octets) < _PLAIN_V6_LEN:
        return None
    (
        flags, gso_type, word, payload_length, next_header, hop_limit, client, server,
        client_port, server_port, length, _,
    ) = _PLAIN_V6.unpack_from(octets)  # fmt: skip
    if (
        word >> 28 != 6
        or next_header != udp.PROTOCOL
        or not flags & (vnet.F_NEEDS_CSUM | vnet.F_DATA_VALID)
        or gso_type != vnet.GSO_NONE
        or payload_length != len(octets) - vnet.VNET_LEN - ipv6.HEADER_LEN
        or length != payload_length
        or client.startswith(MAPPED)
        or server.startswith(MAPPED)
    ):
        return None
    payload = octets[_PLAIN_V6_LEN:]
    return Datagram(
        client, client_port, server, server_port, [payload], word >> 20 & 0xFF, hop_limit, octets[vnet.VNET_LEN :]
    )  # fmt: skip


def _parse_any(octets: bytes) -> Datagram:
    whole = frame.parse(octets)
    if whole.protocol != udp.PROTOCOL:
        raise MalformedPacketError(Reason.UNKNOWN_PROTOCOL, f"protocol {whole.protocol} is not UDP")
    header = udp.parse(octets, whole.upper, whole.end)
    if not whole.trusted and not udp.verify(octets, whole.upper, header, whole.source, whole.destination):
        raise MalformedPacketError(Reason.BAD_CHECKSUM, "UDP")
    start = whole.upper + udp.HEADER_LEN
    payload = octets[start : whole.upper + header.length]
    if whole.gso_type & ~vnet.GSO_ECN == vnet.GSO_UDP_L4 and 0 < whole.gso_size < len(payload):
        size = whole.gso_size
        payloads = [payload[at : at + size] for at in range(0, len(payload), size)]
    else:
        payloads = [payload]
    return Datagram(
        client=whole.source,
        client_port=header.source_port,
        server=whole.destination,
        server_port=header.destination_port,
        payloads=payloads,
        tos=whole.tos,
        ttl=whole.ttl,
        packet=whole.packet,
    )


def emit(
    source: bytes, source_port: int, client: bytes, client_port: int, payload: bytes, *,
    tos: int = 0, ttl: int = ipv4.DEFAULT_TTL, flow_label: int = 0,
) -> bytes:  # fmt: skip
    """A frame that brings one datagram to the client; the kernel completes its checksum.

    It may be larger than the TUN's MTU: what is written to a TUN is received by the kernel, which takes up to 65535.
    """
    return (
        emit_head(
            Endpoints(source, source_port, client, client_port), len(payload), tos=tos, ttl=ttl, flow_label=flow_label
        )
        + payload
    )


class Endpoints(NamedTuple):
    """Of a datagram towards the client."""

    source: bytes
    source_port: int
    client: bytes
    client_port: int


def emit_head(
    ends: Endpoints, octets: int, *, tos: int = 0, ttl: int = ipv4.DEFAULT_TTL, flow_label: int = 0, segment: int = 0
) -> bytes:  # fmt: skip
    """What goes in front of so many octets; with `segment` they are datagrams of that size each, the last at most."""
    source, source_port, client, client_port = ends
    length = udp.HEADER_LEN + octets
    kind = vnet.GSO_UDP_L4 if segment else vnet.GSO_NONE
    if len(source) == 4:
        # Both checksums are sums of numbers that are at hand, and the four words of the addresses spell one of them.
        addresses = int.from_bytes(source + client, "big")
        total = ipv4.HEADER_LEN + length
        header = (0x4500 + tos + total + ipv4.DF + (ttl << 8) + udp.PROTOCOL + addresses) % 0xFFFF or 0xFFFF
        partial = (udp.PROTOCOL + length + addresses) % 0xFFFF or 0xFFFF
        offload = vnet.emit(kind, ipv4.HEADER_LEN + udp.HEADER_LEN, segment, ipv4.HEADER_LEN, _CHECKSUM_AT)
        return _HEAD_V4.pack(
            offload, 0x45, tos, total, 0, ipv4.DF, ttl, udp.PROTOCOL, 0xFFFF - header, source, client,
            source_port, client_port, length, partial,
        )  # fmt: skip
    partial = pseudo_sum(source, client, udp.PROTOCOL, length)
    head = source_port.to_bytes(2, "big") + client_port.to_bytes(2, "big") + length.to_bytes(2, "big")
    ip = ipv6.emit(source, client, udp.PROTOCOL, length, traffic_class=tos, hop_limit=ttl, flow_label=flow_label)
    offload = vnet.emit(kind, len(ip) + udp.HEADER_LEN, segment, len(ip), _CHECKSUM_AT)
    return offload + ip + head + partial.to_bytes(2, "big")
