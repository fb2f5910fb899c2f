"""The short way: which frames fit a lane, and what leaves together."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netstack.packet import checksum, datagram, ipv4, ipv6, udp, vnet
from netstack.packet.reason import MalformedPacketError
from services.udp_fwd.lane import MAX_OCTETS, MAX_SEGMENTS, Lanes, can_be
from services.udp_fwd.outgoing import Header

HEADER = Header(tos=0, ttl=63, dont_fragment=True)
V4 = (bytes([10, 0, 0, 2]), bytes([198, 18, 0, 1]))
V6 = (bytes.fromhex("fd006e73000000000000000000000002"), bytes.fromhex("20010db8000000000000000000000001"))
BOTH = pytest.mark.parametrize("ends", [V4, V6], ids=["IPv4", "IPv6"])


def frame(ends: tuple[bytes, bytes], payload: bytes, *, port: int = 7, segment: int = 0, ttl: int = 64) -> bytes:
    """As the client's kernel hands it over, its UDP checksum left to us."""
    upper = udp.emit(*ends, 5000, port, payload)
    if len(ends[0]) == 4:
        head = ipv4.emit(*ends, udp.PROTOCOL, len(upper), ttl=ttl)
    else:
        head = ipv6.emit(*ends, udp.PROTOCOL, len(upper), hop_limit=ttl)
    kind = vnet.GSO_UDP_L4 if segment else vnet.GSO_NONE
    return vnet.emit(kind, len(head) + 8, segment, len(head), 6) + head + upper


def identified(octets: bytes, identification: int) -> bytes:
    """The same IPv4 packet under another identification."""
    head = bytearray(octets[10:30])
    head[4:6] = identification.to_bytes(2, "big")
    head[10:12] = bytes(2)
    head[10:12] = checksum.checksum(head).to_bytes(2, "big")
    return octets[:10] + bytes(head) + octets[30:]


def lanes(octets: bytes) -> Lanes[str]:
    known: Lanes[str] = Lanes()
    known.add(octets, "there", HEADER)
    return known


@BOTH
@given(st.binary(max_size=1400), st.binary(max_size=1400))
def test_datagrams_of_one_flow_fit_whatever_is_in_them(ends, first, second):
    lane = lanes(frame(ends, first)).find(frame(ends, second))
    assert lane is not None
    assert lane.add(frame(ends, second))
    assert (lane.parts, lane.quote, lane.destination) == (
        [second],
        frame(ends, second)[10:][:1280][: len(lane.quote)],
        "there",
    )
    assert len(lane.quote) == min(len(frame(ends, second)) - 10, 576 if len(ends[0]) == 4 else 1280)


@given(st.integers(0, 0xFFFF))
def test_another_identification_fits(identification):
    known = lanes(frame(V4, b"hello"))
    assert known.find(identified(frame(V4, b"and more"), identification)) is not None


@BOTH
def test_another_flow_or_header_does_not_fit(ends):
    known = lanes(frame(ends, b"hello"))
    assert known.find(frame(ends, b"hello")) is not None
    for other in (
        frame(ends, b"hello", port=8),
        frame(ends, b"hello", ttl=63),
        frame(ends, b"hello", segment=2),
        frame((ends[1], ends[0]), b"hello"),
        frame(V6 if ends is V4 else V4, b"hello"),
        b"",
    ):
        assert known.find(other) is None


@BOTH
@given(st.data())
def test_what_fits_is_what_the_parser_finds_right(ends, data):
    """One octet of the headers changed, octets cut off or added: it fits only where the parser would say the same."""
    good = frame(ends, b"a datagram")
    start = len(good) - len(b"a datagram")
    wrong = bytearray(good)
    wrong[data.draw(st.integers(10, start - 1))] ^= data.draw(st.integers(1, 255))
    wrong = wrong[: len(wrong) - data.draw(st.integers(0, 3))] + bytes(data.draw(st.integers(0, 3)))
    lane = lanes(good).find(bytes(wrong))
    if lane is None:
        return
    try:
        parsed = datagram.parse(bytes(wrong))
    except MalformedPacketError as error:
        pytest.fail(f"{error}: {wrong.hex()}")
    assert (parsed.client, parsed.client_port, parsed.server, parsed.server_port) == (ends[0], 5000, ends[1], 7)
    lane.add(bytes(wrong))
    assert lane.parts == parsed.payloads


@BOTH
def test_equal_ones_leave_together_and_a_shorter_one_ends_the_train(ends):
    lane = lanes(frame(ends, bytes(100))).find(frame(ends, bytes(100)))
    sizes = [100, 100, 60]
    assert all(lane.add(frame(ends, bytes(size))) for size in sizes)
    assert not lane.add(frame(ends, bytes(60)))
    assert lane.size == 100
    assert [len(part) for part in lane.take()] == sizes
    assert lane.parts == []
    assert lane.add(frame(ends, bytes(60)))
    assert not lane.add(frame(ends, bytes(61))), "a longer one"
    assert not lane.add(frame(ends, b"")), "an empty one is no segment"
    assert lane.size == 60


@pytest.mark.parametrize("size", [1, 1400, 40000])
def test_a_train_is_no_longer_than_one_call_takes(size):
    octets = frame(V4, bytes(size))
    lane = lanes(octets).find(octets)
    while lane.add(octets):
        pass
    assert len(lane.parts) == max(1, min(MAX_SEGMENTS, MAX_OCTETS // size))


def test_a_train_of_the_client_s_own_leaves_as_it_is():
    octets = frame(V4, bytes(950), segment=100)
    lane = lanes(octets).find(octets)
    assert lane.add(octets)
    assert not lane.add(octets)
    assert (lane.size, list(map(len, lane.take()))) == (100, [950])


@BOTH
def test_what_has_padding_a_checksum_to_verify_or_too_long_a_train_is_no_example(ends):
    good = frame(ends, bytes(1000))
    assert can_be(good)
    assert can_be(frame(ends, bytes(1000), segment=100))
    assert not can_be(b"\0" + good[1:])
    assert not can_be(good + b"\0")
    assert not can_be(frame(ends, bytes(1000), segment=1))


def test_what_is_removed_is_not_found():
    known: Lanes[str] = Lanes()
    key = known.add(frame(V4, b"hello"), "there", HEADER)
    known.remove(key)
    assert known.find(frame(V4, b"hello")) is None
    assert len(known) == 0
