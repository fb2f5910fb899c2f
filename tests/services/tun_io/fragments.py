"""Fragments of which one chooses the place, and what comes of them."""

import random

import pytest
from scapy.layers.inet import IP, UDP, fragment
from scapy.layers.inet6 import IPv6, IPv6ExtHdrFragment, fragment6

from netstack.packet.reason import MalformedPacketError
from netstack.packet.vnet import NO_OFFLOAD
from services.tun_io.reassembly import Reassembler

A, B = "10.0.0.2", "198.18.0.1"
A6, B6 = "fd00:6e73::2", "2001:2::1"
V4 = IP(src=A, dst=B, id=0x1234, ttl=60, tos=0x28)
V6 = IPv6(src=A6, dst=B6, hlim=60, tc=0x28, fl=0xABCDE)
PORTS = UDP(sport=40000, dport=9999)
OCTETS = random.Random(1).randbytes(65536)
DATA = OCTETS[:64]


def v4(start, end, more=True, data=DATA, proto=17, **fields):
    """An IPv4 fragment with data[start:end] at offset start, which is a multiple of 8."""
    fields = {"src": A, "dst": B, "id": 7, "flags": "MF" if more else 0, "frag": start // 8, "proto": proto} | fields
    return NO_OFFLOAD + bytes(IP(**fields) / data[start:end])


def v6(start, end, more=True, data=DATA, nh=17, tc=0, **fields):
    """An IPv6 fragment with data[start:end] at offset start."""
    fields = {"id": 7, "m": int(more), "offset": start // 8, "nh": nh} | fields
    return NO_OFFLOAD + bytes(IPv6(src=A6, dst=B6, tc=tc) / IPv6ExtHdrFragment(**fields) / data[start:end])


def cut4(packet, size):
    return [NO_OFFLOAD + bytes(piece) for piece in fragment(packet, size)]


def cut6(packet, size, identification=7):
    """Cut by scapy after the fixed header; packet has none of its own."""
    base = packet.copy()
    upper = base.payload
    base.remove_payload()
    cuttable = base / IPv6ExtHdrFragment(id=identification) / upper
    return [NO_OFFLOAD + bytes(piece) for piece in fragment6(IPv6(bytes(cuttable)), size)]


def feed(frames, now=0.0, reassembler=None):
    """What came out, in order; a reassembler of its own unless one is given."""
    reassembler = Reassembler() if reassembler is None else reassembler
    return [taken.frame for taken in (reassembler.add(frame, now) for frame in frames) if taken.frame is not None]


def refused(frame, reassembler):
    with pytest.raises(MalformedPacketError) as caught:
        reassembler.add(frame, 0.0)
    return caught.value.reason


def holding(*frames):
    reassembler = Reassembler()
    assert feed(frames, reassembler=reassembler) == []
    return reassembler
