"""The IPv4 header, against literal octets and scapy."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP

from netstack.packet import ipv4
from netstack.packet.checksum import checksum
from netstack.packet.reason import MalformedPacketError, Reason

# The header that Wikipedia's article on the IPv4 header checksum works through.
HEADER = bytes.fromhex(
    "45 00 0073"  # version, IHL 5, DSCP/ECN, total length 115
    "0000 4000"  # identification, DF
    "40 11 b861"  # TTL 64, UDP, checksum
    "c0a80001 c0a800c7"  # 192.168.0.1 > 192.168.0.199
)
PACKET = HEADER + bytes(95)

ADDRESS = st.binary(min_size=4, max_size=4)


def test_each_field_is_read() -> None:
    assert ipv4.parse(PACKET) == ipv4.Header(
        ihl=20,
        tos=0,
        total_length=115,
        identification=0,
        dont_fragment=True,
        more_fragments=False,
        fragment_offset=0,
        ttl=64,
        protocol=17,
        source=bytes([192, 168, 0, 1]),
        destination=bytes([192, 168, 0, 199]),
    )


def test_each_field_is_written() -> None:
    assert ipv4.emit(bytes([192, 168, 0, 1]), bytes([192, 168, 0, 199]), 17, 95) == HEADER


def test_it_may_begin_anywhere() -> None:
    assert ipv4.parse(b"\xff" * 7 + PACKET, 7) == ipv4.parse(PACKET)


def test_options_belong_to_the_header() -> None:
    # RFC 791 section 3.1: four no-operations.
    packet = bytes.fromhex("46 00 0018 0000 0000 40 11 78d0 0a000001 0a000002 01010101")
    packet = packet[:10] + checksum(packet[:10] + bytes(2) + packet[12:]).to_bytes(2, "big") + packet[12:]
    header = ipv4.parse(packet)
    assert (header.ihl, header.total_length) == (24, 24)


@pytest.mark.parametrize(
    ("word", "is_fragment", "offset"),
    [(0x4000, False, 0), (0x0000, False, 0), (0x2000, True, 0), (0x2001, True, 8), (0x1FFF, True, 65528)],
    ids=[
        "don't fragment",
        "may be fragmented, is not",
        "the first fragment says that more follow",
        "a middle one counts its offset in eights",
        "the last one says that none follow",
    ],
)
def test_fragments_are_told(word: int, is_fragment: bool, offset: int) -> None:
    header = ipv4.parse(ipv4.emit(bytes(4), bytes(4), 17, 0, fragment=word))
    assert (header.is_fragment, header.fragment_offset) == (is_fragment, offset)


@pytest.mark.parametrize(
    ("octets", "reason"),
    [
        (HEADER[:19], Reason.MALFORMED_IP),
        (b"", Reason.MALFORMED_IP),
        (b"\x65" + PACKET[1:], Reason.MALFORMED_IP),
        (b"\x44" + PACKET[1:], Reason.MALFORMED_IP),
        (PACKET[:2] + b"\x00\x13" + PACKET[4:], Reason.MALFORMED_IP),
        (PACKET[:-1], Reason.MALFORMED_IP),
        (PACKET[:8] + b"\x3f" + PACKET[9:], Reason.BAD_CHECKSUM),
    ],
    ids=[
        "cut off",
        "nothing",
        "version 6",
        "an IHL below five words",
        "a total length below the header's",
        "a total length beyond the octets",
        "a TTL changed without the checksum",
    ],
)
def test_what_is_no_header_is_refused(octets: bytes, reason: Reason) -> None:
    with pytest.raises(MalformedPacketError) as caught:
        ipv4.parse(octets)
    assert caught.value.reason is reason


def test_an_ihl_beyond_the_packet_is_refused() -> None:
    octets = b"\x4f" + HEADER[1:2] + b"\x00\x14" + HEADER[4:]
    with pytest.raises(MalformedPacketError, match="malformed-ip"):
        ipv4.parse(octets)


def test_the_checksum_is_not_looked_at_where_it_was_told_not_to() -> None:
    assert ipv4.parse(PACKET[:8] + b"\x3f" + PACKET[9:], verify=False).ttl == 63


@given(
    source=ADDRESS,
    destination=ADDRESS,
    protocol=st.integers(0, 255),
    length=st.integers(0, 64),
    ttl=st.integers(0, 255),
    tos=st.integers(0, 255),
    identification=st.integers(0, 0xFFFF),
    fragment=st.integers(0, 0x7FFF),
)
def test_what_is_written_is_read_again_by_us_and_by_scapy(
    source: bytes, destination: bytes, protocol: int, length: int, **fields: int
) -> None:
    head = ipv4.emit(source, destination, protocol, length, **fields)
    assert checksum(head) == 0
    header = ipv4.parse(head + bytes(length))
    word = header.fragment_offset >> 3 | header.dont_fragment << 14 | header.more_fragments << 13
    assert header == (20, fields["tos"], 20 + length, fields["identification"], *header[4:7], fields["ttl"], protocol,
                      source, destination)  # fmt: skip
    assert word == fields["fragment"]
    theirs = IP(head)
    assert (theirs.tos, theirs.len, theirs.id, theirs.ttl, theirs.proto) == (
        header.tos, header.total_length, header.identification, header.ttl, header.protocol,
    )  # fmt: skip
    assert (theirs.frag, int(theirs.flags)) == (word & 0x1FFF, word >> 13)
    del theirs.chksum
    assert bytes(theirs)[:20] == head


@given(st.binary(max_size=80), st.integers(0, 8))
def test_any_octets_are_a_header_or_malformed(octets: bytes, start: int) -> None:
    try:
        header = ipv4.parse(octets, start)
    except MalformedPacketError:
        return
    assert 20 <= header.ihl <= header.total_length <= len(octets) - start
