"""What a captured network may send, mutated: each packet is counted with a reason, or is right by another's judgement.

The way of a frame is that of the device's own queue: tun_io classifies it and puts fragments together, and the
forwarders read what they are given. `NETSTACK_FUZZ=1000000` tries so many; it takes some minutes, and looks at the
memory of the process too.
"""

import os
import random
from collections import Counter
from typing import Final

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_NOP, IPOption_RR, fragment
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    ICMPv6PacketTooBig,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    PadN,
    RouterAlert,
    fragment6,
)

from netstack.packet import datagram, vnet
from netstack.packet.reason import MalformedPacketError, Reason
from netstack.packet.vnet import NO_OFFLOAD, VNET_LEN
from services.tcp_fwd import segment
from services.tun_io.classify import Classifier, Kind
from services.tun_io.reassembly import MAX_DATAGRAMS, MAX_OCTETS, Reassembler
from services.tun_io.refusing import Refuser
from services.udp_fwd import echo
from tests.resident import resident

TRIES: Final = int(os.environ.get("NETSTACK_FUZZ", "6000"))
IS_LONG: Final = TRIES >= 100_000
SEED: Final = int(os.environ.get("NETSTACK_FUZZ_SEED", "1"))
MAX_GROWTH: Final = 16 << 10  # KiB of resident memory beyond what the first tenth took

V4: Final = IP(src="10.0.0.2", dst="198.18.0.1", id=7)
V6: Final = IPv6(src="fd00:6e73::2", dst="2001:2::1")
PORTS: Final = UDP(sport=40000, dport=9999)
DATA: Final = bytes(range(64))
STAMPED: Final = TCP(
    sport=40000, dport=80, flags="S", options=[("MSS", 1460), ("SAckOK", b""), ("Timestamp", (7, 0)), ("WScale", 7)]
)
CHAIN: Final = IPv6ExtHdrHopByHop(options=[PadN(optdata=bytes(4))]) / IPv6ExtHdrDestOpt(options=[PadN()])
WHOLE: Final = [
    V4 / PORTS / DATA,
    V6 / PORTS / DATA,
    IP(src="10.0.0.2", dst="198.18.0.1", options=[IPOption_NOP(), IPOption_RR(routers=["0.0.0.0"])]) / PORTS / DATA,
    V6 / CHAIN / PORTS / DATA,
    V6 / IPv6ExtHdrHopByHop(options=[RouterAlert()]) / IPv6ExtHdrRouting(addresses=["2001:2::2"]) / PORTS / DATA,
    V6 / UDP(sport=40000, dport=53) / DATA,
    V4 / UDP(sport=40000, dport=443) / DATA,
    V4 / STAMPED,
    V6 / STAMPED,
    V4 / TCP(sport=40000, dport=80, flags="PA", seq=5, ack=6) / DATA,
    V6 / CHAIN / TCP(sport=40000, dport=80, flags="PA", seq=5, ack=6) / DATA,
    V4 / ICMP(id=5, seq=6) / DATA,
    V6 / ICMPv6EchoRequest(id=5, seq=6, data=DATA),
    V4 / ICMP(type=3, code=4, nexthopmtu=1300) / (IP(src="198.18.0.1", dst="10.0.0.2") / UDP(sport=9999, dport=40000)),
    V6 / ICMPv6PacketTooBig(mtu=1300) / (IPv6(src="2001:2::1", dst="fd00:6e73::2") / TCP(sport=80, dport=40000)),
    IP(src="10.0.0.2", dst="198.18.0.1", proto=132) / DATA,
    IP(src="10.0.0.2", dst="198.18.0.1", proto=47) / DATA,
    IPv6(src="fd00:6e73::2", dst="2001:2::1", nh=59) / DATA,
    IP(src="10.0.0.2", dst="224.0.0.251", ttl=1) / PORTS / DATA,
]
PIECES: Final = [
    *fragment(V4 / PORTS / (DATA * 3), 96),
    *fragment6(IPv6(bytes(V6 / IPv6ExtHdrFragment(id=9) / PORTS / (DATA * 3))), 152),
    *fragment(V4 / ICMP(id=5, seq=6) / (DATA * 3), 96),
]
FRAMES: Final = [NO_OFFLOAD + bytes(packet) for packet in (*WHOLE, *PIECES)]
TRAIN: Final = vnet.emit(vnet.GSO_UDP_L4, 28, 30, 20, 6) + bytes(V4 / PORTS / DATA)
"""Of the kernel's own making: it has no checksum yet, and is taken at its word."""

