"""IP fragments put together again, before anybody asks what they are. No I/O, no clock.

Theory of operation. A fragment alone cannot be judged: a later one has no ports, and a first one only a part of what
its checksum covers. So fragments wait here until their datagram is whole; it then leaves as one frame, as if it had
been read from the TUN in one piece, and is classified like any other. Nothing leaves in part.

Of each datagram there is one buffer, as long as the farthest octet seen, and one integer with a bit for each block of 8
octets that is there (offsets count such blocks: RFC 791, RFC 8200 section 4.5). So a datagram costs no more than its
own octets however finely it is cut, and looking for an overlap is one AND.

What is refused, since two readers could read it in two ways, or since it is of use to nobody but an attacker:
  an overlap          the datagram is dropped (RFC 5722, RFC 8200 section 4.5)
  another length      a second end, or octets beyond the end: the datagram is dropped
  a tiny first one    a part of the header chain, or of the transport header, is left for a later fragment: the
                      fragment is dropped (RFC 1858, RFC 7112, RFC 8200 section 4.5)
  no multiple of 8    and not the last; or empty; or beyond the largest packet: the fragment is dropped
When there is no room, the source that holds the most loses its oldest: so one that sends first fragments and no others
takes no room from the rest.

What has come already, octet for octet, is ignored: networks do duplicate. RFC 8200 section 4.5 allows that, and Linux
does it (IPFRAG_DUP in net/ipv4/inet_fragment.c), without comparing the octets as is done here. An IPv6 fragment that is
a whole datagram takes no part in any of this and leaves at once (RFC 6946).

The result has no offload marks: the sender's kernel completes the checksum before it cuts a datagram, and whoever
forwards it verifies it. Nor has it DF: it may be cut again on its way.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from netstack.packet import icmp, ipv4, ipv6, tcp
from netstack.packet.checksum import checksum
from netstack.packet.frame import IP
from netstack.packet.reason import MalformedPacketError, Reason
from netstack.packet.vnet import NO_OFFLOAD, VNET_LEN

# RFC 791, RFC 8200
_BLOCK: Final = 8  # octets; what offsets count
_LARGEST: Final = {4: 65535, 6: ipv6.HEADER_LEN + 65535}  # octets of a packet; IPv6 counts the payload alone
_TRANSPORT: Final = 8  # octets; UDP, ICMP, and the least of any other
_NOT_ECT, _CE = 0, 3  # RFC 3168 section 5
_KEY_V4: Final = 11  # octets: addresses, identification, protocol

TIMEOUT: Final = 30.0
"""Seconds from the first fragment that came; Linux's net.ipv4.ipfrag_time. (RFC 791 has 15, RFC 8200 has 60.)"""
MAX_OCTETS: Final = 4 << 20
"""Octets held in all; Linux's net.ipv4.ipfrag_high_thresh."""
MAX_DATAGRAMS: Final = 64
"""Datagrams that wait; about as many of the largest size as MAX_OCTETS holds."""
_QUOTE: Final = 1280  # octets; more of the first fragment is in no ICMP error (RFC 4443 section 2.4 (c))


class Taken(NamedTuple):
    """What came of a fragment: the frame that it completed, if any, and how many datagrams had to make room for it."""

    frame: bytes | None
    evicted: int


