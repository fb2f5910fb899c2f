"""UDP datagrams in frames, against scapy."""

import ipaddress
import sys
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6

from netstack.packet import datagram
from netstack.packet.datagram import Datagram
from netstack.packet.reason import MalformedPacketError, Reason

CLIENT, SERVER = bytes([10, 0, 0, 2]), bytes([1, 1, 1, 1])
PACKET = bytes.fromhex(
    "4500 0020 0000 4000 4011 2eca 0a00 0002 0101 0101"  # 10.0.0.2 > 1.1.1.1, length 32, DF, TTL 64, UDP
    "14e9 0035 000c ffe3"  # 5353 > 53, length 12, checksum
    "70 69 6e 67"  # "ping"
)


def vnet(flags: int = 0, gso_type: int = 0, gso_size: int = 0) -> bytes:
    return bytes([flags, gso_type, 0, 0]) + gso_size.to_bytes(2, sys.byteorder) + bytes(4)


def test_a_datagram_is_read() -> None:
    assert datagram.parse(vnet() + PACKET) == Datagram(
        client=CLIENT,
        client_port=5353,
        server=SERVER,
        server_port=53,
        payloads=[b"ping"],
        tos=0,
        ttl=64,
        packet=PACKET,
    )


@pytest.mark.parametrize(
    ("gso_type", "gso_size", "payloads"),
    [
        (0, 0, [b"ping"]),
        (5, 3, [b"pin", b"g"]),
        (5, 2, [b"pi", b"ng"]),
        (0x85, 1, [b"p", b"i", b"n", b"g"]),
        (5, 4, [b"ping"]),
        (5, 0, [b"ping"]),
        (1, 2, [b"ping"]),
    ],
    ids=[
        "one datagram",
        "a train: the last may be shorter",
        "or not",
        "the ECN flag is no part of the type",
        "a train of one",
        "a size of zero segments nothing",
        "nor does another protocol's type",
    ],
)
def test_a_train_is_taken_apart_as_its_sender_cut_it(gso_type: int, gso_size: int, payloads: list[bytes]) -> None:
    assert datagram.parse(vnet(1, gso_type, gso_size) + PACKET).payloads == payloads


def test_what_follows_the_datagram_in_the_packet_is_no_payload() -> None:
    packet = bytes(IP(src="10.0.0.2", dst="1.1.1.1") / UDP(sport=5353, dport=53, len=12) / b"pingX")
    assert datagram.parse(vnet(1) + packet).payloads == [b"ping"]


@pytest.mark.parametrize(
    ("octets", "reason"),
    [
        (vnet() + PACKET[:-1] + b"G", Reason.BAD_CHECKSUM),
        (vnet() + bytes(IP(src="10.0.0.2", dst="1.1.1.1", proto=6) / b"no TCP either")[:33], Reason.UNKNOWN_PROTOCOL),
        (vnet() + bytes(IP(src="10.0.0.2", dst="1.1.1.1", proto=17) / b"short"), Reason.MALFORMED_UDP),
        (vnet() + bytes(IPv6(src="2001:db8::1", dst="2001:db8::2") / UDP(chksum=0) / b"ping"), Reason.BAD_CHECKSUM),
        (vnet() + bytes(IP(src="10.0.0.2", dst="1.1.1.1", flags="MF") / UDP() / b"ping"), Reason.FRAGMENT),
    ],
    ids=[
        "an octet that changed on its way",
        "another protocol",
        "too short for a header",
        "no checksum over IPv6",
        "a fragment",
    ],
)
def test_what_is_no_datagram_has_a_reason(octets: bytes, reason: Reason) -> None:
    with pytest.raises(MalformedPacketError) as caught:
        datagram.parse(octets)
    assert caught.value.reason is reason


def test_a_checksum_that_the_kernel_has_yet_to_fill_in_is_not_verified() -> None:
    assert datagram.parse(vnet(1) + PACKET[:26] + b"\x00\x00" + PACKET[28:]).payloads == [b"ping"]


