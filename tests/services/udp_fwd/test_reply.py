"""Replies of servers as frames for the client."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netstack.packet import datagram
from netstack.packet.vnet import NO_OFFLOAD
from services.udp_fwd.reply import UNKNOWN, Arrived, Sender

V4 = (bytes([198, 18, 0, 1]), 53, bytes([10, 0, 0, 2]), 5000)
V6 = (bytes.fromhex("20010db8000000000000000000000001"), 53, bytes.fromhex("fd006e73000000000000000000000002"), 5000)


def frame(sender: Sender, payload: bytes, segment: int = 0, arrived: Arrived = UNKNOWN) -> bytes:
    return sender.head(len(payload), segment, arrived) + payload


@pytest.mark.parametrize("endpoints", [V4, V6], ids=["IPv4", "IPv6"])
@given(st.lists(st.binary(max_size=6), min_size=1, max_size=20))
def test_a_reply_is_what_the_codec_emits_whatever_came_before(endpoints, payloads):
    sender = Sender(*endpoints)
    for payload in payloads:
        assert frame(sender, payload) == datagram.emit(*endpoints, payload)


@pytest.mark.parametrize("endpoints", [V4, V6], ids=["IPv4", "IPv6"])
@given(size=st.integers(1, 1400), count=st.integers(1, 20), last=st.integers(1, 1400))
def test_a_train_is_read_as_its_datagrams(endpoints, size, count, last):
    payload = bytes(range(256)) * ((size * count + last) // 256 + 1)
    payload = payload[: size * count + min(last, size)]
    sender = Sender(*endpoints)
    frame(sender, payload)  # a single datagram of the same length, whose headers are not a train's
    got = datagram.parse(frame(sender, payload, size))
    assert (got.client, got.client_port, got.server, got.server_port) == endpoints
    assert b"".join(got.payloads) == payload
    assert {len(each) for each in got.payloads[:-1]} == {size}
    assert datagram.parse(frame(sender, payload)).payloads == [payload]


@pytest.mark.parametrize("endpoints", [V4, V6], ids=["IPv4", "IPv6"])
def test_the_headers_follow_what_came_in(endpoints):
    sender = Sender(*endpoints)
    for arrived in (Arrived(0xB8, 57, 0), Arrived(0x03, 57, 0), Arrived(0x03, 1, 0xABCDE)):
        for octets in (frame(sender, b"hello", 0, arrived), NO_OFFLOAD + sender.packet(b"hello", arrived)):
            got = datagram.parse(octets)
            assert (got.payloads, got.tos, got.ttl) == ([b"hello"], arrived.tos, arrived.ttl)
            assert got.flow_label == (arrived.flow_label if len(endpoints[0]) == 16 else 0)