class Reassembler:
    """The datagrams of which a part has come."""

    def __init__(self, max_octets: int = MAX_OCTETS, max_datagrams: int = MAX_DATAGRAMS) -> None:
        """Beyond either limit a datagram is dropped, which may be the one that came last; max_octets must hold any."""
        self._max_octets = max_octets
        self._max_datagrams = max_datagrams
        self._partials: dict[bytes, _Partial] = {}  # the oldest first
        self._octets = 0

    def __len__(self) -> int:
        return len(self._partials)

    @property
    def octets(self) -> int:
        """How many are held."""
        return self._octets

    def add(self, frame: bytes, now: float) -> Taken:
        """Take a frame that was refused as Reason.FRAGMENT.

        Raises MalformedPacketError (fragment, fragment-overlap, or what else is wrong with the packet): the fragment is
        dropped, and where it contradicts those that came before, they are dropped with it.
        """
        fragment = _parse(frame)
        if not fragment.offset and not fragment.more:
            return Taken(_emit(fragment.head, fragment.data), 0)
        _check(fragment)
        partial = self._partials.get(fragment.key)
        if partial is None:
            partial = self._partials[fragment.key] = _Partial(now + TIMEOUT)
        before = partial.octets
        try:
            partial.put(fragment)
            whole = partial.whole()
        except MalformedPacketError:
            self._drop(fragment.key, before)
            raise
        if whole is not None:
            self._drop(fragment.key, before)
            return Taken(whole, 0)
        self._octets += partial.octets - before
        return Taken(None, self._make_room())

    def expire(self, now: float) -> list[bytes]:
        """Drop what has waited for TIMEOUT.

        Gives the first fragment of each, for an ICMP error to quote; empty where it did not come or must get no error.
        """
        late: list[bytes] = []
        while self._partials:
            key, oldest = next(iter(self._partials.items()))
            if oldest.deadline > now:
                break
            late.append(oldest.quote)
            self._drop(key, oldest.octets)
        return late

    def _make_room(self) -> int:
        evicted = 0
        while self._octets > self._max_octets or len(self._partials) > self._max_datagrams:
            key = self._of_the_greediest(by_octets=self._octets > self._max_octets)
            self._drop(key, self._partials[key].octets)
            evicted += 1
        return evicted

    def _of_the_greediest(self, *, by_octets: bool) -> bytes:
        """The oldest datagram of the source that holds the most; where several do, of the one that came first."""
        held: Counter[bytes] = Counter()
        for key, partial in self._partials.items():
            held[_source(key)] += partial.octets if by_octets else 1
        greediest = max(held, key=held.__getitem__)
        return next(key for key in self._partials if _source(key) == greediest)

    def _drop(self, key: bytes, counted: int) -> None:
        del self._partials[key]
        self._octets -= counted


class _Fragment(NamedTuple):
    """One fragment; offset in octets."""

    key: bytes
    """What fragments of one datagram have in common: addresses, identification and, for IPv4, the protocol."""
    offset: int
    more: bool
    head: bytes
    """What precedes the data in the whole packet; for IPv6 the fragment header is gone from it."""
    data: bytes
    ecn: int
    protocol: int
    upper: int
    """Where the transport header begins in the packet, where this is the first fragment."""
    packet: bytes
    """As it came, without the vnet header."""


def _source(key: bytes) -> bytes:
    """The sender's address, with which each key begins."""
    return key[:4] if len(key) == _KEY_V4 else key[:16]


def _parse(frame: bytes) -> _Fragment:
    if len(frame) <= VNET_LEN:
        raise MalformedPacketError(Reason.MALFORMED_VNET, f"{len(frame)} octets hold no packet")
    return _parse_v4(frame[IP:]) if frame[IP] >> 4 == 4 else _parse_v6(frame[IP:])


def _parse_v4(octets: bytes) -> _Fragment:
    ip = ipv4.parse(octets)
    packet = octets[: ip.total_length]
    key = packet[12:20] + packet[4:6] + packet[9:10]
    return _Fragment(
        key, ip.fragment_offset, ip.more_fragments, packet[: ip.ihl], packet[ip.ihl :], ip.tos & 3,
        ip.protocol, ip.ihl, packet,
    )  # fmt: skip


def _parse_v6(octets: bytes) -> _Fragment:
    ip = ipv6.parse(octets)
    packet = octets[: ipv6.HEADER_LEN + ip.payload_length]
    walked = ipv6.walk(packet, ip)
    if not walked.is_fragment:
        raise MalformedPacketError(Reason.FRAGMENT, "IPv6 without a fragment header")
    at = walked.fragment_header
    offset_and_more = int.from_bytes(packet[at + 2 : at + 4], "big")
    head = bytearray(packet[:at])
    head[ipv6.last_link(head, at)] = packet[at]
    return _Fragment(
        packet[8:40] + packet[at + 4 : at + 8], offset_and_more & 0xFFF8, bool(offset_and_more & 1), bytes(head),
        packet[at + 8 :], ip.traffic_class & 3, walked.protocol, walked.offset, packet,
    )  # fmt: skip


