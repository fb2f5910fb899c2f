"""Echo requests of the client, and replies under its identifier."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP
from scapy.layers.inet6 import ICMPv6EchoReply, IPv6

from netstack.packet import icmp, ipv4
from netstack.packet.checksum import checksum
from netstack.packet.reason import MalformedPacketError, Reason
from netstack.packet.vnet import NO_OFFLOAD, VNET_LEN
from services.udp_fwd import echo
from services.udp_fwd.echo import Echo
from services.udp_fwd.reply import Arrived, Sender

CLIENT, SERVER = bytes([10, 0, 0, 2]), bytes([198, 18, 0, 1])
CLIENT_V6 = bytes.fromhex("fd006e73000000000000000000000002")
SERVER_V6 = bytes.fromhex("20010db8000000000000000000000001")
REQUEST = bytes.fromhex(
    "4500 0020 0000 4000 4001 6ac8 0a00 0002 c612 0001"  # 10.0.0.2 > 198.18.0.1, length 32, DF, TTL 64, ICMP
    "0800 06f4 1234 0007 70696e67"  # echo request, checksum, identifier 0x1234, sequence 7, "ping"
)
REQUEST_V6 = bytes.fromhex(
    "6000 0000 000c 3a40"  # payload length 12, ICMPv6, hop limit 64
    "fd006e73000000000000000000000002 20010db8000000000000000000000001"
    "8000 f57c 1234 0007 70696e67"
)


def test_a_request_is_read():
    assert echo.parse(NO_OFFLOAD + REQUEST) == Echo(CLIENT, 0x1234, SERVER, 7, REQUEST[20:], 0, 64, REQUEST)


def test_a_request_over_ipv6_is_read():
    sent = NO_OFFLOAD + REQUEST_V6
    assert echo.parse(sent) == Echo(CLIENT_V6, 0x1234, SERVER_V6, 7, REQUEST_V6[40:], 0, 64, REQUEST_V6)


def ip(protocol: int, message: bytes) -> bytes:
    return NO_OFFLOAD + ipv4.emit(CLIENT, SERVER, protocol, len(message)) + message


@pytest.mark.parametrize(
    ("octets", "reason"),
    [
        (ip(icmp.PROTOCOL, icmp.emit(icmp.ECHO_REPLY, 0, 7, b"")), Reason.UNKNOWN_PROTOCOL),
        (ip(icmp.PROTOCOL, icmp.emit(icmp.UNREACHABLE, 3, 0, REQUEST)), Reason.UNKNOWN_PROTOCOL),
        (ip(icmp.PROTOCOL, icmp.emit(13, 0, 7, bytes(12))), Reason.UNKNOWN_PROTOCOL),
        (ip(icmp.PROTOCOL_V6, icmp.emit(icmp.V6_ECHO_REQUEST, 0, 7, b"")), Reason.UNKNOWN_PROTOCOL),
        (ip(47, bytes(8)), Reason.UNKNOWN_PROTOCOL),
        (ip(icmp.PROTOCOL, icmp.emit(icmp.ECHO_REQUEST, 1, 7, b"")), Reason.MALFORMED_ICMP),
        (ip(icmp.PROTOCOL, bytes(7)), Reason.MALFORMED_ICMP),
        (NO_OFFLOAD + REQUEST[:-1] + b"G", Reason.BAD_CHECKSUM),
        (NO_OFFLOAD + REQUEST_V6[:-1] + b"G", Reason.BAD_CHECKSUM),
    ],
    ids=[
        "an echo reply",
        "an error about what was received",
        "a time stamp request",
        "ICMPv6 in IPv4",
        "GRE",
        "a code that is not 0",
        "too short",
        "a wrong checksum",
        "a wrong checksum over IPv6",
    ],
)
def test_what_is_no_echo_request_has_a_reason(octets, reason):
    with pytest.raises(MalformedPacketError) as caught:
        echo.parse(octets)
    assert caught.value.reason is reason


@given(st.binary(max_size=120))
def test_any_octets_are_a_request_or_malformed(octets):
    for head in (b"", NO_OFFLOAD, NO_OFFLOAD + REQUEST[:20], NO_OFFLOAD + REQUEST_V6[:40]):
        try:
            echo.parse(head + octets)
        except MalformedPacketError:
            continue


@given(st.integers(0, 0xFF), st.integers(0, 0xFFFF), st.integers(0, 0xFFFF), st.integers(0, 0xFFFF), st.binary())
def test_a_reply_has_the_clients_identifier_and_a_checksum_that_holds(code, own, identifier, sequence, payload):
    # As a ping socket gives it: under its own identifier, with the checksum that the kernel found right.
    message = icmp.emit(icmp.ECHO_REPLY, code, own << 16 | sequence, payload)
    frame = echo.reply(Sender(SERVER, 0, CLIENT, identifier), message)
    packet = IP(frame[VNET_LEN:])
    assert (packet.src, packet.dst, packet.proto) == ("198.18.0.1", "10.0.0.2", 1)
    reply = bytes(packet.payload)
    assert reply[:2] == bytes(2)
    assert (reply[4:6], reply[6:8], reply[8:]) == (identifier.to_bytes(2, "big"), sequence.to_bytes(2, "big"), payload)
    assert checksum(reply) == 0


def test_a_reply_over_ipv6_has_the_clients_identifier_and_a_checksum_that_holds():
    frame = echo.reply(Sender(SERVER_V6, 0, CLIENT_V6, 0x1234), bytes.fromhex("8100 0000 beef 0007") + b"pong")
    packet = IPv6(frame[VNET_LEN:])
    reply = packet[ICMPv6EchoReply]
    assert (packet.src, packet.dst) == ("2001:db8::1", "fd00:6e73::2")
    assert (reply.id, reply.seq, reply.data) == (0x1234, 7, b"pong")
    again = packet.copy()
    del again[ICMPv6EchoReply].cksum
    assert bytes(again) == bytes(packet)


def test_a_sender_s_replies_differ_in_length_and_header():
    sender = Sender(SERVER, 0, CLIENT, 1)
    message = bytes.fromhex("0000 0000 beef 0007")
    for payload, arrived in ((b"", Arrived(0, 63)), (b"four", Arrived(0, 63)), (b"four", Arrived(8, 63))):
        packet = IP(echo.reply(sender, message + payload, arrived)[VNET_LEN:])
        assert (packet.tos, packet.ttl, bytes(packet[ICMP].payload)) == (arrived.tos, arrived.ttl, payload)


@pytest.mark.parametrize(
    "message", [b"", bytes(7), bytes.fromhex("0800 0000 beef 0007")], ids=["empty", "cut off", "a request"]
)
def test_what_is_no_reply_is_none(message):
    assert echo.reply(Sender(SERVER, 0, CLIENT, 1), message) is None


def test_the_sequence_number_is_found_where_it_is():
    assert echo.sequence_of(REQUEST[20:]) == 7
    assert echo.sequence_of(REQUEST[20:27]) is None
