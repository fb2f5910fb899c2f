"""What tun_io answers by itself, read back by scapy."""

import ipaddress

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP, ICMPerror, IPerror
from scapy.layers.inet6 import ICMPv6DestUnreach, ICMPv6TimeExceeded, IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment

from netstack.packet.vnet import NO_OFFLOAD, VNET_LEN
from services.tun_io import answers

QUIC4 = IP(src="10.0.0.2", dst="198.18.0.1") / UDP(sport=40000, dport=443) / b"initial"
QUIC6 = IPv6(src="fd00:6e73::2", dst="2001:2::1") / UDP(sport=40000, dport=443) / b"initial"


def test_quic_is_refused_from_the_address_it_was_sent_to():
    reply = IP(answers.refuse_quic(NO_OFFLOAD + bytes(QUIC4))[VNET_LEN:])
    assert (reply.src, reply.dst) == ("198.18.0.1", "10.0.0.2")
    assert (reply[ICMP].type, reply[ICMP].code) == (3, 3)
    assert bytes(reply[IPerror]) == bytes(QUIC4)
    checksum = reply[ICMP].chksum
    del reply[ICMP].chksum
    assert IP(bytes(reply))[ICMP].chksum == checksum


def test_quic_over_ipv6_too():
    reply = IPv6(answers.refuse_quic(NO_OFFLOAD + bytes(QUIC6))[VNET_LEN:])
    assert (reply.src, reply.dst) == ("2001:2::1", "fd00:6e73::2")
    assert (reply[ICMPv6DestUnreach].type, reply[ICMPv6DestUnreach].code) == (1, 4)
    checksum = reply[ICMPv6DestUnreach].cksum
    del reply[ICMPv6DestUnreach].cksum
    assert IPv6(bytes(reply))[ICMPv6DestUnreach].cksum == checksum


def test_time_exceeded_comes_from_the_gateway():
    gateways = answers.gateways(["10.0.0.2/24", "fd00:6e73::2/64"], "10.0.0.1")
    four = IP(answers.time_exceeded(NO_OFFLOAD + bytes(QUIC4), gateways[4])[VNET_LEN:])
    assert (four.src, four[ICMP].type, four[ICMP].code) == ("10.0.0.1", 11, 0)
    six = IPv6(answers.time_exceeded(NO_OFFLOAD + bytes(QUIC6), gateways[6])[VNET_LEN:])
    assert (six.src, six[ICMPv6TimeExceeded].code) == ("fd00:6e73::1", 0)


@pytest.mark.parametrize(
    ("addresses", "dns", "expected"),
    [
        (["10.0.0.2/24", "fd00:6e73::2/64"], "10.0.0.1", {4: "10.0.0.1", 6: "fd00:6e73::1"}),
        (["10.0.0.2/24", "fd00:6e73::1/64"], "10.0.0.7", {4: "10.0.0.7", 6: "fd00:6e73::2"}),
        (["10.0.0.1/24"], "fd00:6e73::1", {4: "10.0.0.2", 6: "fd00:6e73::1"}),
    ],
    ids=["the first address", "not the client's own", "nor of IPv4"],
)
def test_as_whom_a_router_speaks(addresses, dns, expected):
    found = answers.gateways(addresses, dns)
    assert {version: str(ipaddress.ip_address(address)) for version, address in found.items()} == expected


@pytest.mark.parametrize(
    ("packet", "layer", "kind"),
    [
        (IP(src="10.0.0.2", dst="198.18.0.1", flags="MF") / UDP(sport=40000, dport=9) / bytes(16), IP, 11),
        (IPv6(src="fd00:6e73::2", dst="2001:2::1") / IPv6ExtHdrFragment(m=1) / UDP(dport=9) / bytes(16), IPv6, 3),
    ],
    ids=["IPv4", "IPv6"],
)
def test_a_datagram_of_which_only_a_part_came_gets_time_exceeded_at_reassembly(packet, layer, kind):
    gateways = answers.gateways(["10.0.0.2/24", "fd00:6e73::2/64"], "10.0.0.1")
    frame = answers.reassembly_time_exceeded(bytes(packet), gateways[packet.version])
    reply = layer(frame[VNET_LEN:])
    assert (frame[:VNET_LEN], reply.dst) == (NO_OFFLOAD, packet.src)
    message = bytes(reply.payload)
    assert (message[:2], message[8:]) == (bytes([kind, 1]), bytes(packet))


@pytest.mark.parametrize(
    "packet",
    [
        IP(src="10.0.0.2", dst="198.18.0.1", ttl=1) / ICMP(type=3) / bytes(28),
        IP(src="0.0.0.0", dst="198.18.0.1") / UDP(),
        IPv6(src="fd00:6e73::2", dst="2001:2::1") / IPv6ExtHdrDestOpt() / ICMPv6DestUnreach() / bytes(40),
    ],
    ids=["an ICMP error", "from nowhere", "an ICMPv6 error behind an extension header"],
)
def test_no_error_about_what_must_not_get_one(packet):
    assert answers.time_exceeded(NO_OFFLOAD + bytes(packet), None) is None


@pytest.mark.parametrize(
    ("key", "layer"),
    [
        (bytes([10, 0, 0, 2, 198, 18, 0, 1]) + b"\x9c\x40\x01\xbb", IP),
        (bytes.fromhex("fd006e73" + "0" * 23 + "2" + "20010002" + "0" * 23 + "1") + b"\x9c\x40\x01\xbb", IPv6),
    ],
    ids=["IPv4", "IPv6"],
)
def test_a_nudge_is_a_syn_from_the_server(key, layer):
    packet = layer(answers.nudge(key)[VNET_LEN:])
    assert (packet[TCP].sport, packet[TCP].dport, str(packet[TCP].flags)) == (443, 40000, "S")
    checksum = packet[TCP].chksum
    del packet[TCP].chksum
    assert layer(bytes(packet))[TCP].chksum == checksum


def test_scapy_sees_the_quoted_port():
    reply = IP(answers.refuse_quic(NO_OFFLOAD + bytes(QUIC4))[VNET_LEN:])
    assert isinstance(reply[ICMP].payload, IPerror | ICMPerror)
