"""Frames with TCP: ours against scapy's, both ways."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt

from netstack.packet import tcp, vnet
from netstack.packet.flow import Flow
from netstack.packet.reason import MalformedPacketError, Reason
from services.tcp_fwd.segment import Emitter, flow_of, parse

V4 = Flow(6, bytes([10, 0, 0, 2]), 40000, bytes([198, 18, 0, 1]), 443)
V6 = Flow(6, bytes.fromhex("fd006e73" + "0" * 23 + "2"), 40000, bytes.fromhex("20010002" + "0" * 23 + "1"), 443)
OFFLOADED = bytes([vnet.F_NEEDS_CSUM]) + bytes(9)


def made_by_scapy(flow: Flow, **fields):
    if len(flow.client) == 4:
        ip = IP(src=".".join(map(str, flow.client)), dst=".".join(map(str, flow.server)))
    else:
        ip = IPv6(src="fd00:6e73::2", dst="2001:2::1")
    return ip / TCP(sport=flow.client_port, dport=flow.server_port, **fields)


@pytest.mark.parametrize("flow", [V4, V6], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize("mark", [vnet.NO_OFFLOAD, OFFLOADED], ids=["verified", "offloaded"])
def test_a_segment_is_read_as_scapy_wrote_it(flow, mark):
    packet = made_by_scapy(flow, seq=7, ack=9, flags="PA", window=500, options=[("MSS", 1400)]) / b"payload"
    one = parse(mark + bytes(packet))
    assert (one.seq, one.ack, one.flags, one.window) == (7, 9, tcp.PSH | tcp.ACK, 500)
    assert bytes(one.payload) == b"payload"
    assert tcp.parse_options(one.options).mss == 1400
    assert flow_of(one.key) == flow
    assert one.length == 7


def test_extension_headers_are_walked():
    packet = IPv6(src="fd00:6e73::2", dst="2001:2::1") / IPv6ExtHdrDestOpt() / TCP(sport=40000, dport=443, flags="S")
    one = parse(vnet.NO_OFFLOAD + bytes(packet))
    assert flow_of(one.key) == V6
    assert one.length == 1


@pytest.mark.parametrize("flow", [V4, V6], ids=["IPv4", "IPv6"])
def test_a_wrong_checksum_is_seen_where_nobody_vouches_for_it(flow):
    octets = bytearray(vnet.NO_OFFLOAD + bytes(made_by_scapy(flow, flags="A") / b"payload"))
    octets[-1] ^= 1
    with pytest.raises(MalformedPacketError) as caught:
        parse(bytes(octets))
    assert caught.value.reason is Reason.BAD_CHECKSUM


@pytest.mark.parametrize("flow", [V4, V6], ids=["IPv4", "IPv6"])
def test_what_is_emitted_reads_back_and_the_kernel_can_complete_it(flow):
    frame = Emitter(flow, 1400).emit(11, 22, tcp.ACK | tcp.PSH, 333, b"hello")
    packet = (IP if len(flow.client) == 4 else IPv6)(frame[vnet.VNET_LEN :])
    assert (packet[TCP].seq, packet[TCP].ack, packet[TCP].window) == (11, 22, 333)
    assert (packet[TCP].sport, packet[TCP].dport) == (443, 40000)
    assert bytes(packet[TCP].payload) == b"hello"
    # The kernel sums from csum_start and puts the result at csum_offset; scapy's full checksum must be the same.
    flags, _, _, _, start, offset = vnet.parse(frame)
    assert flags == vnet.F_NEEDS_CSUM
    body = frame[vnet.VNET_LEN + start :]
    completed = 0xFFFF - (int.from_bytes(body + bytes(len(body) % 2), "big") % 0xFFFF or 0xFFFF)
    whole = packet.copy()
    del whole[TCP].chksum
    if len(flow.client) == 4:
        del whole[IP].chksum
        assert packet[IP].chksum == IP(bytes(whole))[IP].chksum
    assert completed == type(whole)(bytes(whole))[TCP].chksum
    assert offset == tcp.CHECKSUM_OFFSET


def test_more_than_a_segment_is_cut_by_the_kernel():
    emitter = Emitter(V4, 1460)
    assert emitter.max_payload % 1460 == 0
    frame = emitter.emit(0, 0, tcp.ACK, 0, bytes(emitter.max_payload))
    _, gso_type, header, size, _, _ = vnet.parse(frame)
    assert (gso_type, header, size) == (vnet.GSO_TCPV4, 40, 1460)
    assert len(frame) <= vnet.VNET_LEN + 65535


@pytest.mark.parametrize("flow", [V4, V6], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize("mark", [vnet.NO_OFFLOAD, OFFLOADED], ids=["verified", "offloaded"])
@pytest.mark.parametrize("whole", [bytes, memoryview])
@pytest.mark.parametrize(
    ("options", "left", "stamps"),
    [
        ([("NOP", None), ("NOP", None), ("Timestamp", (7, 9))], "", (7, 9)),
        ([("NOP", None), ("NOP", None), ("Timestamp", (7, 9)), ("NOP", None), ("NOP", None), ("SAck", (1, 2))],
         "0101 050a 00000001 00000002", (7, 9)),
        ([("Timestamp", (7, 9)), ("NOP", None), ("NOP", None)], "080a 00000007 00000009 0101", (-1, -1)),
        ([("NOP", None), ("NOP", None), ("SAck", (1, 2))], "0101 050a 00000001 00000002", (-1, -1)),
        ([], "", (-1, -1)),
    ],
    ids=["timestamps alone", "and SACK behind", "in another order they are left to others", "SACK alone", "nothing"],
)  # fmt: skip
def test_timestamps_in_their_usual_place_are_read_at_once(flow, mark, whole, options, left, stamps):
    one = parse(whole(mark + bytes(made_by_scapy(flow, flags="A", options=options) / b"payload")))
    assert (one.tsval, one.tsecr) == stamps
    assert one.options == bytes.fromhex(left)
    assert one.payload == b"payload"


@pytest.mark.parametrize("flow", [V4, V6], ids=["IPv4", "IPv6"])
def test_a_head_with_timestamps_reads_back(flow):
    emitter = Emitter(flow, 1460)
    emitter.use_timestamps()
    for size in (5, 5, 0, 5000, 5):
        one = parse(emitter.head(1, 2, tcp.ACK, 3, size, 77, 88) + bytes(size))
        assert (one.seq, one.ack, one.window, one.tsval, one.tsecr, len(one.payload)) == (1, 2, 3, 77, 88, size)
    assert vnet.parse(emitter.head(1, 2, tcp.ACK, 3, 5000, 77, 88))[2:4] == ((72 if emitter.is_v6 else 52), 1448)


@given(st.binary(max_size=200))
def test_any_octets_are_a_segment_or_malformed(octets):
    with suppress(MalformedPacketError):
        parse(octets)


@given(st.binary(max_size=120), st.sampled_from([V4, V6]), st.booleans())
def test_any_octets_after_an_ip_header_are_a_segment_or_malformed(octets, flow, trusted):
    valid = bytes(made_by_scapy(flow, flags="A"))
    header = valid[: 20 if len(flow.client) == 4 else 40]
    with suppress(MalformedPacketError):
        parse((OFFLOADED if trusted else vnet.NO_OFFLOAD) + header + octets)
