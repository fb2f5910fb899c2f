"""The IPv6 header and the walk over its extension headers, against literal octets and scapy."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet6 import IPv6

from netstack.packet import ipv6
from netstack.packet.reason import MalformedPacketError, Reason

A = bytes.fromhex("20010db8000000000000000000000001")
B = bytes.fromhex("20010db8000000000000000000000002")

PACKET = bytes.fromhex(
    "62da bcde"  # version 6, traffic class 2d, flow label abcde
    "0004 11 3f"  # payload length 4, UDP, hop limit 63
    "20010db8000000000000000000000001"
    "20010db8000000000000000000000002"
    "deadbeef"
)

HOP_BY_HOP = bytes.fromhex("0104 00000000")  # less its first two octets: a PadN of 6 (RFC 8200 section 4.2)


def chain(*headers: tuple[int, bytes], last: int = 17, payload: bytes = b"\0" * 8) -> bytes:
    """A packet with these extension headers: each its own number, and its octets after the next-header octet."""
    numbers = [number for number, _ in headers] + [last]
    body = b"".join(bytes([numbers[at + 1]]) + octets for at, (_, octets) in enumerate(headers)) + payload
    return ipv6.emit(A, B, numbers[0], len(body)) + body


def option(extra: int = 0) -> bytes:
    """What follows the next-header octet of an options header with `extra` further eights of octets."""
    return bytes([extra]) + HOP_BY_HOP + b"\1\6\0\0\0\0\0\0" * extra


def fragment(offset: int, *, more: bool) -> bytes:
    """What follows the next-header octet of a fragment header (RFC 8200 section 4.5); offset in eights."""
    return b"\0" + (offset << 3 | more).to_bytes(2, "big") + b"\x12\x34\x56\x78"


def walk(packet: bytes) -> ipv6.Upper:
    return ipv6.walk(packet, ipv6.parse(packet))


def test_each_field_is_read() -> None:
    assert ipv6.parse(PACKET) == ipv6.Header(
        traffic_class=0x2D,
        flow_label=0xABCDE,
        payload_length=4,
        next_header=17,
        hop_limit=63,
        source=A,
        destination=B,
    )


def test_each_field_is_written() -> None:
    assert ipv6.emit(A, B, 17, 4, hop_limit=63, traffic_class=0x2D, flow_label=0xABCDE) == PACKET[:40]


def test_it_may_begin_anywhere() -> None:
    assert ipv6.parse(b"\xff" * 10 + PACKET, 10) == ipv6.parse(PACKET)


@pytest.mark.parametrize(
    "octets",
    [b"", PACKET[:39], b"\x45" + PACKET[1:], PACKET[:-1]],
    ids=["nothing", "cut off", "version 4", "a payload length beyond the octets"],
)
def test_what_is_no_header_is_refused(octets: bytes) -> None:
    with pytest.raises(MalformedPacketError) as caught:
        ipv6.parse(octets)
    assert caught.value.reason is Reason.MALFORMED_IP


@pytest.mark.parametrize(
    ("packet", "upper"),
    [
        (chain(), (17, 40, False, 0)),
        (chain((0, option())), (17, 48, False, 0)),
        (chain((0, option(2)), (60, option()), (43, b"\0\4\0" + bytes(4))), (17, 80, False, 0)),
        (chain((60, option()), last=59, payload=b""), (59, 48, False, 0)),
        (chain((44, fragment(0, more=True))), (17, 48, True, 40)),
        (chain((0, option()), (44, fragment(3, more=False))), (17, 56, True, 48)),
        (chain((44, fragment(3, more=True)), last=60, payload=b""), (60, 48, True, 40)),
        (chain(*[(60, option())] * 8), (17, 104, False, 0)),
        (chain(last=51), (51, 40, False, 0)),
    ],
    ids=[
        "no extension",
        "hop-by-hop options are passed over",
        "and those that follow, each with its own length",
        "nothing comes after 'no next header'",
        "the first fragment has an upper layer",
        "a later one has none to read, only its number",
        "nor are its octets taken for extension headers",
        "eight of them are walked",
        "what is not known to be an extension ends the walk",
    ],
)
def test_the_walk_ends_at_the_upper_layer(packet: bytes, upper: tuple[int, int, bool, int]) -> None:
    assert walk(packet) == ipv6.Upper(*upper)


@pytest.mark.parametrize(
    "packet",
    [
        chain(*[(60, option())] * 9),
        chain((60, option()), (0, option())),
        chain((0, b"\xff" + HOP_BY_HOP)),
        chain((60, b"\0\1\2"), payload=b""),
        chain((44, fragment(0, more=True)), (44, fragment(0, more=True))),
        chain((44, b"\0\0\0"), payload=b""),
    ],
    ids=[
        "nine extension headers",
        "hop-by-hop options after another header (RFC 8200 section 4.1)",
        "a length that leaves the packet",
        "an options header cut off",
        "a fragment within a fragment",
        "a fragment header cut off",
    ],
)
def test_a_chain_that_cannot_be_is_refused(packet: bytes) -> None:
    with pytest.raises(MalformedPacketError) as caught:
        walk(packet)
    assert caught.value.reason is Reason.MALFORMED_EXTENSION


@pytest.mark.parametrize(
    ("packet", "reason", "problem"),
    [
        (chain((60, option()), (43, b"\0\0\1" + bytes(4))), Reason.ROUTING_HEADER, (0, 50)),
        (chain((0, option()), (60, b"\0\xbe\4" + bytes(4))), Reason.UNKNOWN_OPTION, (2, 50)),
        (chain((0, b"\0\x7e\4" + bytes(4))), Reason.UNKNOWN_OPTION, None),
    ],
    ids=["a source route", "an option whose sender wants to hear of it", "and one whose sender does not"],
)
def test_what_may_not_be_ignored_is_refused(packet: bytes, reason: Reason, problem: tuple[int, int] | None) -> None:
    with pytest.raises(MalformedPacketError) as caught:
        ipv6.walk(b"before" + packet, ipv6.parse(packet), len(b"before"))
    assert (caught.value.reason, caught.value.problem) == (reason, problem)


@pytest.mark.parametrize(
    ("packet", "link"),
    [
        (chain(), 6),
        (chain((0, option())), 40),
        (chain((0, option(2)), (60, option())), 64),
        (chain((0, option()), (44, fragment(0, more=True)), (60, option())), 56),
        (chain((44, b"\xff" + fragment(0, more=True)[1:])), 40),
    ],
    ids=["the fixed header", "one extension", "two", "a fragment among them", "a reserved octet is no length"],
)
def test_where_the_last_next_header_is(packet: bytes, link: int) -> None:
    assert ipv6.last_link(packet, walk(packet).offset) == link


@given(
    source=st.binary(min_size=16, max_size=16),
    destination=st.binary(min_size=16, max_size=16),
    next_header=st.integers(0, 255),
    length=st.integers(0, 64),
    hop_limit=st.integers(0, 255),
    traffic_class=st.integers(0, 255),
    flow_label=st.integers(0, 0xFFFFF),
)
def test_what_is_written_is_read_again_by_us_and_by_scapy(
    source: bytes, destination: bytes, next_header: int, length: int, **fields: int
) -> None:
    head = ipv6.emit(source, destination, next_header, length, **fields)
    assert ipv6.parse(head + bytes(length)) == ipv6.Header(
        fields["traffic_class"], fields["flow_label"], length, next_header, fields["hop_limit"], source, destination
    )
    theirs = IPv6(head)
    assert (theirs.tc, theirs.fl, theirs.plen, theirs.nh, theirs.hlim) == (
        fields["traffic_class"], fields["flow_label"], length, next_header, fields["hop_limit"],
    )  # fmt: skip
    assert bytes(theirs)[:40] == head


@given(st.binary(max_size=160), st.sampled_from([0, 43, 44, 60, 17, 59]))
def test_any_octets_after_the_header_are_walked_or_malformed(body: bytes, first: int) -> None:
    packet = ipv6.emit(A, B, first, len(body)) + body
    try:
        upper = walk(packet)
    except MalformedPacketError:
        return
    assert 40 <= upper.offset <= len(packet)


@given(st.binary(max_size=120))
def test_any_octets_are_a_header_or_malformed(octets: bytes) -> None:
    try:
        header = ipv6.parse(octets)
        ipv6.walk(octets, header)
    except MalformedPacketError:
        return
    assert 40 + header.payload_length <= len(octets)
