"""Fragments in, datagrams out, within their time and room: cut by scapy, or by hand where scapy would not cut so."""

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoRequest,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    PadN,
)

from netstack.packet import datagram
from netstack.packet.reason import MalformedPacketError, Reason
from netstack.packet.vnet import NO_OFFLOAD, VNET_LEN
from services.tun_io.classify import Classifier, Kind
from services.tun_io.reassembly import MAX_DATAGRAMS, MAX_OCTETS, TIMEOUT, Reassembler
from tests.services.tun_io.fragments import (
    A6,
    B6,
    DATA,
    OCTETS,
    PORTS,
    V4,
    V6,
    A,
    B,
    cut4,
    cut6,
    feed,
    holding,
    refused,
    v4,
    v6,
)

# --- what comes out --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["forwards", "backwards", "shuffled"])
@pytest.mark.parametrize("size", [1473, 4000, 9000, 65507])
@pytest.mark.parametrize(("head", "cut"), [(V4, cut4), (V6, cut6)], ids=["IPv4", "IPv6"])
def test_what_scapy_cuts_is_whole_again(head, cut, size, order):
    packet = head / PORTS / OCTETS[:size]
    frames = cut(packet, 1480)
    assert len(frames) > 1
    if order == "backwards":
        frames.reverse()
    elif order == "shuffled":
        random.Random(size).shuffle(frames)
    reassembler = Reassembler()
    assert feed(frames, reassembler=reassembler) == [NO_OFFLOAD + bytes(packet)]
    assert (len(reassembler), reassembler.octets) == (0, 0)