ADDRESSES = st.sampled_from([4, 16]).flatmap(lambda n: st.tuples(*[st.binary(min_size=n, max_size=n)] * 2))
PORT = st.integers(0, 0xFFFF)


@given(ADDRESSES, PORT, PORT, st.binary(max_size=200), st.integers(0, 255))
def test_what_is_written_is_read_again_and_its_checksum_is_as_the_kernel_expects(
    addresses: tuple[bytes, bytes], source_port: int, client_port: int, payload: bytes, tos: int
) -> None:
    server, client = addresses
    octets = datagram.emit(server, source_port, client, client_port, payload, tos=tos)
    again = datagram.parse(octets)
    assert again == Datagram(server, source_port, client, client_port, [payload], tos, 64, octets[10:])

    # What virtio's specification (section 5.1.6.2) asks of NEEDS_CSUM: the field at csum_start + csum_offset holds the
    # sum of the pseudo-header; complete it as the device would, and compare with scapy.
    flags, gso_type = octets[0], octets[1]
    start, offset = (int.from_bytes(octets[at : at + 2], sys.byteorder) for at in (6, 8))
    assert (flags, gso_type) == (1, 0)
    packet = bytearray(octets[10:])
    total = int.from_bytes(packet[start:] + bytes(len(packet) - start & 1), "big")
    packet[start + offset : start + offset + 2] = (0xFFFF - (total % 0xFFFF) or 0xFFFF).to_bytes(2, "big")
    ip = IP(id=0, flags="DF", tos=tos) if len(server) == 4 else IPv6(tc=tos)
    ip.src, ip.dst = str(ipaddress.ip_address(server)), str(ipaddress.ip_address(client))
    assert bytes(packet) == bytes(ip / UDP(sport=source_port, dport=client_port) / payload)


@pytest.mark.parametrize("size", [0, 1472, 65507], ids=["empty", "of one MTU", "the largest there is"])
def test_datagrams_of_any_size_are_brought_to_the_client(size: int) -> None:
    assert datagram.parse(datagram.emit(SERVER, 53, CLIENT, 5353, bytes(size))).payloads == [bytes(size)]


@given(st.binary(max_size=120), st.sampled_from([b"", vnet(), vnet(1, 5, 3) + b"\x45", vnet() + PACKET[:20]]))
def test_any_octets_are_a_datagram_or_malformed(octets: bytes, start: bytes) -> None:
    with suppress(MalformedPacketError):
        datagram.parse(start + octets)


CLIENT6, SERVER6 = bytes.fromhex("fd006e73" + "00" * 11 + "02"), bytes.fromhex("20010002" + "00" * 11 + "01")
MAPPED6 = bytes(10) + b"\xff\xff" + bytes([198, 18, 0, 1])


@pytest.mark.parametrize(
    ("short", "client", "server"),
    [
        (datagram._parse_plain, CLIENT, SERVER),
        (datagram._parse_plain_v6, CLIENT6, SERVER6),
        (datagram._parse_plain_v6, CLIENT6, MAPPED6),
    ],
    ids=["IPv4", "IPv6", "IPv4-mapped"],
)
@given(
    payload=st.binary(max_size=40),
    flags=st.sampled_from([0, 1, 2, 3]),
    changes=st.lists(st.tuples(st.integers(0, 99), st.integers(0, 255)), max_size=3),
    cut=st.integers(0, 3),
)
def test_the_short_way_through_the_parser_agrees_with_the_long_one(short, client, server, payload, flags, changes, cut):
    octets = bytearray(datagram.emit(client, 5353, server, 5000, payload))
    octets[0] = flags
    for at, value in changes:
        octets[at % len(octets)] = value
    frame = bytes(octets[: len(octets) - cut])
    plain = short(frame)
    if plain is not None:
        assert plain == datagram._parse_any(frame)
    elif not changes and not cut:
        assert not flags or server is MAPPED6
