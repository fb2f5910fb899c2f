"""Frames as read from a TUN with IFF_VNET_HDR."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netstack.packet import frame, ipv6
from netstack.packet.frame import Frame
from netstack.packet.reason import MalformedPacketError, Reason

CLIENT, SERVER = bytes([10, 0, 0, 2]), bytes([1, 1, 1, 1])
CLIENT6 = bytes.fromhex("fd006e73000000000000000000000002")
SERVER6 = bytes.fromhex("20010db8000000000000000000000001")
V4_MAPPED = bytes.fromhex("00000000000000000000ffffc6120001")  # ::ffff:198.18.0.1

NO_OFFLOAD = bytes(10)
NEEDS_CSUM = bytes([1, 1]) + bytes(8)  # and gso_type TCPv4
DATA_VALID = bytes([2]) + bytes(9)

IPV4 = bytes.fromhex(
    "45 2e 0020 0000 4000 3f 11"  # IHL 5, EF and ECT(0), length 32, DF, TTL 63, UDP
    "2f9c"  # header checksum
    "0a000002 01010101"
    "14e9 0035 000c ffe3 70696e67"  # a UDP datagram
)
IPV6 = bytes.fromhex(
    "62e0 0000 0014 3c 3f"  # traffic class 2e, payload length 20, destination options, hop limit 63
    "fd006e73000000000000000000000002 20010db8000000000000000000000001"
    "11 00 0104 00000000"  # destination options: UDP follows, one PadN
    "14e9 0035 000c 0000 70696e67"
)


def test_an_ipv4_packet_is_taken_apart() -> None:
    octets = NO_OFFLOAD + IPV4
    assert frame.parse(octets) == Frame(
        octets=octets,
        version=4,
        protocol=17,
        source=CLIENT,
        destination=SERVER,
        ttl=63,
        tos=0x2E,
        upper=30,
        end=42,
        trusted=False,
        gso_type=0,
        gso_size=0,
    )


def test_an_ipv6_packet_is_taken_apart() -> None:
    octets = NO_OFFLOAD + IPV6
    assert frame.parse(octets) == Frame(
        octets=octets,
        version=6,
        protocol=17,
        source=CLIENT6,
        destination=SERVER6,
        ttl=63,
        tos=0x2E,
        upper=58,
        end=70,
        trusted=False,
        gso_type=0,
        gso_size=0,
    )


@pytest.mark.parametrize("packet", [IPV4, IPV6], ids=["IPv4", "IPv6"])
def test_padding_is_no_part_of_the_packet(packet: bytes) -> None:
    assert frame.parse(NO_OFFLOAD + packet + b"padding").packet == packet


@pytest.mark.parametrize(
    ("header", "trusted"),
    [(NO_OFFLOAD, False), (NEEDS_CSUM, True), (DATA_VALID, True)],
    ids=[
        "a forwarded packet's checksum must be verified",
        "one that is not filled in yet cannot be",
        "one that was verified need not be",
    ],
)
def test_whether_the_checksum_is_to_be_trusted(header: bytes, trusted: bool) -> None:
    assert frame.parse(header + IPV4).trusted is trusted


def test_what_the_kernel_left_to_be_segmented_is_said() -> None:
    header = bytes([1, 5]) + b"".join(n.to_bytes(2, "little") for n in (28, 1472, 20, 6))
    whole = frame.parse(header + IPV4)
    assert (whole.gso_type, whole.gso_size) == (5, 1472)


@pytest.mark.parametrize(
    ("octets", "reason"),
    [
        (b"", Reason.MALFORMED_VNET),
        (NO_OFFLOAD, Reason.MALFORMED_VNET),
        (NO_OFFLOAD[:9], Reason.MALFORMED_VNET),
        (NO_OFFLOAD + b"\x55" + IPV4[1:], Reason.MALFORMED_IP),
        (NO_OFFLOAD + IPV4[:-1], Reason.MALFORMED_IP),
        (NO_OFFLOAD + IPV4[:10] + b"\x00\x00" + IPV4[12:], Reason.BAD_CHECKSUM),
        (NO_OFFLOAD + bytes.fromhex("45000014 00002000 40114ed6 0a000002 01010101"), Reason.FRAGMENT),
        (NO_OFFLOAD + bytes.fromhex("45000014 00000001 40116ed5 0a000002 01010101"), Reason.FRAGMENT),
        (NO_OFFLOAD + ipv6.emit(CLIENT6, SERVER6, 44, 8) + bytes.fromhex("11 00 0001 00000001"), Reason.FRAGMENT),
        (NO_OFFLOAD + ipv6.emit(CLIENT6, SERVER6, 44, 8) + bytes.fromhex("11 00 0008 00000001"), Reason.FRAGMENT),
        (NO_OFFLOAD + ipv6.emit(CLIENT6, SERVER6, 0, 2) + b"\x11\x00", Reason.MALFORMED_EXTENSION),
        (NO_OFFLOAD + ipv6.emit(CLIENT6, V4_MAPPED, 17, 8) + bytes(8), Reason.MALFORMED_IP),
        (NO_OFFLOAD + ipv6.emit(V4_MAPPED, SERVER6, 17, 8) + bytes(8), Reason.MALFORMED_IP),
    ],
    ids=[
        "nothing",
        "a vnet header and nothing after it",
        "a vnet header cut off",
        "IP version 5",
        "a packet cut off",
        "a wrong checksum in the IP header",
        "the first fragment",
        "a later fragment",
        "the first fragment of IPv6",
        "a later fragment of IPv6",
        "an extension header cut off",
        "to an IPv4-mapped address",
        "from an IPv4-mapped address",
    ],
)
def test_what_cannot_be_forwarded_has_a_reason(octets: bytes, reason: Reason) -> None:
    with pytest.raises(MalformedPacketError) as caught:
        frame.parse(octets)
    assert caught.value.reason is reason


@given(st.binary(max_size=120), st.sampled_from([b"", NO_OFFLOAD, NO_OFFLOAD + b"\x45", NO_OFFLOAD + b"\x60"]))
def test_any_octets_are_a_frame_or_malformed(octets: bytes, start: bytes) -> None:
    octets = start + octets
    try:
        whole = frame.parse(octets)
    except MalformedPacketError:
        return
    assert 10 < whole.upper <= whole.end <= len(octets)
    assert len(whole.source) == len(whole.destination) == (4 if whole.version == 4 else 16)


@given(st.integers(0, len(IPV4) - 1), st.integers(0, 255), st.sampled_from([IPV4, IPV6]))
def test_a_packet_with_any_octet_changed_is_a_frame_or_malformed(at: int, value: int, packet: bytes) -> None:
    with suppress(MalformedPacketError):
        frame.parse(NO_OFFLOAD + packet[:at] + bytes([value]) + packet[at + 1 :])
