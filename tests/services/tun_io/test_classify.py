"""What a packet is: rows grouped by the class they show."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoRequest,
    ICMPv6ND_RS,
    ICMPv6PacketTooBig,
    ICMPv6TimeExceeded,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
)

from netstack.packet.reason import MalformedPacketError, Reason
from netstack.packet.vnet import NO_OFFLOAD
from services.tun_io.classify import Classifier, Kind

A, B = "10.0.0.2", "198.18.0.1"
A6, B6 = "fd00:6e73::2", "2001:2::1"
CLIENT, SERVER = bytes([10, 0, 0, 2]), bytes([198, 18, 0, 1])
CLIENT6 = bytes.fromhex("fd006e73" + "0" * 23 + "2")
SERVER6 = bytes.fromhex("20010002" + "0" * 23 + "1")
PORTS = bytes.fromhex("9c40 01bb")  # 40000, 443

V4 = IP(src=A, dst=B)
V6 = IPv6(src=A6, dst=B6)
SYN = TCP(sport=40000, dport=443, flags="S")


def classify(packet, ports=frozenset({443, 80})):
    return Classifier(ports).classify(NO_OFFLOAD + bytes(packet))


@pytest.mark.parametrize(
    ("packet", "kind", "key", "opens"),
    [
        # TCP: kept together by addresses and ports
        (V4 / SYN, Kind.TCP, CLIENT + SERVER + PORTS, True),
        (V6 / SYN, Kind.TCP, CLIENT6 + SERVER6 + PORTS, True),
        (V4 / TCP(sport=40000, dport=443, flags="A"), Kind.TCP, CLIENT + SERVER + PORTS, False),
        (V4 / TCP(sport=40000, dport=443, flags="SA"), Kind.TCP, CLIENT + SERVER + PORTS, False),
        (V4 / TCP(sport=40000, dport=443, flags="R"), Kind.TCP, CLIENT + SERVER + PORTS, False),
        (IP(src=A, dst=B, options=IPOption(b"\x01\x01\x01\x01")) / SYN, Kind.TCP, CLIENT + SERVER + PORTS, True),
        (V6 / IPv6ExtHdrDestOpt() / SYN, Kind.TCP, CLIENT6 + SERVER6 + PORTS, True),
        # UDP: kept together by the client's endpoint alone
        (V4 / UDP(sport=40000, dport=9999) / b"x", Kind.UDP, CLIENT + PORTS[:2], True),
        (V6 / UDP(sport=40000, dport=9999) / b"x", Kind.UDP, CLIENT6 + PORTS[:2], True),
        (V4 / UDP(sport=40000, dport=9999), Kind.UDP, CLIENT + PORTS[:2], True),
        # DNS: UDP to port 53 of any address
        (V4 / UDP(sport=40000, dport=53) / b"x", Kind.DNS, CLIENT + PORTS[:2], True),
        (IPv6(src=A6, dst="2001:2::53") / UDP(sport=40000, dport=53) / b"x", Kind.DNS, CLIENT6 + PORTS[:2], True),
        (V6 / IPv6ExtHdrDestOpt() / UDP(sport=40000, dport=53), Kind.DNS, CLIENT6 + PORTS[:2], True),
        # Echo requests
        (V4 / ICMP(id=0x1234, seq=1), Kind.ECHO, CLIENT + b"\x12\x34", True),
        (V6 / ICMPv6EchoRequest(id=0x1234), Kind.ECHO, CLIENT6 + b"\x12\x34", True),
        # QUIC, while it is blocked
        (V4 / UDP(sport=40000, dport=443) / b"x", Kind.QUIC, CLIENT + PORTS[:2], False),
        (V6 / UDP(sport=40000, dport=80) / b"x", Kind.QUIC, CLIENT6 + PORTS[:2], False),
        # TTL and hop limit end here
        (IP(src=A, dst=B, ttl=1) / SYN, Kind.EXPIRED, b"", False),
        (IPv6(src=A6, dst=B6, hlim=1) / UDP(sport=40000, dport=33434), Kind.EXPIRED, b"", False),
        (IPv6(src=A6, dst=B6, hlim=0) / ICMPv6EchoRequest(), Kind.EXPIRED, b"", False),
    ],
)
def test_a_packet_is_what_it_is(packet, kind, key, opens):
    assert classify(packet) == (kind, key, opens)


def test_quic_that_is_not_blocked_is_udp():
    assert classify(V4 / UDP(sport=40000, dport=443) / b"x", frozenset()).kind is Kind.UDP


BACK = IP(src=B, dst=A, flags="DF")
BACK6 = IPv6(src=B6, dst=A6)
TOO_BIG = ICMP(type=3, code=4, nexthopmtu=1400)
NOBODY = ICMP(type=3, code=3)


@pytest.mark.parametrize(
    ("packet", "kind", "key"),
    [
        (V4 / TOO_BIG / bytes(BACK / TCP(sport=443, dport=40000)), Kind.TCP, CLIENT + SERVER + PORTS),
        (V4 / TOO_BIG / bytes(BACK / UDP(sport=9, dport=40000)), Kind.UDP, CLIENT + PORTS[:2]),
        (V4 / NOBODY / bytes(BACK / UDP(sport=9, dport=40000)), Kind.UDP, CLIENT + PORTS[:2]),
        (V4 / TOO_BIG / bytes(BACK / ICMP(type=0, id=0x1234)), Kind.ECHO, CLIENT + b"\x12\x34"),
        (V6 / ICMPv6PacketTooBig() / bytes(BACK6 / TCP(sport=443, dport=40000)), Kind.TCP, CLIENT6 + SERVER6 + PORTS),
        (V6 / ICMPv6DestUnreach(code=4) / bytes(BACK6 / UDP(sport=9, dport=40000)), Kind.UDP, CLIENT6 + PORTS[:2]),
    ],
    ids=["TCP too big", "UDP too big", "nobody listens", "an echo reply too big", "IPv6: TCP", "IPv6: nobody listens"],
)
def test_an_error_goes_to_who_sent_what_it_is_about_and_opens_nothing(packet, kind, key):
    found = classify(packet)
    assert (found.kind, found.key, found.opens) == (kind, key, False)


@pytest.mark.parametrize(
    "packet",
    [
        V4 / NOBODY / bytes(BACK / TCP(sport=443, dport=40000)),
        V4 / ICMP(type=3, code=1) / bytes(BACK / UDP(sport=9, dport=40000)),
        V4 / ICMP(type=11) / bytes(BACK / UDP(sport=9, dport=40000)),
        V4 / NOBODY / bytes(BACK / UDP(sport=53, dport=40000)),
        V6 / ICMPv6TimeExceeded() / bytes(BACK6 / UDP(sport=9, dport=40000)),
    ],
    ids=["a firewall's answer to TCP", "an unreachable host", "no hop left", "an answer of the resolver", "IPv6"],
)
def test_an_error_that_says_nothing_of_use_goes_nowhere(packet):
    with pytest.raises(MalformedPacketError) as raised:
        classify(packet)
    assert raised.value.reason is Reason.UNKNOWN_PROTOCOL


@pytest.mark.parametrize(
    ("octets", "reason"),
    [
        (b"", Reason.MALFORMED_VNET),
        (NO_OFFLOAD, Reason.MALFORMED_VNET),
        (NO_OFFLOAD + b"\x45", Reason.MALFORMED_IP),
        (NO_OFFLOAD + b"\x90" * 40, Reason.MALFORMED_IP),
        (NO_OFFLOAD + bytes(V4 / SYN)[:30], Reason.MALFORMED_TCP),
        (NO_OFFLOAD + bytes(V6 / SYN)[:50], Reason.MALFORMED_TCP),
        (NO_OFFLOAD + bytes(V4 / (b"x" * 30)), Reason.UNKNOWN_PROTOCOL),
        (NO_OFFLOAD + bytes(IP(src=A, dst=B, proto=132) / bytes(20)), Reason.UNKNOWN_PROTOCOL),
        (NO_OFFLOAD + bytes(V4 / ICMP(type=13)), Reason.UNKNOWN_PROTOCOL),
        (NO_OFFLOAD + bytes(IPv6(src=A6, dst="ff02::2") / ICMPv6ND_RS()), Reason.MULTICAST),
        (NO_OFFLOAD + bytes(IP(src=A, dst="224.0.0.251") / UDP(dport=5353) / b"x"), Reason.MULTICAST),
        (NO_OFFLOAD + bytes(IP(src=A, dst="255.255.255.255") / UDP(dport=67) / b"x"), Reason.MULTICAST),
        (NO_OFFLOAD + bytes(IP(src=A, dst=B, flags="MF") / UDP(dport=53) / b"x"), Reason.FRAGMENT),
        (NO_OFFLOAD + bytes(IP(src=A, dst=B, frag=10) / (b"\x00\x35" * 20)), Reason.FRAGMENT),
        (NO_OFFLOAD + bytes(V6 / IPv6ExtHdrFragment(m=1) / UDP(dport=53)), Reason.FRAGMENT),
    ],
    ids=["nothing", "no packet", "a stump", "another version", "half a TCP header", "half a TCP header, IPv6",
         "protocol 0", "SCTP", "ICMP timestamp", "router solicitation", "mDNS", "broadcast",
         "a first fragment", "a later fragment, whose data look like ports", "an IPv6 fragment"],
)  # fmt: skip
def test_what_is_dropped_has_its_reason(octets, reason):
    with pytest.raises(MalformedPacketError) as caught:
        Classifier(frozenset()).classify(octets)
    assert caught.value.reason is reason


@pytest.mark.parametrize(
    "packet",
    [
        IP(src="10.0.0.2", dst="0.0.0.0") / SYN,
        IP(src="10.0.0.2", dst="0.1.2.3") / SYN,
        IP(src="10.0.0.2", dst="0.0.0.0") / UDP(sport=40000, dport=9999) / b"x",
        IPv6(src=A6, dst="::") / SYN,
        IPv6(src=A6, dst="::ffff:198.18.1.1") / SYN,
        IPv6(src="::ffff:10.0.0.2", dst=B6) / SYN,
    ],
    ids=["0.0.0.0", "its network", "UDP", "::", "an IPv4-mapped destination", "an IPv4-mapped source"],
)
def test_what_a_socket_would_take_for_another_address_goes_nowhere(packet):
    with pytest.raises(MalformedPacketError) as raised:
        classify(packet)
    assert raised.value.reason is Reason.MALFORMED_IP


SEEDS = [bytes(V4 / SYN), bytes(V6 / SYN), bytes(V4 / UDP() / b"x"), bytes(V6 / IPv6ExtHdrDestOpt() / UDP() / b"x"),
         bytes(V4 / ICMP()), bytes(V6 / ICMPv6EchoRequest()),
         bytes(V4 / TOO_BIG / bytes(BACK / UDP())),
         bytes(V6 / ICMPv6PacketTooBig() / bytes(BACK6 / TCP()))]  # fmt: skip


@given(st.binary(max_size=120))
def test_any_octets_have_a_class_or_a_reason(octets):
    with suppress(MalformedPacketError):
        Classifier(frozenset({443})).classify(octets)


@given(st.sampled_from(SEEDS), st.data())
def test_mutated_packets_have_a_class_or_a_reason(seed, data):
    octets = bytearray(NO_OFFLOAD + seed)
    for _ in range(data.draw(st.integers(1, 4))):
        octets[data.draw(st.integers(0, len(octets) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(octets)))
    with suppress(MalformedPacketError):
        Classifier(frozenset({443})).classify(bytes(octets[:cut]))
