"""Fragments that are refused, alone or with their datagram, and octets that are anything."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import TCP, IPOption
from scapy.layers.inet6 import IPv6ExtHdrDestOpt, IPv6ExtHdrFragment, PadN

from netstack.packet.reason import MalformedPacketError, Reason
from netstack.packet.vnet import NO_OFFLOAD, VNET_LEN
from services.tun_io.classify import Classifier
from services.tun_io.reassembly import TIMEOUT, Reassembler
from tests.services.tun_io.fragments import DATA, OCTETS, PORTS, V4, V6, cut4, cut6, feed, holding, refused, v4, v6

OTHER = bytes(octet ^ 0xFF for octet in DATA)


@pytest.mark.parametrize("make", [v4, v6], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize(
    ("before", "start", "end", "more", "data"),
    [
        ([(0, 16)], 8, 24, True, DATA),
        ([(16, 32)], 8, 24, True, DATA),
        ([(16, 32)], 8, 40, True, DATA),
        ([(0, 32)], 8, 24, True, OTHER),
        ([(16, 32)], 16, 32, True, OTHER),
        ([(0, 16), (24, 32)], 0, 32, True, DATA),
        ([(0, 16)], 8, 20, False, DATA),
        ([(0, 16)], 0, 16, True, OTHER),
    ],
    ids=["over an end", "over a beginning", "around one", "within one, other octets", "the same place, other octets",
         "over a hole and both its sides", "by the last one", "another first one"],
)  # fmt: skip
def test_an_overlap_drops_the_datagram(make, before, start, end, more, data):
    reassembler = holding(*(make(*place) for place in before))
    assert refused(make(start, end, more=more, data=data), reassembler) is Reason.FRAGMENT_OVERLAP
    assert (len(reassembler), reassembler.octets) == (0, 0)
    # What is left of it is no datagram.
    assert feed([make(32, 64, more=False)], reassembler=reassembler) == []


@pytest.mark.parametrize("make", [v4, v6], ids=["IPv4", "IPv6"])
def test_what_came_already_is_ignored(make):
    reassembler = holding(make(0, 32))
    held = reassembler.octets
    assert feed([make(0, 32), make(8, 24), make(0, 16)], reassembler=reassembler) == []
    assert (len(reassembler), reassembler.octets) == (1, held)
    (whole,) = feed([make(32, 61, more=False)], reassembler=reassembler)
    assert whole.endswith(DATA[:61])


@pytest.mark.parametrize("make", [v4, v6], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize(
    ("before", "after"),
    [
        ((48, 61, False), (48, 56, False)),
        ((40, 48, False), (48, 61, False)),
        ((40, 48, False), (48, 56, True)),
        ((40, 48, True), (16, 32, False)),
    ],
    ids=["a nearer end", "a farther end", "more beyond the end", "an end before what came"],
)
def test_another_length_drops_the_datagram(make, before, after):
    reassembler = holding(make(0, 16), make(before[0], before[1], more=before[2]))
    assert refused(make(after[0], after[1], more=after[2]), reassembler) is Reason.FRAGMENT
    assert (len(reassembler), reassembler.octets) == (0, 0)


TCP_20 = bytes(TCP(sport=1, dport=2))
TCP_24 = bytes(TCP(sport=1, dport=2, options=[("MSS", 1460)]))
OPTIONS_UDP = bytes(IPv6ExtHdrDestOpt(nh=17)) + bytes(8)


@pytest.mark.parametrize(
    "frame",
    [
        v4(0, 0),
        v4(16, 16, more=False),
        v4(8, 20),
        v4(0, 16, proto=6, data=TCP_20),
        v4(0, 8, proto=6, data=TCP_20),
        v4(0, 16, proto=6, data=TCP_24),
        v4(65528, 65535, data=OCTETS),
        v4(65512, 65520, more=False, data=OCTETS),
        v4(65504, 65515, more=False, data=OCTETS, options=IPOption(b"\x94\x04\x00\x00")),
        v6(0, 0),
        v6(16, 16, more=False),
        v6(8, 20),
        v6(0, 16, nh=6, data=TCP_20),
        v6(0, 8, nh=60, data=OPTIONS_UDP),
        v6(65528, 65536, more=False, data=OCTETS),
        NO_OFFLOAD + bytes(V6 / IPv6ExtHdrDestOpt() / IPv6ExtHdrFragment(offset=8190) / OCTETS[:13]),
    ],
    ids=[
        "empty, the first", "empty, the last", "12 octets, not the last", "16 of TCP's 20 octets", "8 of them",
        "TCP's options cut off", "beyond 65,535 octets", "a packet of 65,540", "65,515 and 24 of header",
        "empty, IPv6", "empty, the last, IPv6", "12 octets, IPv6", "16 of TCP's 20 octets, IPv6",
        "all of the options and no UDP", "beyond 65,535 octets, IPv6", "with its extension header beyond, IPv6",
    ],
)  # fmt: skip
def test_a_fragment_that_is_wrong_by_itself_is_dropped_alone(frame):
    reassembler = holding(v4(16, 24), v6(16, 24))
    assert refused(frame, reassembler) is Reason.FRAGMENT
    assert len(reassembler) == 2
    assert len(feed([v4(0, 16), v4(24, 64, more=False)], reassembler=reassembler)) == 1
    assert len(feed([v6(0, 16), v6(24, 64, more=False)], reassembler=reassembler)) == 1


def test_a_header_chain_cut_off_is_no_fragment_worth_keeping():
    reassembler = Reassembler()
    chain = bytes(IPv6ExtHdrDestOpt(nh=17, options=[PadN(optdata=bytes(12))]))  # 16 octets
    assert refused(v6(0, 8, nh=60, data=chain), reassembler) is Reason.MALFORMED_EXTENSION
    assert len(reassembler) == 0


def test_the_whole_transport_header_in_the_first_is_enough():
    assert len(feed([v4(0, 24, proto=6, data=TCP_24 + DATA), v4(24, 64, more=False, proto=6)])) == 1
    assert len(feed([v6(0, 16, nh=60, data=OPTIONS_UDP + DATA), v6(16, 64, more=False)])) == 1


def test_the_largest_packet_is_65535_octets_and_for_ipv6_a_payload_of_so_many():
    (whole,) = feed([v4(0, 65512, data=OCTETS), v4(65512, 65515, more=False, data=OCTETS)])
    assert len(whole) == VNET_LEN + 65535
    # No fragment can be as large as this one's first: three.
    (whole,) = feed(
        [v6(0, 32768, data=OCTETS), v6(32768, 65528, data=OCTETS), v6(65528, 65535, more=False, data=OCTETS)]
    )
    assert len(whole) == VNET_LEN + 40 + 65535


def test_options_that_make_the_whole_too_large_are_seen_when_it_is_whole():
    reassembler = holding(v4(65504, 65515, more=False, data=OCTETS))
    feed([v4(at, at + 4096, data=OCTETS) for at in range(4096, 61440, 4096)], reassembler=reassembler)
    feed([v4(61440, 65504, data=OCTETS)], reassembler=reassembler)
    first = v4(0, 4096, data=OCTETS, options=IPOption(b"\x94\x04\x00\x00"))
    assert refused(first, reassembler) is Reason.FRAGMENT
    assert (len(reassembler), reassembler.octets) == (0, 0)


@pytest.mark.parametrize(
    "frame",
    [b"", NO_OFFLOAD, NO_OFFLOAD + bytes(V6 / PORTS), NO_OFFLOAD + b"\x90" * 60],
    ids=["nothing", "no packet", "IPv6 without a fragment header", "another version"],
)
def test_what_is_no_fragment_is_refused(frame):
    assert refused(frame, Reassembler()) in {Reason.MALFORMED_VNET, Reason.FRAGMENT, Reason.MALFORMED_IP}


@given(st.lists(st.binary(max_size=80), max_size=4))
def test_any_octets_are_taken_or_refused(frames):
    reassembler = Reassembler()
    for octets in frames:
        with contextlib.suppress(MalformedPacketError):
            reassembler.add(octets, 0.0)
        with contextlib.suppress(MalformedPacketError):
            reassembler.add(NO_OFFLOAD + octets, 0.0)


SEEDS = [*cut4(V4 / PORTS / DATA, 16), *cut6(V6 / PORTS / DATA, 80), v6(0, 16, nh=60, data=OPTIONS_UDP)]


def reason_of(classifier, frame):
    try:
        classifier.classify(frame)
    except MalformedPacketError as error:
        return error.reason
    return None


@given(st.lists(st.sampled_from(SEEDS), max_size=12), st.data())
def test_mutated_fragments_are_taken_or_refused_and_the_account_holds(seeds, data):
    reassembler = Reassembler(max_octets=70_000, max_datagrams=4)
    classifier = Classifier(frozenset())
    for seed in seeds:
        octets = bytearray(seed)
        for _ in range(data.draw(st.integers(0, 2))):
            octets[data.draw(st.integers(VNET_LEN, len(octets) - 1))] = data.draw(st.integers(0, 255))
        whole = None
        with contextlib.suppress(MalformedPacketError):
            whole = reassembler.add(bytes(octets), 0.0).frame
        if whole is not None:
            assert reason_of(classifier, whole) is not Reason.FRAGMENT
        assert reassembler.octets <= 70_000
        assert len(reassembler) <= 4
    reassembler.expire(TIMEOUT)
    assert (len(reassembler), reassembler.octets) == (0, 0)
