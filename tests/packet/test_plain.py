"""Plain frames, beside the slow look that knows them all."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netstack.packet import frame as frames
from netstack.packet import icmp, ipv4, ipv6, plain, tcp, udp
from netstack.packet.flow import Flow, endpoint_key
from netstack.packet.reason import MalformedPacketError
from netstack.packet.vnet import NO_OFFLOAD
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


HERE, THERE = bytes([10, 0, 0, 2]), bytes([198, 18, 0, 1])
HERE_V6, THERE_V6 = bytes.fromhex("fd" + "00" * 14 + "02"), bytes.fromhex("20010db8" + "00" * 11 + "01")


def sent(client: bytes, server: bytes, protocol: int, upper: bytes) -> bytearray:
    """A packet of the client as its kernel makes it."""
    emit = ipv4.emit if len(client) == 4 else ipv6.emit
    return bytearray(NO_OFFLOAD + emit(client, server, protocol, len(upper)) + upper)


UDP = udp.emit(HERE, THERE, 5000, 0x1234, b"hello")
ECHO = icmp.emit(icmp.ECHO_REQUEST, 0, 0xABCD0001, b"hello")
ECHO_V6 = icmp.emit_v6(HERE_V6, THERE_V6, icmp.V6_ECHO_REQUEST, 0, 0xABCD0001, b"hello")


def test_the_endpoint_of_a_datagram_is_the_client_s():
    for ends in ((HERE, THERE), (HERE_V6, THERE_V6)):
        frame = bytes(sent(*ends, udp.PROTOCOL, UDP))
        assert plain.udp_endpoint(frame) == endpoint_key(ends[0], 5000)
        assert plain.udp_endpoint(memoryview(frame)) == endpoint_key(ends[0], 5000)
        assert plain.udp_port(frame) == 0x1234
        assert plain.echo_endpoint(frame) == b""


def test_the_endpoint_of_an_echo_is_the_client_s_address_and_the_identifier():
    for frame, client in (
        (bytes(sent(HERE, THERE, icmp.PROTOCOL, ECHO)), HERE),
        (bytes(sent(HERE_V6, THERE_V6, icmp.PROTOCOL_V6, ECHO_V6)), HERE_V6),
    ):
        assert plain.echo_endpoint(frame) == endpoint_key(client, 0xABCD)
        assert plain.udp_endpoint(frame) == b""


@pytest.mark.parametrize(
    ("at", "octet"), [(16, 0x20), (17, 1), (18, 1), (10, 0x46), (19, 132), (26, 224), (26, 0), (26, 255)]
)
def test_what_is_not_plain_has_no_endpoint(at, octet):
    for protocol, upper in ((udp.PROTOCOL, UDP), (icmp.PROTOCOL, ECHO)):
        frame = changed(sent(HERE, THERE, protocol, upper), at, octet)
        assert plain.udp_endpoint(frame) == plain.echo_endpoint(frame) == b""


@pytest.mark.parametrize(("at", "octet"), [(16, 44), (16, 0), (17, 1), (34, 0xFF), (34, 0)])
def test_the_same_over_ipv6(at, octet):
    for protocol, upper in ((udp.PROTOCOL, UDP), (icmp.PROTOCOL_V6, ECHO_V6)):
        frame = changed(sent(HERE_V6, THERE_V6, protocol, upper), at, octet)
        assert plain.udp_endpoint(frame) == plain.echo_endpoint(frame) == b""


@given(st.binary(max_size=60))
def test_noise_has_an_endpoint_or_none_but_no_error(noise):
    assert len(plain.udp_endpoint(noise)) in {0, 6, 18}
    assert len(plain.echo_endpoint(noise)) in {0, 6, 18}