_NUMBERS: Final = (0, 1, 4, 5, 6, 8, 17, 20, 40, 43, 44, 58, 59, 60, 63, 64, 127, 128, 135, 255)


def mutated(rng: random.Random) -> bytes:
    """A frame with up to four things wrong with it; in half of them the checksum of the IPv4 header is right again."""
    frame = bytearray(rng.choice(FRAMES) if rng.random() < 0.97 else TRAIN)
    for _ in range(rng.choice((0, 0, 1, 1, 1, 2, 4))):
        at = rng.randrange(VNET_LEN if rng.random() < 0.95 else 0, max(len(frame), VNET_LEN + 1))
        match rng.randrange(8):
            case 0:
                frame[at : at + 1] = bytes([rng.choice(_NUMBERS)])
            case 1:
                frame[at : at + 1] = rng.randbytes(1)
            case 2:
                near = rng.randrange(VNET_LEN, VNET_LEN + 48)  # lengths, protocols, offsets
                frame[near : near + 1] = bytes([rng.choice(_NUMBERS)])
            case 3:
                del frame[at:]
            case 4:
                del frame[at : at + rng.choice((1, 2, 4, 8))]
            case 5:
                frame[at:at] = rng.randbytes(rng.choice((1, 2, 4, 8)))
            case 6:
                frame += rng.randbytes(rng.choice((1, 8, 40)))
            case _:
                other = rng.choice(FRAMES)
                frame[at:] = other[min(at, len(other)) :]
    if len(frame) >= VNET_LEN + 20 and frame[VNET_LEN] >> 4 == 4 and rng.random() < 0.5:
        end = min(VNET_LEN + 4 * (frame[VNET_LEN] & 15), len(frame))
        frame[20:22] = bytes(2)
        frame[20:22] = (0xFFFF - total(frame[VNET_LEN:end])).to_bytes(2, "big")
    return bytes(frame)


def total(octets: bytes | bytearray) -> int:
    """The sum of RFC 1071."""
    octets = bytes(octets) + bytes(len(octets) % 2)
    value = sum(int.from_bytes(octets[at : at + 2], "big") for at in range(0, len(octets), 2))
    while value >> 16:
        value = (value >> 16) + (value & 0xFFFF)
    return value


class Way:
    """From the device to where a socket would get it."""

    def __init__(self) -> None:
        self._classifier = Classifier(frozenset({443}))
        self._reassembler = Reassembler()
        self._refuser = Refuser({4: bytes([10, 0, 0, 1]), 6: bytes.fromhex("fd006e73" + "0" * 23 + "1")})
        self.counted: Counter[Reason] = Counter()
        self.taken: Counter[Kind] = Counter()

    def frame(self, octets: bytes, now: float) -> None:
        try:
            kind = self._classifier.classify(octets).kind
        except MalformedPacketError as error:
            if error.reason is Reason.FRAGMENT:
                self._fragment(octets, now)
            else:
                self._refused(octets, error, now)
            return
        self._give(octets, kind)

    def _fragment(self, octets: bytes, now: float) -> None:
        try:
            whole = self._reassembler.add(octets, now).frame
        except MalformedPacketError as error:
            self.counted[error.reason] += 1
            return
        assert self._reassembler.octets <= MAX_OCTETS
        assert len(self._reassembler) <= MAX_DATAGRAMS
        if whole is not None:
            self.frame(whole, now)

    def _refused(self, octets: bytes, error: MalformedPacketError, now: float) -> None:
        said = self._refuser.refuse(octets, error, now)
        self.counted[said.reason] += 1
        if said.answer is not None:
            assert len(said.answer) <= VNET_LEN + 1280
            assert total(said.answer[VNET_LEN : VNET_LEN + 20]) == 0xFFFF or said.answer[VNET_LEN] >> 4 == 6

    def _give(self, octets: bytes, kind: Kind) -> None:
        taken: bytes | None = None
        try:
            match kind:
                case Kind.TCP:
                    taken = bytes(segment.parse(octets).payload)
                case Kind.UDP | Kind.DNS:
                    taken = b"".join(datagram.parse(octets).payloads)
                case Kind.ECHO:
                    taken = echo.parse(octets).message
        except MalformedPacketError as error:
            self.counted[error.reason] += 1  # an ICMP error is none of these
            return
        self.taken[kind] += 1
        if taken is not None and octets[:VNET_LEN] == NO_OFFLOAD:  # else the kernel is to be believed
            _judge(octets, kind, taken)


