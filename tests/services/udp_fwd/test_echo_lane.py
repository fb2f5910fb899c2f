"""The short way of echo requests: which frames fit a lane."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netstack.packet import checksum, icmp, ipv4, ipv6, vnet
from netstack.packet.reason import MalformedPacketError
from services.udp_fwd import echo
from services.udp_fwd.echo_lane import EchoLanes, can_be
from services.udp_fwd.outgoing import Header

HEADER = Header(tos=0, ttl=63, dont_fragment=True)
V4 = (bytes([10, 0, 0, 2]), bytes([198, 18, 0, 1]))
V6 = (bytes.fromhex("fd006e73000000000000000000000002"), bytes.fromhex("20010db8000000000000000000000001"))
BOTH = pytest.mark.parametrize("ends", [V4, V6], ids=["IPv4", "IPv6"])


def frame(ends, payload=b"", *, identifier=5, sequence=1, ttl=64, tos=0, kind=None):
    """As `ping` sends it, its checksum filled in."""
    source, destination = ends
    rest = identifier << 16 | sequence
    if len(source) == 4:
        upper = icmp.emit(icmp.ECHO_REQUEST if kind is None else kind, 0, rest, payload)
        head = ipv4.emit(source, destination, icmp.PROTOCOL, len(upper), ttl=ttl, tos=tos)
    else:
        upper = icmp.emit_v6(source, destination, icmp.V6_ECHO_REQUEST if kind is None else kind, 0, rest, payload)
        head = ipv6.emit(source, destination, icmp.PROTOCOL_V6, len(upper), hop_limit=ttl, traffic_class=tos)
    return vnet.NO_OFFLOAD + head + upper


def identified(octets, identification):
    """The same IPv4 packet under another identification."""
    head = bytearray(octets[10:30])
    head[4:6] = identification.to_bytes(2, "big")
    head[10:12] = bytes(2)
    head[10:12] = checksum.checksum(head).to_bytes(2, "big")
    return octets[:10] + bytes(head) + octets[30:]


def lanes(octets):
    known = EchoLanes()
    known.add(octets, "there", HEADER)
    return known


@BOTH
@given(st.binary(max_size=1473), st.binary(max_size=1473), st.integers(0, 0xFFFF))
def test_requests_of_one_ping_fit_whatever_is_in_them(ends, first, second, sequence):
    octets = frame(ends, second, sequence=sequence)
    lane = lanes(frame(ends, first)).find(octets)
    assert (lane.destination, lane.header) == ("there", HEADER)
    assert octets[lane.message :] == echo.parse(octets).message


@given(st.integers(0, 0xFFFF))
def test_another_identification_fits(identification):
    assert lanes(frame(V4, b"hello")).find(identified(frame(V4, b"and more"), identification)) is not None


@BOTH
def test_another_flow_or_header_does_not_fit(ends):
    known = lanes(frame(ends, b"hello"))
    assert known.find(frame(ends, b"hello")) is not None
    for other in (
        frame(ends, b"hello", identifier=6),
        frame(ends, b"hello", ttl=63),
        frame(ends, b"hello", tos=8),
        frame(ends, b"hello", kind=0),
        frame((ends[1], ends[0]), b"hello"),
        frame(V6 if ends is V4 else V4, b"hello"),
        b"",
    ):
        assert known.find(other) is None


@BOTH
@given(st.data())
def test_what_fits_is_what_the_long_way_takes_for_the_same(ends, data):
    right = frame(ends, data.draw(st.binary(max_size=40)))
    damaged = bytearray(right)
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    damaged = bytes(damaged[: data.draw(st.integers(0, len(damaged)))]) if data.draw(st.booleans()) else bytes(damaged)
    lane = lanes(right).find(damaged)
    try:
        long_way = echo.parse(damaged)
    except MalformedPacketError:
        long_way = None
    if lane is not None:
        assert long_way is not None
        assert damaged[lane.message :] == long_way.message
        same = {"sequence": 0, "message": b"", "packet": b""}
        assert long_way._replace(**same) == echo.parse(right)._replace(**same)


@BOTH
def test_what_is_removed_fits_no_more(ends):
    known = EchoLanes()
    key = known.add(frame(ends), "there", HEADER)
    assert len(known) == 1
    known.remove(key)
    assert known.find(frame(ends)) is None
    assert len(known) == 0


@BOTH
def test_padding_or_an_offload_makes_no_lane(ends):
    assert can_be(frame(ends, b"hello"))
    assert not can_be(frame(ends, b"hello") + b"x")
    assert not can_be(vnet.emit(vnet.GSO_NONE, 0, 0, 30, 2) + frame(ends, b"hello")[10:])