def _check(fragment: _Fragment) -> None:
    """Raise MalformedPacketError for what is wrong whatever the others are."""
    length = len(fragment.data)
    if not length or (fragment.more and length % _BLOCK):
        raise MalformedPacketError(Reason.FRAGMENT, f"{length} octets, more to follow: {fragment.more}")
    if fragment.offset + length > _room(fragment.head):
        raise MalformedPacketError(Reason.FRAGMENT, f"{length} octets at {fragment.offset} are beyond any packet")
    if not fragment.offset and len(fragment.packet) - fragment.upper < _transport(fragment):
        raise MalformedPacketError(Reason.FRAGMENT, f"a tiny first fragment of protocol {fragment.protocol}")


def _room(head: bytes) -> int:
    """How many octets may follow these headers."""
    return _LARGEST[head[0] >> 4] - len(head)


def _transport(first: _Fragment) -> int:
    """How many octets of transport header there must be."""
    if first.protocol != tcp.PROTOCOL:
        return _TRANSPORT
    data_offset = first.packet[first.upper + 12 : first.upper + 13]
    return max(tcp.HEADER_LEN, (data_offset[0] >> 4) * 4 if data_offset else 0)


@dataclass(slots=True)
class _Partial:
    """A datagram that lacks something."""

    deadline: float
    data: bytearray = field(default_factory=bytearray)
    blocks: int = 0
    """A bit for each block of data that is there."""
    length: int | None = None
    """Octets of data, once the last fragment has come."""
    head: bytes = b""
    quote: bytes = b""
    ecn: int = 0
    """A bit for each of the four codepoints that came."""

    @property
    def octets(self) -> int:
        """What this holds."""
        return len(self.data) + len(self.head) + len(self.quote)

    def put(self, fragment: _Fragment) -> None:
        """Take what a fragment has; raises MalformedPacketError where it contradicts what is there."""
        start, end = fragment.offset, fragment.offset + len(fragment.data)
        farthest = len(self.data)
        if (end < farthest and not fragment.more) or (end > farthest and self.length is not None):
            raise MalformedPacketError(Reason.FRAGMENT, f"ends at {end}, where others say {farthest}")
        blocks = _blocks(len(fragment.data)) << start // _BLOCK
        if taken := self.blocks & blocks:
            if taken == blocks and self.data[start:end] == fragment.data:
                return  # a duplicate
            raise MalformedPacketError(Reason.FRAGMENT_OVERLAP, f"{start} to {end}")
        if end > len(self.data):
            self.data.extend(bytes(end - len(self.data)))
        self.data[start:end] = fragment.data
        self.blocks |= blocks
        self.ecn |= 1 << fragment.ecn
        if not fragment.more:
            self.length = end
        if not start:
            self.head = fragment.head
            if icmp.may_answer(fragment.packet, fragment.protocol, fragment.upper):
                self.quote = fragment.packet[:_QUOTE]

    def whole(self) -> bytes | None:
        """The frame, where nothing is lacking; raises MalformedPacketError where its parts make no packet."""
        if self.length is None or self.blocks != _blocks(self.length):
            return None
        if self.length > _room(self.head):
            raise MalformedPacketError(Reason.FRAGMENT, f"{self.length} octets are beyond any packet of such a header")
        congested = bool(self.ecn & 1 << _CE)
        if congested and self.ecn & 1 << _NOT_ECT:
            raise MalformedPacketError(Reason.FRAGMENT, "CE beside Not-ECT (RFC 3168 section 5.3)")
        return _emit(self.head, self.data, congested=congested)


def _blocks(octets: int) -> int:
    return (1 << -(-octets // _BLOCK)) - 1


def _emit(head: bytes, data: bytes | bytearray, *, congested: bool = False) -> bytes:
    """The frame of a whole packet. A mark of congestion on any fragment is one on the packet (RFC 3168 section 5.3)."""
    fixed = bytearray(head)
    if head[0] >> 4 == 4:
        fixed[1] |= _CE if congested else 0
        fixed[2:4] = (len(head) + len(data)).to_bytes(2, "big")
        fixed[6:8] = fixed[10:12] = bytes(2)
        fixed[10:12] = checksum(fixed).to_bytes(2, "big")
    else:
        fixed[1] |= _CE << 4 if congested else 0
        fixed[4:6] = (len(head) - ipv6.HEADER_LEN + len(data)).to_bytes(2, "big")
    return b"".join((NO_OFFLOAD, fixed, data))
