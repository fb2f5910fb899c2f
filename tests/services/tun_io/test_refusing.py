"""What is said of packets that no worker takes; scapy makes them and reads the answers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP
from scapy.layers.inet6 import (
    HBHOptUnknown,
    ICMPv6EchoReply,
    ICMPv6ParamProblem,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    PadN,
)
from scapy.layers.sctp import SCTP, SCTPChunkInit

from netstack.packet.reason import MalformedPacketError, Reason
from netstack.packet.vnet import NO_OFFLOAD, VNET_LEN
from netstack.runtime.refusals import REFUSALS
from services.tun_io.classify import Classifier
from services.tun_io.refusing import Refused, Refuser

A, B = "10.0.0.2", "198.18.0.1"
A6, B6 = "fd00:6e73::2", "2001:2::1"
GATEWAYS = {4: bytes([10, 0, 0, 1]), 6: bytes.fromhex("fd006e73000000000000000000000001")}
V4 = IP(src=A, dst=B)
V6 = IPv6(src=A6, dst=B6)
INIT = SCTP(sport=1, dport=2) / SCTPChunkInit()


def refuse(packet, refuser: Refuser | None = None, now: float = 0.0) -> Refused:
    octets = NO_OFFLOAD + bytes(packet)
    with pytest.raises(MalformedPacketError) as caught:
        Classifier(frozenset({443})).classify(octets)
    return (refuser or Refuser(GATEWAYS)).refuse(octets, caught.value, now)


@pytest.mark.parametrize(
    ("packet", "reason"),
    [
        (V4 / INIT, "protocol-sctp"),
        (IP(src=A, dst=B, proto=47) / bytes(8), "protocol-gre"),
        (IP(src=A, dst=B, proto=50) / bytes(20), "protocol-esp"),
        (IP(src=A, dst=B, proto=51) / bytes(24), "protocol-ah"),
        (IP(src=A, dst=B, proto=253, options=b"\x94\x04\0\0") / bytes(8), "unknown-protocol"),
    ],
    ids=["SCTP", "GRE", "ESP", "AH", "an experimental one behind IP options"],
)
def test_an_ipv4_protocol_that_is_not_carried_is_unreachable(packet, reason):
    said = refuse(packet)
    assert said.reason == reason
    answer = IP(said.answer[VNET_LEN:])
    assert (answer.src, answer.dst, answer[ICMP].type, answer[ICMP].code) == ("10.0.0.1", A, 3, 2)
    assert bytes(answer[ICMP].payload)[:20] == bytes(packet)[:20]


@pytest.mark.parametrize(
    ("packet", "reason", "code", "pointer"),
    [
        (V6 / INIT, "protocol-sctp", 1, 6),
        (IPv6(src=A6, dst=B6, nh=253) / bytes(8), "unknown-protocol", 1, 6),
        (V6 / IPv6ExtHdrHopByHop() / IPv6ExtHdrDestOpt(nh=47) / bytes(8), "protocol-gre", 1, 48),
        (V6 / IPv6ExtHdrRouting(type=0, addresses=[B6], segleft=1, nh=17) / bytes(8), "routing-header", 0, 42),
        (V6 / IPv6ExtHdrDestOpt(options=[HBHOptUnknown(otype=0x9E)], nh=17) / bytes(8), "unknown-option", 2, 42),
    ],
    ids=[
        "a transport that is not carried",
        "an unknown next header",
        "one behind extension headers: the octet that names it",
        "a source route",
        "an unknown option that must be told",
    ],
)
def test_ipv6_that_is_not_carried_is_a_parameter_problem(packet, reason, code, pointer):
    said = refuse(packet)
    assert said.reason == reason
    answer = IPv6(said.answer[VNET_LEN:])
    problem = answer[ICMPv6ParamProblem]
    assert (answer.src, answer.dst, problem.code, problem.ptr) == ("fd00:6e73::1", A6, code, pointer)
    assert bytes(problem.payload) == bytes(packet)
    checked = IPv6(bytes(answer))
    checked[ICMPv6ParamProblem].cksum = None
    assert IPv6(bytes(checked))[ICMPv6ParamProblem].cksum == problem.cksum


@pytest.mark.parametrize(
    ("packet", "reason"),
    [
        (IP(src=A, dst=B, proto=2) / bytes(8), "protocol-igmp"),
        (V4 / ICMP(type=13), "protocol-icmp"),
        (V6 / ICMPv6EchoReply(), "protocol-icmp"),
        (IPv6(src=A6, dst=B6, nh=59), "unknown-protocol"),
        (V6 / IPv6ExtHdrDestOpt(options=[HBHOptUnknown(otype=0x5E)], nh=17) / bytes(8), "unknown-option"),
        (IPv6(src="::", dst=B6, nh=253) / bytes(8), "unknown-protocol"),
        (IP(src="0.0.0.0", dst=B, proto=253) / bytes(8), "unknown-protocol"),
        (V6 / IPv6ExtHdrDestOpt(options=[PadN(optdata=b"x" * 4)], len=9, nh=17) / bytes(8), "malformed-extension"),
        (b"\x45", "malformed-ip"),
    ],
    ids=[
        "IGMP", "an ICMP query other than echo", "an echo reply", "no next header", "an option that must not be told",
        "from nobody", "from nobody over IPv4", "a chain that leaves the packet", "no packet",
    ],
)  # fmt: skip
def test_silence(packet, reason):
    assert refuse(packet) == Refused(Reason(reason), None)


def test_without_a_gateway_the_destination_speaks():
    assert IP(refuse(V4 / INIT, Refuser({})).answer[VNET_LEN:]).src == B


def test_one_destination_gets_no_more_than_some_answers():
    refuser = Refuser(GATEWAYS)
    assert all(refuse(V4 / INIT, refuser).answer for _ in range(REFUSALS))
    assert refuse(V4 / INIT, refuser) == Refused(Reason.REFUSED_TOO_OFTEN, None)
    assert refuse(V6 / INIT, refuser).reason is Reason.PROTOCOL_SCTP
    assert refuse(V4 / INIT, refuser, now=31.0).reason is Reason.PROTOCOL_SCTP


@given(st.binary(max_size=120), st.sampled_from([b"", b"\x45", b"\x46", b"\x60", bytes(V4)[:20], bytes(V6)[:40]]))
def test_any_octets_that_are_refused_are_refused_with_a_reason(octets, start):
    octets = NO_OFFLOAD + start + octets
    try:
        Classifier(frozenset()).classify(octets)
    except MalformedPacketError as error:
        said = Refuser(GATEWAYS).refuse(octets, error, 0.0)
        assert said.reason in Reason
        assert said.answer is None or len(said.answer) <= VNET_LEN + 1280
