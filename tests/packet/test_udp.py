"""The UDP header, against literal octets and scapy."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6

from netstack.packet import udp
from netstack.packet.checksum import checksum, pseudo_sum
from netstack.packet.reason import MalformedPacketError, Reason

CLIENT = bytes([10, 0, 0, 2])
SERVER = bytes([1, 1, 1, 1])
DATAGRAM = bytes.fromhex(
    "14e9 0035"  # 5353 > 53
    "000c ffe3"  # length 12, checksum worked out by hand over the pseudo-header 0a000002 01010101 0011 000c
    "70 69 6e 67"  # "ping"
)


def test_each_field_is_read() -> None:
    assert udp.parse(DATAGRAM, 0, 12) == udp.Header(5353, 53, 12, 0xFFE3)


def test_each_field_is_written() -> None:
    assert udp.emit(CLIENT, SERVER, 5353, 53, b"ping") == DATAGRAM


def test_padding_after_the_datagram_is_no_part_of_it() -> None:
    assert udp.parse(DATAGRAM + b"\0\0", 0, 14).length == 12


@pytest.mark.parametrize(
    ("octets", "end"),
    [
        (DATAGRAM, 7),
        (DATAGRAM[:11], 11),
        (DATAGRAM[:4] + b"\x00\x07" + DATAGRAM[6:], 12),
        (DATAGRAM, 13),
    ],
    ids=[
        "a header cut off",
        "a length beyond the packet",
        "a length below the header's",
        "a packet that is said to be longer than what there is",
    ],
)
def test_what_is_no_header_is_refused(octets: bytes, end: int) -> None:
    with pytest.raises(MalformedPacketError) as caught:
        udp.parse(octets, 0, end)
    assert caught.value.reason is Reason.MALFORMED_UDP


@pytest.mark.parametrize(
    ("octets", "source", "destination", "holds"),
    [
        (DATAGRAM, CLIENT, SERVER, True),
        (DATAGRAM[:-1] + b"h", CLIENT, SERVER, False),
        (DATAGRAM, CLIENT, CLIENT, False),
        (DATAGRAM[:6] + b"\0\0ping", CLIENT, SERVER, True),
        (DATAGRAM[:6] + b"\0\0ping", bytes(16), bytes(16), False),
    ],
    ids=[
        "a right checksum",
        "an octet that changed",
        "an address that changed",
        "none at all, over IPv4 (RFC 768)",
        "none at all, over IPv6 (RFC 8200 section 8.1)",
    ],
)
def test_verify(octets: bytes, source: bytes, destination: bytes, holds: bool) -> None:
    assert udp.verify(octets, 0, udp.parse(octets, 0, 12), source, destination) is holds


def test_a_checksum_of_zero_is_sent_as_ffff() -> None:
    # A payload chosen so that header, pseudo-header and payload sum to ffff.
    partial = pseudo_sum(CLIENT, SERVER, udp.PROTOCOL, 10) + 1 + 2 + 10
    payload = checksum(b"", partial).to_bytes(2, "big")
    datagram = udp.emit(CLIENT, SERVER, 1, 2, payload)
    assert datagram[6:8] == b"\xff\xff"
    assert udp.verify(datagram, 0, udp.parse(datagram, 0, 10), CLIENT, SERVER)


PORT = st.integers(0, 0xFFFF)


@given(
    st.sampled_from([4, 16]).flatmap(lambda n: st.tuples(*[st.binary(min_size=n, max_size=n)] * 2)),
    PORT,
    PORT,
    st.binary(max_size=200),
)
def test_what_is_written_is_read_again_by_us_and_by_scapy(
    addresses: tuple[bytes, bytes], source_port: int, destination_port: int, payload: bytes
) -> None:
    source, destination = addresses
    octets = udp.emit(source, destination, source_port, destination_port, payload)
    header = udp.parse(octets, 0, len(octets))
    assert header[:3] == (source_port, destination_port, 8 + len(payload))
    assert udp.verify(octets, 0, header, source, destination)
    theirs = UDP(octets)
    assert (theirs.sport, theirs.dport, theirs.len) == header[:3]
    ip = IP(proto=17) if len(source) == 4 else IPv6(nh=17)
    ip.src, ip.dst = _text(source), _text(destination)
    del theirs.chksum
    assert bytes(ip / theirs)[-len(octets) :] == octets


def _text(address: bytes) -> str:
    return str(ipaddress.ip_address(address))


@given(st.binary(max_size=40), st.integers(0, 8), st.integers(0, 48))
def test_any_octets_are_a_header_or_malformed(octets: bytes, start: int, end: int) -> None:
    try:
        header = udp.parse(octets, start, end)
    except MalformedPacketError:
        return
    assert 8 <= header.length <= end - start
