"""Plain frames, beside the slow look that knows them all."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netstack.packet import frame as frames
from netstack.packet import plain, tcp
from netstack.packet.flow import Flow
from netstack.packet.reason import MalformedPacketError
from services.tcp_fwd.segment import Emitter

V4 = Flow(tcp.PROTOCOL, bytes([198, 18, 0, 1]), 80, bytes([10, 0, 0, 2]), 40000)
V6 = Flow(
    tcp.PROTOCOL, bytes.fromhex("20010db8000000000000000000000001"), 80, bytes.fromhex("fd" + "00" * 14 + "02"), 4
)


def syn(flow: Flow) -> bytearray:
    """A client's SYN of a flow whose client and server are the wrong way round: an Emitter writes to the client."""
    return bytearray(Emitter(flow, 1460).emit(1000, 0, tcp.SYN, 0xFFFF))


def changed(frame: bytearray, at: int, octet: int) -> bytes:
    frame[at] = octet
    return bytes(frame)


@pytest.mark.parametrize("flow", [V4, V6], ids=["IPv4", "IPv6"])
def test_an_ordinary_segment_is_plain(flow):
    assert plain.is_tcp(bytes(syn(flow)))


@pytest.mark.parametrize(
    ("frame", "why"),
    [
        (changed(syn(V4), 19, 17), "UDP"),
        (changed(syn(V4), 18, 1), "its TTL ends here"),
        (changed(syn(V4), 16, 0x20), "more fragments follow"),
        (changed(syn(V4), 17, 1), "a later fragment"),
        (changed(syn(V4), 10, 0x46), "options"),
        (changed(syn(V4), 10, 0x55), "an IP version that there is not"),
        (changed(syn(V6), 16, 0), "a hop-by-hop header"),
        (changed(syn(V6), 17, 1), "its hop limit ends here"),
        (bytes(syn(V4))[:49], "a header cut short"),
        (bytes(syn(V6))[:69], "a header cut short"),
        (b"", "nothing"),
    ],
)
def test_the_rest_is_not(frame, why):
    assert not plain.is_tcp(frame), why


@pytest.mark.parametrize(
    ("destination", "may"),
    [
        ("c6120001", True),
        ("00000001", False),
        ("e0000001", False),
        ("ffffffff", False),
        ("20010db8000000000000000000000001", True),
        ("00000000000000000000000000000000", False),
        ("00000000000000000000ffff c6120001", False),
        ("ff020000000000000000000000000001", False),
    ],
)
def test_where_a_connection_may_be_opened_to(destination, may):
    server = bytes.fromhex(destination)
    flow = V4 if len(server) == 4 else V6
    assert plain.may_open(bytes(syn(flow._replace(client=server)))) == may


@given(st.binary(max_size=90), st.sampled_from([V4, V6]), st.integers(0, 80))
def test_what_is_plain_parses_as_tcp_or_not_at_all(noise, flow, at):
    frame = syn(flow)
    frame[at : at + len(noise)] = noise
    if plain.is_tcp(bytes(frame)):
        try:
            whole = frames.parse(bytes(frame))
        except MalformedPacketError:
            return
        assert whole.protocol == tcp.PROTOCOL
        assert whole.ttl > 1
