"""ICMP and ICMPv6 messages, against literal octets and scapy."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, UDP, IPerror, TCPerror, UDPerror
from scapy.layers.inet6 import ICMPv6DestUnreach, ICMPv6EchoRequest, IPerror6, IPv6

from netstack.packet import icmp, ipv4, ipv6
from netstack.packet.checksum import checksum, pseudo_sum

CLIENT, SERVER = bytes([10, 0, 0, 2]), bytes([1, 1, 1, 1])
CLIENT6 = bytes.fromhex("fd006e73000000000000000000000002")
SERVER6 = bytes.fromhex("20010db8000000000000000000000001")

PACKET = bytes.fromhex(
    "4500 0020 0000 4000 4011 2eca 0a00 0002 0101 0101"  # 10.0.0.2 > 1.1.1.1, length 32, DF, TTL 64, UDP
    "14e9 0035 000c ffe3 70696e67"  # 5353 > 53, length 12, checksum, "ping"
)
PACKET6 = bytes(IPv6(src="fd00:6e73::2", dst="2001:db8::1") / UDP(sport=5353, dport=53) / b"ping")


def test_an_echo_request_is_written() -> None:
    # Identifier 1, sequence number 2, "ping": checksum by hand, ffff - (0800 + 0001 + 0002 + 7069 + 6e67) = 192c
    assert icmp.emit(icmp.ECHO_REQUEST, 0, 0x00010002, b"ping") == bytes.fromhex("08 00 192c 0001 0002 70696e67")


def test_an_icmpv6_echo_request_is_that_of_scapy() -> None:
    message = icmp.emit_v6(CLIENT6, SERVER6, icmp.V6_ECHO_REQUEST, 0, 0x00010002, b"ping")
    theirs = IPv6(src="fd00:6e73::2", dst="2001:db8::1") / ICMPv6EchoRequest(id=1, seq=2, data=b"ping")
    assert message == bytes(theirs)[40:]


def test_admin_prohibited_is_type_3_code_13_from_whom_the_packet_was_sent_to_and_quotes_it() -> None:
    answer = IP(icmp.admin_prohibited(PACKET))
    assert (answer.src, answer.dst, answer.proto) == ("1.1.1.1", "10.0.0.2", 1)
    assert (answer[ICMP].type, answer[ICMP].code) == (3, 13)
    assert bytes(answer[ICMP].payload) == PACKET
    assert answer[UDPerror].sport == 5353


def test_admin_prohibited_is_type_1_code_1_over_ipv6() -> None:
    answer = IPv6(icmp.admin_prohibited(PACKET6))
    assert (answer.src, answer.dst, answer.nh) == ("2001:db8::1", "fd00:6e73::2", 58)
    assert (answer[ICMPv6DestUnreach].type, answer[ICMPv6DestUnreach].code) == (1, 1)
    assert bytes(answer[IPerror6]) == PACKET6


@pytest.mark.parametrize(
    ("call", "four", "six"),
    [
        (icmp.admin_prohibited, (3, 13), (1, 1)),
        (icmp.port_unreachable, (3, 3), (1, 4)),
    ],
    ids=["administratively prohibited", "port unreachable"],
)
def test_each_refusal_has_its_type_and_code(
    call: Callable[[bytes], bytes], four: tuple[int, int], six: tuple[int, int]
) -> None:
    assert tuple(call(PACKET)[20:22]) == four
    assert tuple(call(PACKET6)[40:42]) == six


@pytest.mark.parametrize("size", [0, 1, 519, 520, 521, 1231, 1232, 1400, 60000])
def test_errors_are_valid_packets_and_no_larger_than_a_router_may_send(size: int) -> None:
    four = icmp.port_unreachable(ipv4.emit(CLIENT, SERVER, 17, size) + bytes(size))
    assert ipv4.parse(four).total_length == len(four) <= 576  # RFC 1812 section 4.3.2.3
    assert checksum(four[20:]) == 0
    six = icmp.port_unreachable(ipv6.emit(CLIENT6, SERVER6, 17, size) + bytes(size))
    assert 40 + ipv6.parse(six).payload_length == len(six) <= 1280  # RFC 4443 section 2.4 (c)
    assert checksum(six[40:], pseudo_sum(SERVER6, CLIENT6, 58, len(six) - 40)) == 0


def test_an_error_may_name_a_router_and_carry_a_word() -> None:
    router = bytes([192, 0, 2, 1])
    answer = IP(icmp.error(PACKET, icmp.UNREACHABLE, icmp.FRAGMENTATION_NEEDED, rest=1400, source=router))
    assert (answer.src, answer.dst) == ("192.0.2.1", "10.0.0.2")
    assert answer[ICMP].nexthopmtu == 1400  # RFC 1191 section 4
    router6 = SERVER6[:-1] + b"\x99"
    six = icmp.error(PACKET6, icmp.V6_PACKET_TOO_BIG, 0, rest=1280, source=router6)
    assert six[8:24] == router6
    assert six[40:48] == b"\x02\x00" + six[42:44] + (1280).to_bytes(4, "big")  # RFC 4443 section 3.2


def test_a_quoted_tcp_header_keeps_the_ports_that_tell_the_socket() -> None:
    packet = ipv4.emit(CLIENT, SERVER, 6, 20) + bytes.fromhex("c0000050 00000001 00000000 50020000 00000000")
    answer = IP(icmp.port_unreachable(packet))
    assert (answer[IPerror].dst, answer[TCPerror].sport, answer[TCPerror].dport) == ("1.1.1.1", 49152, 80)


def four(source: str = "0a000002", destination: str = "01010101", fragment: str = "4000", body: str = "") -> bytes:
    return bytes.fromhex(f"4500 0014 0000 {fragment} 4001 0000 {source} {destination} {body}")


def six(source: bytes = CLIENT6, destination: bytes = SERVER6, body: str = "") -> bytes:
    return ipv6.emit(source, destination, 58, 0) + bytes.fromhex(body)


@pytest.mark.parametrize(
    ("packet", "protocol", "answered"),
    [
        (four(), 17, True),
        (four(body="08"), 1, True),
        (four(body="00"), 1, True),
        (four(body="03"), 1, False),
        (four(body="0b"), 1, False),
        (four(), 1, False),
        (four(fragment="0001"), 17, False),
        (four(fragment="2000"), 17, True),
        (four(destination="e00000fb"), 17, False),
        (four(destination="ffffffff"), 17, False),
        (four(source="00000000"), 17, False),
        (four(source="e0000001"), 17, False),
        (six(), 17, True),
        (six(body="80"), 58, True),
        (six(body="81"), 58, True),
        (six(body="01"), 58, False),
        (six(body="04"), 58, False),
        (six(), 58, False),
        (six(destination=bytes.fromhex("ff0200000000000000000000000000fb")), 17, False),
        (six(source=bytes(16)), 17, False),
    ],
    ids=[
        "a datagram",
        "an echo request",
        "an echo reply",
        "never an ICMP error (RFC 1122 section 3.2.2)",
        "of any kind",
        "nor a message without a type",
        "nor a later fragment",
        "the first fragment may be answered",
        "nothing to many hosts",
        "nor to all of them",
        "nothing from nobody",
        "nor from many",
        "a datagram over IPv6",
        "an ICMPv6 echo request",
        "an ICMPv6 echo reply",
        "never an ICMPv6 error (RFC 4443 section 2.4 (e))",
        "of any type below 128",
        "nor a message without a type over IPv6",
        "nothing to many hosts over IPv6",
        "nothing from nobody over IPv6",
    ],
)
def test_what_may_be_answered_with_an_error(packet: bytes, protocol: int, answered: bool) -> None:
    assert icmp.may_answer(packet, protocol, 20 if packet[0] >> 4 == 4 else 40) is answered


@given(st.integers(0, 255), st.integers(0, 255), st.integers(0, 0xFFFFFFFF), st.binary(max_size=100))
def test_messages_written_sum_to_zero(kind: int, code: int, rest: int, body: bytes) -> None:
    assert checksum(icmp.emit(kind, code, rest, body)) == 0
    six = icmp.emit_v6(CLIENT6, SERVER6, kind, code, rest, body)
    assert checksum(six, pseudo_sum(CLIENT6, SERVER6, 58, len(six))) == 0