@st.composite
def cuts(draw):
    """A length, and where the datagram is cut: multiples of 8, the first after the transport header."""
    length = draw(st.integers(9, 3000))
    places = draw(st.sets(st.integers(1, max(1, (length - 1) // 8)), min_size=1, max_size=12))
    edges = [0, *(8 * place for place in sorted(places)), length]
    return length, list(itertools.pairwise(edges))


@given(cuts(), st.sampled_from([v4, v6]), st.data())
def test_any_cut_in_any_order_with_duplicates_is_whole_exactly_once(cut, make, data):
    length, pieces = cut
    octets = OCTETS[:length]
    frames = [make(start, end, more=end < length, data=octets) for start, end in pieces]
    again = data.draw(st.lists(st.integers(0, len(frames) - 1), max_size=12))
    order = data.draw(st.permutations([*range(len(frames)), *again]))
    reassembler = Reassembler()
    seen = set()
    for index in order:
        taken = reassembler.add(frames[index], 0.0)
        seen.add(index)
        if len(seen) == len(frames):
            # What comes now, with the same identification, belongs to the next datagram.
            assert taken.frame.endswith(octets)
            assert len(taken.frame) == VNET_LEN + (20 if make is v4 else 40) + length
            seen.clear()
        else:
            assert taken.frame is None
    assert len(reassembler) == bool(seen)
    assert (reassembler.octets == 0) == (not seen)


MIXED = st.lists(st.tuples(st.integers(0, 2), st.binary(min_size=9, max_size=100)), min_size=2, max_size=6)


@given(MIXED, st.randoms())
def test_datagrams_that_arrive_mixed_do_not_mix(datagrams, dice):
    frames, expected = [], []
    for number, (kind, payload) in enumerate(datagrams):
        if kind:
            packet = IP(src=A, dst=B, id=number, proto=(17, 1)[kind - 1]) / (bytes(8) + payload)
            frames += cut4(packet, 16)
        else:
            packet = IPv6(src=A6, dst=B6, nh=17) / (bytes(8) + payload)
            frames += [
                v6(at, at + 16, at + 16 < 8 + len(payload), bytes(8) + payload, id=number)
                for at in range(0, 8 + len(payload), 16)
            ]
        expected.append(NO_OFFLOAD + bytes(packet))
    dice.shuffle(frames)
    assert sorted(feed(frames)) == sorted(expected)


@pytest.mark.parametrize(
    "other",
    [{"src": "10.0.0.3"}, {"dst": "198.18.0.2"}, {"id": 8}, {"proto": 1}],
    ids=["another source", "another destination", "another identification", "another protocol"],
)
def test_fragments_of_different_datagrams_stay_apart(other):
    fields = {"src": A, "dst": B, "id": 7, "proto": 17}
    first = NO_OFFLOAD + bytes(IP(**fields, flags="MF") / DATA[:16])
    last = NO_OFFLOAD + bytes(IP(**fields | other, frag=2) / DATA[16:])
    assert len(holding(first, last)) == 2


def test_the_next_header_of_a_later_ipv6_fragment_means_nothing():
    (whole,) = feed([v6(0, 16), v6(16, 64, more=False, nh=6)])
    assert whole == NO_OFFLOAD + bytes(IPv6(src=A6, dst=B6, nh=17) / DATA)


def test_options_of_the_first_ipv4_fragment_are_kept_and_its_header_is_that_of_the_packet():
    options = IPOption(b"\x94\x04\x00\x00")  # router alert, copied; RFC 2113
    first = v4(0, 16, options=options, ttl=9, tos=0x10)
    (whole,) = feed([v4(16, 64, more=False, ttl=5), first])
    expected = IP(src=A, dst=B, id=7, ttl=9, tos=0x10, proto=17, options=options) / DATA
    assert whole == NO_OFFLOAD + bytes(expected)


def test_dont_fragment_is_cleared():
    (whole,) = feed([v4(0, 16, flags="MF+DF"), v4(16, 64, more=False, flags="DF")])
    assert whole == NO_OFFLOAD + bytes(IP(src=A, dst=B, id=7, proto=17) / DATA)


def test_ipv6_extension_headers_before_and_after_the_fragment_header_are_kept():
    before = IPv6(src=A6, dst=B6) / IPv6ExtHdrHopByHop(options=[PadN(optdata=bytes(12))]) / IPv6ExtHdrRouting(type=4)
    after = IPv6ExtHdrDestOpt() / PORTS / DATA
    packet = before / after
    inner = bytes(packet)[-len(bytes(after)) :]
    inner = inner[:8] + bytes(packet)[-len(inner) + 8 :]  # with the checksum for these addresses
    frames = [
        NO_OFFLOAD + bytes(before / IPv6ExtHdrFragment(nh=60, id=7, m=1) / inner[:24]),
        NO_OFFLOAD + bytes(before / IPv6ExtHdrFragment(nh=60, id=7, offset=3) / inner[24:]),
    ]
    assert feed(frames) == [NO_OFFLOAD + bytes(packet)]


def test_padding_after_the_packet_is_no_part_of_it():
    frames = [v4(0, 16) + b"padding!", v4(16, 61, more=False) + b"padding!"]
    assert feed(frames) == [NO_OFFLOAD + bytes(IP(src=A, dst=B, id=7, proto=17) / DATA[:61])]


def test_an_atomic_ipv6_fragment_leaves_at_once_and_disturbs_nobody():
    reassembler = holding(v6(0, 16))
    atomic = v6(0, 24, more=False, data=bytes(24))
    assert feed([atomic], reassembler=reassembler) == [NO_OFFLOAD + bytes(IPv6(src=A6, dst=B6, nh=17) / bytes(24))]
    assert feed([v6(16, 64, more=False)], reassembler=reassembler) == [
        NO_OFFLOAD + bytes(IPv6(src=A6, dst=B6, nh=17) / DATA)
    ]


@pytest.mark.parametrize(
    ("packet", "kind", "key"),
    [
        (V4 / PORTS / OCTETS[:4000], Kind.UDP, "0a000002 9c40"),
        (V4 / UDP(sport=40000, dport=53) / OCTETS[:4000], Kind.DNS, "0a000002 9c40"),
        (V4 / UDP(sport=40000, dport=443) / OCTETS[:4000], Kind.QUIC, "0a000002 9c40"),
        (V4 / ICMP(id=0x55AA) / OCTETS[:4000], Kind.ECHO, "0a000002 55aa"),
        (V4 / TCP(sport=40000, dport=80, flags="A") / OCTETS[:4000], Kind.TCP, "0a000002 c6120001 9c40 0050"),
        (V6 / PORTS / OCTETS[:4000], Kind.UDP, "fd006e73000000000000000000000002 9c40"),
        (V6 / ICMPv6EchoRequest(id=0x55AA) / OCTETS[:4000], Kind.ECHO, "fd006e73000000000000000000000002 55aa"),
    ],
    ids=["UDP", "DNS", "QUIC", "echo", "TCP", "UDP over IPv6", "ICMPv6 echo"],
)
def test_the_signal_is_a_fragment_and_the_whole_is_classified_like_any_other(packet, kind, key):
    classifier = Classifier(frozenset({443}))
    frames = (cut4 if packet.version == 4 else cut6)(packet, 1480)
    for frame in frames:
        with pytest.raises(MalformedPacketError) as caught:
            classifier.classify(frame)
        assert caught.value.reason is Reason.FRAGMENT
    (whole,) = feed(frames)
    found = classifier.classify(whole)
    assert (found.kind, found.key) == (kind, bytes.fromhex(key))


@pytest.mark.parametrize(("head", "cut"), [(V4, cut4), (V6, cut6)], ids=["IPv4", "IPv6"])
def test_the_checksum_of_the_whole_is_verified(head, cut):
    frames = cut(head / PORTS / OCTETS[:4000], 1480)
    (whole,) = feed(frames)
    sent = datagram.parse(whole)
    assert (sent.payloads, sent.tos, sent.ttl) == ([OCTETS[:4000]], 0x28, 60)
    frames[1] = frames[1][:-1] + bytes([frames[1][-1] ^ 1])
    (whole,) = feed(frames)
    with pytest.raises(MalformedPacketError) as caught:
        datagram.parse(whole)
    assert caught.value.reason is Reason.BAD_CHECKSUM


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [(2, 3, 3), (3, 2, 3), (1, 3, 3), (3, 3, 3), (2, 2, 2), (0, 0, 0), (2, 1, 2), (0, 3, None), (3, 0, None)],
    ids=["CE later", "CE first", "CE and ECT(1)", "both CE", "no CE", "no ECN", "ECT mixed", "CE beside Not-ECT",
         "Not-ECT beside CE"],
)  # fmt: skip
@pytest.mark.parametrize("family", [4, 6], ids=["IPv4", "IPv6"])
def test_a_mark_of_congestion_on_one_fragment_is_one_on_the_packet(family, first, second, expected):
    make, field = (v4, "tos") if family == 4 else (v6, "tc")
    reassembler = holding(make(0, 16, **{field: 0x28 | first}))
    last = make(16, 64, more=False, **{field: 0x28 | second})
    if expected is None:
        assert refused(last, reassembler) is Reason.FRAGMENT
        assert (len(reassembler), reassembler.octets) == (0, 0)
        return
    (whole,) = feed([last], reassembler=reassembler)
    packet = IP(whole[VNET_LEN:]) if family == 4 else IPv6(whole[VNET_LEN:])
    assert (packet.tos if family == 4 else packet.tc) == 0x28 | expected


# --- time and room ---------------------------------------------------------------------------------------------------


def test_what_lacks_something_for_30_seconds_from_its_first_is_dropped():
    reassembler = holding(v4(0, 16))
    reassembler.add(v4(16, 32), 20.0)
    assert reassembler.expire(29.9) == []
    assert reassembler.expire(30.0) == [v4(0, 16)[VNET_LEN:]]
    assert (len(reassembler), reassembler.octets) == (0, 0)
    assert feed([v4(32, 64, more=False)], 30.0, reassembler) == []


def test_only_what_is_late_is_dropped():
    reassembler = Reassembler()
    reassembler.add(v4(0, 16, id=1), 0.0)
    reassembler.add(v4(0, 16, id=2), 1.0)
    reassembler.add(v4(0, 16, id=3), 2.0)
    assert len(reassembler.expire(31.0)) == 2
    assert len(feed([v4(16, 64, more=False, id=3)], 31.0, reassembler)) == 1


@pytest.mark.parametrize(
    ("frame", "quoted"),
    [
        (v4(0, 16), True),
        (v6(0, 16), True),
        (v4(16, 32), False),
        (v6(16, 32), False),
        (v4(0, 16, proto=1, data=bytes(ICMP(type=3)) + DATA), False),
        (v6(0, 16, nh=58, data=bytes(ICMPv6DestUnreach()) + DATA), False),
        (v4(0, 16, dst="224.0.0.251"), False),
    ],
    ids=["the first", "the first, IPv6", "not the first", "not the first, IPv6", "an ICMP error", "an ICMPv6 error",
         "multicast"],
)  # fmt: skip
def test_an_error_may_be_sent_about_a_first_fragment(frame, quoted):
    assert holding(frame).expire(TIMEOUT) == [frame[VNET_LEN:] if quoted else b""]


def test_a_quote_is_no_longer_than_an_error_can_be():
    (quote,) = holding(v6(0, 4096, data=OCTETS)).expire(TIMEOUT)
    assert len(quote) == 1280


def test_beyond_64_datagrams_the_oldest_makes_room():
    reassembler = Reassembler()
    evicted = [reassembler.add(v4(0, 16, id=number), 0.0).evicted for number in range(MAX_DATAGRAMS + 2)]
    assert evicted == [0] * MAX_DATAGRAMS + [1, 1]
    assert len(reassembler) == MAX_DATAGRAMS
    assert feed([v4(16, 64, more=False, id=2)], reassembler=reassembler) != []
    assert feed([v4(16, 64, more=False, id=1)], reassembler=reassembler) == []


def test_beyond_the_octets_the_oldest_make_room():
    reassembler = Reassembler(max_octets=10_000)
    assert reassembler.add(v4(0, 2000, id=1, data=OCTETS), 0.0).evicted == 0
    assert reassembler.add(v4(0, 2000, id=2, data=OCTETS), 0.0).evicted == 0
    assert reassembler.add(v4(8000, 8008, id=3, data=OCTETS), 0.0).evicted == 2, "a buffer up to the farthest octet"
    assert len(reassembler) == 1


@pytest.mark.parametrize(
    "greedy",
    [
        pytest.param(lambda number: v4(0, 16, id=number, src="10.0.0.3"), id="many datagrams over IPv4"),
        pytest.param(lambda number: v6(0, 16, id=number), id="many datagrams over IPv6"),
        pytest.param(lambda number: v4(65480, 65496, id=number, src="10.0.0.3", data=OCTETS), id="many octets"),
    ],
)
def test_a_source_that_holds_the_most_takes_no_room_from_another(greedy):
    reassembler = holding(v4(0, 16))
    evicted = sum(reassembler.add(greedy(number), 0.0).evicted for number in range(3 * MAX_DATAGRAMS))
    assert evicted >= 2 * MAX_DATAGRAMS
    assert feed([v4(16, 64, more=False)], reassembler=reassembler) != []


def test_a_datagram_that_becomes_whole_needs_no_room():
    reassembler = Reassembler(max_datagrams=2)
    feed([v4(0, 16, id=1), v4(0, 16, id=2)], reassembler=reassembler)
    assert reassembler.add(v6(0, 16, more=False), 0.0).evicted == 0
    assert reassembler.add(v4(16, 64, more=False, id=1), 0.0).evicted == 0


@pytest.mark.parametrize("at", [0, 65480], ids=["first fragments", "fragments far out"])
def test_a_flood_is_bounded(at):
    reassembler = Reassembler()
    frame = bytearray(v4(at, at + 24, data=OCTETS))
    evicted = 0
    for number in range(5000):
        frame[14:16] = number.to_bytes(2, "big")
        frame[20:22] = bytes(2)
        total = sum(int.from_bytes(frame[index : index + 2], "big") for index in range(10, 30, 2))
        frame[20:22] = (0xFFFF - (total % 0xFFFF or 0xFFFF)).to_bytes(2, "big")
        evicted += reassembler.add(bytes(frame), 0.0).evicted
        assert len(reassembler) <= MAX_DATAGRAMS
        assert reassembler.octets <= MAX_OCTETS
    assert evicted == 5000 - MAX_DATAGRAMS
