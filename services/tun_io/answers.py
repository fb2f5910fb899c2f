"""What tun_io itself answers: QUIC refused, a TTL that ended, and the nudge for clients of a lost worker. No I/O."""

import ipaddress
import secrets

from netstack.packet import icmp, ipv4, ipv6, tcp
from netstack.packet.checksum import checksum, pseudo_sum
from netstack.packet.frame import IP
from netstack.packet.reason import MalformedPacketError
from netstack.packet.vnet import NO_OFFLOAD


def gateways(addresses: list[str], dns: str) -> dict[int, bytes]:
    """The address from which a router's errors come, by IP version.

    It is tun.dns for that address's family, and for the other the first address of the TUN's network that is not the
    TUN's own, from which the client would believe nothing.
    """
    found: dict[int, bytes] = {}
    for text in addresses:
        interface = ipaddress.ip_interface(text)
        first = interface.network.network_address + 1
        found.setdefault(interface.version, (first + 1 if first == interface.ip else first).packed)
    resolver = ipaddress.ip_address(dns)
    found[resolver.version] = resolver.packed
    return found


def refuse_quic(octets: bytes) -> bytes | None:
    """ICMP port unreachable, so that a browser falls back to TCP at once; None where no error may be sent."""
    packet = octets[IP:]
    if not icmp.may_answer(packet, 17, 0):
        return None
    return NO_OFFLOAD + icmp.port_unreachable(packet)


def time_exceeded(octets: bytes, gateway: bytes | None) -> bytes | None:
    """What a router says of a packet whose TTL or hop limit ends with it."""
    packet = octets[IP:]
    version = packet[0] >> 4
    protocol, upper, _ = transport(packet)
    if not icmp.may_answer(packet, protocol, upper):
        return None
    kind = icmp.TIME_EXCEEDED if version == 4 else icmp.V6_TIME_EXCEEDED
    return NO_OFFLOAD + icmp.error(packet, kind, 0, source=gateway)


def transport(packet: bytes) -> tuple[int, int, int]:
    """The protocol of a packet that was classified, where its header begins, and which octet names the protocol.

    Of an IPv6 packet that was refused for an extension header: that of the fixed header.
    """
    if packet[0] >> 4 == 4:
        return packet[9], (packet[0] & 0xF) * 4, 9
    try:
        walked = ipv6.walk(packet, ipv6.parse(packet))
    except MalformedPacketError:
        return packet[6], ipv6.HEADER_LEN, 6
    return walked.protocol, walked.offset, ipv6.last_link(packet, walked.offset)


def reassembly_time_exceeded(packet: bytes, gateway: bytes | None) -> bytes:
    """What is said of a datagram of which only a part came; `packet` is its first fragment (RFC 792, RFC 8200 4.5)."""
    kind = icmp.TIME_EXCEEDED if packet[0] >> 4 == 4 else icmp.V6_TIME_EXCEEDED
    return NO_OFFLOAD + icmp.error(packet, kind, icmp.REASSEMBLY_TIME, source=gateway)


def nudge(key: bytes) -> bytes:
    """A segment that makes the client of a lost flow say where it stands.

    Whoever had the flow is gone, and with it the sequence number that a reset must have to be believed (RFC 5961). A
    SYN in a synchronized state is answered with an acknowledgement whatever its number (section 4.2); that one names
    the number, and the worker that gets it resets the flow.
    """
    size = (len(key) - 4) // 2
    client, server = key[:size], key[size : 2 * size]
    ports = key[-2:] + key[-4:-2]
    head = tcp.FORMAT.pack(0, 0, secrets.randbits(32), 0, 5 << 4, tcp.SYN, 0, 0, 0)
    head = ports + head[4:]
    value = checksum(head, pseudo_sum(server, client, tcp.PROTOCOL, len(head)))
    head = head[: tcp.CHECKSUM_OFFSET] + value.to_bytes(2, "big") + head[tcp.CHECKSUM_OFFSET + 2 :]
    if size == 4:
        return NO_OFFLOAD + ipv4.emit(server, client, tcp.PROTOCOL, len(head)) + head
    return NO_OFFLOAD + ipv6.emit(server, client, tcp.PROTOCOL, len(head)) + head
