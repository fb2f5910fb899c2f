"""Packets cut for a small link; scapy puts them together again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, UDP, defragment
from scapy.layers.inet6 import IPv6, IPv6ExtHdrFragment, defragment6

from netstack.packet.vnet import NO_OFFLOAD, VNET_LEN
from services.udp_fwd.fragmenting import cut

V4 = IP(src="198.18.0.1", dst="10.0.0.2", ttl=60, tos=0xB8)
V6 = IPv6(src="2001:2::1", dst="fd00:6e73::2", hlim=60, tc=0xB8, fl=0xABCDE)
MTU = 1500


def packet(head, size):
    return bytes(head / UDP(sport=53, dport=5000) / bytes(number % 251 for number in range(size)))


@pytest.mark.parametrize(("head", "most"), [(V4, 1472), (V6, 1452)], ids=["IPv4", "IPv6"])
def test_what_fits_stays_whole(head, most):
    whole = packet(head, most)
    assert cut(whole, MTU, 7) == [NO_OFFLOAD + whole]
    assert len(cut(packet(head, most + 1), MTU, 7)) == 2


@given(size=st.integers(1473, 65507), mtu=st.integers(1280, 9000), identification=st.integers(0, 1 << 40))
def test_ipv4_fragments_are_the_packet(size, mtu, identification):
    whole = packet(V4, size)
    pieces = [IP(frame[VNET_LEN:]) for frame in cut(whole, mtu, identification)]
    assert all(len(piece) <= mtu for piece in pieces)
    assert {piece.id for piece in pieces} == {identification & 0xFFFF} or len(whole) <= mtu
    checked = [IP(bytes(piece)) for piece in pieces]
    for piece in checked:
        piece.chksum = None
    assert [IP(bytes(piece)).chksum for piece in checked] == [piece.chksum for piece in pieces]
    (got,) = defragment(pieces)
    assert bytes(got)[20:] == whole[20:]
    assert (got.ttl, got.tos, got.src, got.dst) == (V4.ttl, V4.tos, V4.src, V4.dst)


@given(size=st.integers(1473, 65507), mtu=st.integers(1280, 9000), identification=st.integers(0, 1 << 40))
def test_ipv6_fragments_are_the_packet(size, mtu, identification):
    whole = packet(V6, size)
    pieces = [IPv6(frame[VNET_LEN:]) for frame in cut(whole, mtu, identification)]
    assert all(len(piece) <= mtu for piece in pieces)
    if len(whole) <= mtu:
        assert [bytes(piece) for piece in pieces] == [whole]
        return
    assert {piece[IPv6ExtHdrFragment].id for piece in pieces} == {identification & 0xFFFFFFFF}
    got = defragment6(pieces)
    assert bytes(got)[40:] == whole[40:]
    assert (got.hlim, got.tc, got.fl, got.src, got.dst) == (V6.hlim, V6.tc, V6.fl, V6.src, V6.dst)