def _judge(octets: bytes, kind: Kind, taken: bytes) -> None:
    upper = upper_of(octets)
    if kind in {Kind.UDP, Kind.DNS}:
        upper = upper[: int.from_bytes(upper[4:6], "big")]
    start = {Kind.TCP: (upper[12] >> 4) * 4, Kind.ECHO: 0}.get(kind, 8)
    assert taken == upper[start:]
    assert is_summed(octets, upper, kind)


def upper_of(octets: bytes) -> bytes:
    """What the IP packet carries, read again in another way (RFC 791, RFC 8200)."""
    packet = octets[VNET_LEN:]
    if packet[0] >> 4 == 4:
        header = (packet[0] & 15) * 4
        assert header >= 20
        assert total(packet[:header]) == 0xFFFF
        assert not int.from_bytes(packet[6:8], "big") & 0x3FFF, "no fragment"
        length = int.from_bytes(packet[2:4], "big")
        assert header < length <= len(packet)
        return packet[header:length]
    assert packet[0] >> 4 == 6
    length = 40 + int.from_bytes(packet[4:6], "big")
    assert length <= len(packet)
    following, at = packet[6], 40
    while following in {0, 43, 44, 60}:
        assert following != 44 or not int.from_bytes(packet[at + 2 : at + 4], "big") & 0xFFF9, "no fragment"
        assert following != 43 or packet[at + 3] == 0, "no segment is left"
        following, at = packet[at], at + (8 if following == 44 else (packet[at + 1] + 1) * 8)
    assert at < length
    return packet[at:length]


def is_summed(octets: bytes, upper: bytes, kind: Kind) -> bool:
    """Whether the checksum is right (RFC 9293, 768, 8200 section 8.1, 792, 4443)."""
    is_v4 = octets[VNET_LEN] >> 4 == 4
    if kind is Kind.ECHO and is_v4:
        return total(upper) == 0xFFFF
    protocol = {Kind.TCP: 6, Kind.UDP: 17, Kind.DNS: 17, Kind.ECHO: 58}[kind]
    if protocol == 17 and is_v4 and upper[6:8] == b"\0\0":
        return True  # none was made
    ends = octets[VNET_LEN + 12 : VNET_LEN + 20] if is_v4 else octets[VNET_LEN + 8 : VNET_LEN + 40]
    return total(ends + len(upper).to_bytes(4, "big") + protocol.to_bytes(4, "big") + upper) == 0xFFFF


@pytest.mark.timeout(60 + TRIES // 500)
def test_mutated_packets_are_counted_or_right_and_leave_nothing_behind() -> None:
    rng = random.Random(SEED)
    way = Way()
    baseline = 0
    for number in range(TRIES):
        octets = rng.randbytes(rng.randrange(120)) if rng.random() < 0.02 else mutated(rng)
        try:
            way.frame(octets, number / 1000)
        except BaseException:
            print(f"packet {number} of seed {SEED}: {octets.hex()}")
            raise
        if number == TRIES // 10:
            baseline = resident()
    assert set(way.taken) == set(Kind), way.taken
    assert way.taken.total() > TRIES // 10, "too few were taken to say anything"
    assert len(way.counted) > 8, way.counted
    if IS_LONG:
        growth = resident() - baseline
        print(f"{TRIES:,} packets, {way.taken.total():,} taken, {way.counted}, {growth} KiB more than after a tenth")
        assert growth < MAX_GROWTH
