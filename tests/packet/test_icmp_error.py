"""ICMP errors about packets that were sent to a client; made by scapy, as a router there makes them."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoReply,
    ICMPv6PacketTooBig,
    ICMPv6TimeExceeded,
    IPv6,
    IPv6ExtHdrFragment,
)

from netstack.packet import icmp_error
from netstack.packet.reason import MalformedPacketError, Reason
from netstack.packet.vnet import F_DATA_VALID, NO_OFFLOAD

SERVER, CLIENT, ROUTER = "198.18.0.1", "10.0.9.2", "10.0.0.2"
SERVER6, CLIENT6, ROUTER6 = "2001:2::1", "fd00:6e73:9::2", "fd00:6e73::2"
SEGMENT = TCP(sport=443, dport=40000, seq=0x12345678, flags="A")
SENT = IP(src=SERVER, dst=CLIENT, flags="DF")
SENT6 = IPv6(src=SERVER6, dst=CLIENT6)


def four(quoted, kind=3, code=4, mtu=1400, to=SERVER):
    error = ICMP(type=kind, code=code, nexthopmtu=mtu) if (kind, code) == (3, 4) else ICMP(type=kind, code=code)
    return NO_OFFLOAD + bytes(IP(src=ROUTER, dst=to) / error / bytes(quoted))


def six(quoted, error=None, to=SERVER6):
    error = ICMPv6PacketTooBig(mtu=1400) if error is None else error
    return NO_OFFLOAD + bytes(IPv6(src=ROUTER6, dst=to) / error / bytes(quoted))


BIG = SENT / SEGMENT / bytes(1420)
BIG6 = SENT6 / SEGMENT / bytes(1420)


@pytest.mark.parametrize(
    ("octets", "mtu", "endpoints"),
    [
        (four(BIG), 1400, (443, 40000)),
        (four(bytes(BIG)[:28]), 1400, (443, 40000)),
        (four(BIG, mtu=100), 552, (443, 40000)),
        (four(BIG, mtu=0), 1006, (443, 40000)),
        (four(SENT / SEGMENT / bytes(3000), mtu=0), 2002, (443, 40000)),
        (four(IP(src=SERVER, dst=CLIENT, options=IPOption(b"\x01" * 4)) / SEGMENT), 1400, (443, 40000)),
        (four(IP(src=SERVER, dst=CLIENT, flags="MF") / UDP(sport=7, dport=9)), 1400, (7, 9)),
        (four(SENT / ICMP(type=0, id=77)), 1400, (0, 77)),
        (four(SENT / UDP(sport=7, dport=9), code=3), 0, (7, 9)),
        (four(SENT / UDP(sport=7, dport=9), kind=11, code=0), 0, (7, 9)),
        (six(BIG6), 1400, (443, 40000)),
        (six(BIG6, ICMPv6PacketTooBig(mtu=600)), 1280, (443, 40000)),
        (six(SENT6 / IPv6ExtHdrFragment(m=1) / UDP(sport=7, dport=9)), 1400, (7, 9)),
        (six(SENT6 / ICMPv6EchoReply(id=77)), 1400, (0, 77)),
        (six(SENT6 / UDP(sport=7, dport=9), ICMPv6DestUnreach(code=4)), 0, (7, 9)),
        (six(SENT6 / UDP(sport=7, dport=9), ICMPv6TimeExceeded()), 0, (7, 9)),
    ],
    ids=[
        "too big", "of which only 8 octets beyond the header are quoted", "never tiny", "a router that names no MTU",
        "nor of a larger packet", "IPv4 options", "about a first fragment", "about an echo reply", "nobody listens",
        "no hop left", "IPv6: too big", "IPv6: never below its minimum", "IPv6: about a first fragment",
        "IPv6: about an echo reply", "IPv6: nobody listens", "IPv6: no hop left",
    ],
)  # fmt: skip
def test_what_a_router_says_of_which_flow(octets, mtu, endpoints):
    error = icmp_error.parse(octets)
    assert error.mtu == mtu
    assert (error.server_port, error.port) == endpoints
    assert error.is_port_unreachable == ((error.kind, error.code) in {(3, 3), (1, 4)})


def test_the_key_is_that_of_the_flow():
    assert icmp_error.parse(four(BIG)).key == bytes([10, 0, 9, 2, 198, 18, 0, 1]) + bytes.fromhex("9c40 01bb")
    assert icmp_error.parse(four(SENT / UDP(sport=7, dport=9))).key == bytes([10, 0, 9, 2, 0, 9])
    assert icmp_error.parse(four(BIG)).seq == 0x12345678
    assert icmp_error.parse(four(BIG)).length == 1460


@pytest.mark.parametrize(
    ("octets", "reason"),
    [
        (four(BIG, to="198.18.0.2"), Reason.MALFORMED_ICMP),
        (four(bytes(BIG)[:27]), Reason.MALFORMED_ICMP),
        (four(b""), Reason.MALFORMED_ICMP),
        (four(bytes(BIG6)), Reason.MALFORMED_ICMP),
        (four(BIG)[:-1] + b"\xff", Reason.BAD_CHECKSUM),
        (four(IP(src=SERVER, dst=CLIENT, frag=10) / bytes(20)), Reason.UNKNOWN_PROTOCOL),
        (four(IP(src=SERVER, dst=CLIENT, proto=47) / bytes(20)), Reason.UNKNOWN_PROTOCOL),
        (four(SENT / ICMP(type=8)), Reason.UNKNOWN_PROTOCOL),
        (four(BIG, kind=5), Reason.UNKNOWN_PROTOCOL),
        (NO_OFFLOAD + bytes(IP(src=CLIENT, dst=SERVER) / UDP()), Reason.UNKNOWN_PROTOCOL),
        (six(BIG6, to="2001:2::2"), Reason.MALFORMED_ICMP),
        (six(bytes(BIG6)[:47]), Reason.MALFORMED_ICMP),
        (six(BIG6)[:-1] + b"\xff", Reason.BAD_CHECKSUM),
        (six(SENT6 / IPv6ExtHdrFragment(offset=9) / bytes(20)), Reason.UNKNOWN_PROTOCOL),
    ],
    ids=[
        "not to who sent it", "less than 8 octets beyond the header", "nothing quoted", "the other version quoted",
        "a wrong checksum", "about a later fragment", "about GRE", "about an echo request", "a redirect", "no ICMP",
        "IPv6: not to who sent it", "IPv6: too little quoted", "IPv6: a wrong checksum", "IPv6: a later fragment",
    ],
)  # fmt: skip
def test_what_is_no_error_about_a_flow_has_its_reason(octets, reason):
    with pytest.raises(MalformedPacketError) as caught:
        icmp_error.parse(octets)
    assert caught.value.reason is reason


@given(st.sampled_from([four(BIG), six(BIG6), six(SENT6 / IPv6ExtHdrFragment(m=1) / UDP())]), st.data())
def test_mutated_errors_are_read_or_have_a_reason(octets, data):
    mutated = bytearray(octets)
    mutated[0] |= F_DATA_VALID  # or the checksum would catch most of it
    for _ in range(data.draw(st.integers(1, 4))):
        mutated[data.draw(st.integers(10, min(len(mutated), 110) - 1))] = data.draw(st.integers(0, 255))
    with suppress(MalformedPacketError):
        error = icmp_error.parse(bytes(mutated[: data.draw(st.integers(0, len(mutated)))]))
        assert error.mtu == 0 or error.mtu >= 552
        assert len(error.key) in {6, 12, 18, 36}
