"""Octets of a stream -> messages."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.dns_filter.framing import ClientEndpoint, Deframer, MalformedStreamError, frame

PREFACE = bytes.fromhex(
    "04 0a000002"  # four octets of address: 10.0.0.2
    "c350"  # port 50000
)
PREFACE_V6 = bytes.fromhex("10 fd006e73000000000000000000000002 0035")
CLIENT = ClientEndpoint(bytes([10, 0, 0, 2]), 50000)


def test_preface_then_messages() -> None:
    deframer = Deframer()
    assert deframer.feed(PREFACE + b"\x00\x02hi\x00\x00\x00\x01") == [b"hi", b""]
    assert deframer.client == CLIENT
    assert deframer.feed(b"!") == [b"!"]


def test_ipv6_client() -> None:
    deframer = Deframer()
    assert deframer.feed(PREFACE_V6) == []
    assert deframer.client == ClientEndpoint(bytes.fromhex("fd006e73000000000000000000000002"), 53)


def test_one_octet_at_a_time() -> None:
    deframer = Deframer()
    octets = PREFACE + frame(b"first") + frame(b"second")
    assert [message for octet in octets for message in deframer.feed(bytes([octet]))] == [b"first", b"second"]


@pytest.mark.parametrize("length", [0, 5, 255])
def test_address_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(MalformedStreamError):
        Deframer().feed(bytes([length]))


@given(st.lists(st.binary(max_size=300), max_size=8), st.data())
def test_split_anywhere_the_messages_are_the_same(messages: list[bytes], data: st.DataObject) -> None:
    octets = PREFACE + b"".join(map(frame, messages))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(octets)), max_size=6)))
    deframer = Deframer()
    parts = [octets[a:b] for a, b in zip([0, *cuts], [*cuts, len(octets)], strict=True)]
    assert [message for part in parts for message in deframer.feed(part)] == messages
    assert deframer.client == CLIENT


@given(st.lists(st.binary(max_size=100), max_size=5))
def test_any_octets_are_messages_or_refused(parts: list[bytes]) -> None:
    deframer = Deframer()
    try:
        for part in parts:
            deframer.feed(part)
    except MalformedStreamError:
        assert deframer.client is None
