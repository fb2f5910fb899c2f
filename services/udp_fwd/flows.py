"""Which client endpoint may reach and hear whom, and until when. No I/O, no clock.

Theory of operation. A *mapping* belongs to one client endpoint, an address with a port (UDP) or with an identifier
(echo), and to one host socket: whatever that endpoint sends goes through the same socket (RFC 4787 REQ-1, RFC 5508
REQ-1). A *destination* is a server's address and port that a mapping sends to: it is asked about first, holds what
arrives meanwhile, and is then allowed, or removed again. Only addresses sent to are heard from, whatever the port
(address-dependent filtering, RFC 4787 section 5), so that a TFTP server may answer from another one.

Mappings are ordered by how long they have been idle (services.udp_fwd.shares), those that nobody answered yet and the
conversations apart; so a look at the idlest of each finds what has timed out. Times are refreshed once in GRAIN only,
which keeps the order right to a second and the hot path short.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, Generic, Protocol, TypeVar

from netstack.packet.flow import address_text, endpoint_key
from netstack.packet.reason import Reason
from services.udp_fwd.outgoing import Outgoing
from services.udp_fwd.reply import Sender
from services.udp_fwd.shares import Shares

GRAIN: Final = 1.0  # seconds between two notes that something is in use
MAX_HELD: Final = 16  # datagrams that wait for one verdict
MAX_HELD_OCTETS: Final = 64 << 10  # of them; room for one datagram of the largest size
MAX_HELD_IN_ALL: Final = 4 << 20  # octets
MAX_SENDERS: Final = 1024  # server endpoints remembered per mapping; beyond it they are looked up anew
RECENT: Final = 32  # packets kept per echo destination, for errors to quote; traceroute sends 16 at once

Socket = TypeVar("Socket")
Sockaddr = tuple[Any, ...]
"""As the socket module gives it: address as text, port, and for IPv6 flow label and scope."""


@dataclass(frozen=True)
class Limits:
    """How long and how many."""

    unanswered: float  # seconds without traffic after which a mapping nobody answered ends
    conversation: float  # seconds without traffic, in both directions, after which any other ends
    max_flows: int
    max_destinations: int
    keep_recent: bool = False  # keep several packets per destination (echo), not the last alone


class State(Enum):
    """What may be done towards a destination."""

    NEW = 1
    """The tracker must be asked."""
    ASKED = 2
    ALLOWED = 3
    ENDED = 4


class Destination(Generic[Socket]):
    """A server endpoint that a mapping sends to."""

    __slots__ = ("address", "held", "held_octets", "lane", "last", "mapping", "port", "quotes", "sockaddr", "state")

    def __init__(self, mapping: "Mapping[Socket]", address: bytes, port: int, now: float) -> None:
        self.mapping = mapping
        self.address = address
        self.port = port
        self.sockaddr: Sockaddr = (address_text(address), port)
        self.state = State.NEW
        self.last = now
        self.held: list[Outgoing] = []
        self.held_octets = 0
        self.quotes: dict[int, bytes] = {}
        self.lane = b""
        """The key of its lane, where it has one."""

    def last_quote(self) -> bytes | None:
        """The packet sent last, as an ICMP error quotes it."""
        return next(reversed(self.quotes.values()), None)


class Mapping(Generic[Socket]):
    """A client endpoint and its host socket, which is opened when the first destination is allowed."""

    __slots__ = (
        "answered", "client", "destinations", "direct", "ended", "heard_from", "key", "last", "mtu", "port", "senders",
        "socket", "trace_id",
    )  # fmt: skip

    def __init__(self, key: bytes, client: bytes, port: int, last: float) -> None:
        self.key = key
        self.client = client
        self.port = port
        self.last = last
        self.answered = False
        self.ended: Reason | None = None
        self.socket: Socket | None = None
        self.destinations: dict[tuple[bytes, int], Destination[Socket]] = {}
        self.heard_from: dict[bytes, float] = {}
        """Addresses sent to, and when there was last traffic with them."""
        self.senders: dict[Sockaddr, Sender] = {}
        self.trace_id = 0
        """Of the last packet traced that nobody answered yet."""
        self.mtu = 0
        """What the path to the client takes, in octets, where a router there has said so."""
        self.direct = False
        """Whether its packets come through this worker's own queue of the TUN; then older ones are not elsewhere."""


class ShortWays(Protocol):
    """Lanes to destinations (services.udp_fwd.lane, services.udp_fwd.echo_lane)."""

    def remove(self, key: bytes) -> None:
        """The destination of that lane is no longer to be sent to."""


class Flows(Generic[Socket]):
    """All mappings of one kind."""

    def __init__(self, limits: Limits, lanes: ShortWays | None = None) -> None:
        """Who adds a lane sets destination.lane to its key."""
        self._limits = limits
        self._lanes = lanes
        self._mappings: dict[bytes, Mapping[Socket]] = {}
        self._shares: Shares[Mapping[Socket]] = Shares()
        self._destinations = 0
        self._held_octets = 0
        self._used: list[bytes] = []
        self._ended: list[Mapping[Socket]] = []
        self.waiting = 0
        """Datagrams that wait for a verdict."""
        self.lost = 0
        """Datagrams that waited in what a limit ended; whoever counts them sets this to 0."""

    def __len__(self) -> int:
        return len(self._mappings)

    def __contains__(self, key: bytes) -> bool:
        return key in self._mappings

    def live_keys(self) -> list[bytes]:
        """The keys of all live mappings (netstack.packet.flow.endpoint_key)."""
        return list(self._mappings)

    def live(self, key: bytes) -> Mapping[Socket] | None:
        """The live mapping of that key."""
        return self._mappings.get(key)

    def arrive(self, client: bytes, port: int, server: bytes, server_port: int, now: float) -> Destination[Socket]:
        """The client sent something: where to. A destination in state NEW is to be asked about, then `asked`."""
        key = endpoint_key(client, port)
        mapping = self._mappings.get(key)
        if mapping is None:
            mapping = self._open(key, client, port, now)
        destination = mapping.destinations.get((server, server_port))
        if destination is None:
            return self._add(mapping, server, server_port, now)
        if now - destination.last >= GRAIN:
            if self._is_stale(destination.last, now):
                self.lost += len(self._release(destination))
                self._remove(destination)
                return self._add(mapping, server, server_port, now)
            destination.last = now
            self._touch(mapping, server, now)
        return destination

    def asked(self, destination: Destination[Socket]) -> None:
        """The tracker is being asked; what arrives meanwhile is held."""
        if destination.state is State.NEW:
            destination.state = State.ASKED

    def hold(self, destination: Destination[Socket], outgoing: Outgoing) -> bool:
        """Keep a packet until the verdict; False where there is no room (buffer-full)."""
        octets = sum(map(len, outgoing.payloads))
        if (
            len(destination.held) >= MAX_HELD
            or destination.held_octets + octets > MAX_HELD_OCTETS
            or self._held_octets + octets > MAX_HELD_IN_ALL
        ):
            return False
        destination.held.append(outgoing)
        destination.held_octets += octets
        self._held_octets += octets
        self.waiting += 1
        return True

    def allow(self, destination: Destination[Socket], now: float) -> list[Outgoing]:
        """The tracker said yes: what was held, to be sent now in this order. Nothing for a destination that ended."""
        if destination.state is State.ENDED:
            return []
        destination.state = State.ALLOWED
        destination.mapping.heard_from[destination.address] = now
        return self._release(destination)

    def refuse(self, destination: Destination[Socket]) -> list[Outgoing]:
        """The tracker said no: what was held, to be refused. It is forgotten, so that the next packet asks again."""
        if destination.state is State.ENDED:
            return []
        held = self._release(destination)
        self._remove(destination)
        mapping = destination.mapping
        if not mapping.destinations and mapping.socket is None:
            self.end(mapping, Reason.NOT_WHITELISTED)
        return held

    def sent(self, destination: Destination[Socket], outgoing: Outgoing) -> None:
        """Keep the packet for an ICMP error to quote."""
        self.sent_packet(destination, outgoing.number, outgoing.packet)

    def sent_packet(self, destination: Destination[Socket], number: int, packet: bytes) -> None:
        """The same of its parts (see Outgoing)."""
        quotes = destination.quotes
        if self._limits.keep_recent:
            quotes.pop(number, None)
            if len(quotes) >= RECENT:
                del quotes[next(iter(quotes))]
        quotes[number] = packet

    def quote(self, mapping: Mapping[Socket], address: bytes, port: int, number: int | None) -> bytes | None:
        """The client's packet that an error is about."""
        destination = mapping.destinations.get((address, port))
        return None if destination is None or number is None else destination.quotes.get(number)

    def heard(self, mapping: Mapping[Socket], sockaddr: Sockaddr, address: bytes, now: float) -> Sender | None:
        """Somebody sent to the mapping's socket: whom to name as the sender to the client, or None: not to be heard.

        Call it for a sockaddr that mapping.senders does not hold, and for one whose `last` is GRAIN old.
        """
        last = mapping.heard_from.get(address)
        if last is None or self._is_stale(last, now):
            mapping.heard_from.pop(address, None)
            mapping.senders.pop(sockaddr, None)
            return None
        sender = mapping.senders.get(sockaddr)
        if sender is None:
            if len(mapping.senders) >= MAX_SENDERS:
                mapping.senders.clear()
            sender = mapping.senders[sockaddr] = Sender(address, sockaddr[1], mapping.client, mapping.port)
        sender.last = now
        destination = mapping.destinations.get((address, sockaddr[1]))
        if destination is not None:
            destination.last = now
        if not mapping.answered:
            self._shares.answer(mapping)
        self._touch(mapping, address, now)
        return sender

    def heard_from(self, client: bytes, port: int, server: bytes) -> Mapping[Socket] | None:
        """The mapping of a client endpoint to which this server may have sent something."""
        mapping = self._mappings.get(endpoint_key(client, port))
        return mapping if mapping is not None and server in mapping.heard_from else None

    def close(self, mapping: Mapping[Socket], server: bytes, server_port: int) -> None:
        """Nobody listens at the client's port any more to what this server sends: end the mapping with its last server.

        A client that is connected to one server may still refuse what another sends, so the others stay.
        """
        destination = mapping.destinations.get((server, server_port))
        if destination is None:
            return
        self.lost += len(self._release(destination))
        self._remove(destination)
        if not mapping.destinations:
            self.end(mapping, Reason.CONNECTION_REFUSED)

    def revoke(self, addresses: Iterable[bytes]) -> list[Outgoing]:
        """These addresses may no longer be reached: what was held for them, to be counted."""
        gone = set(addresses)
        lost: list[Outgoing] = []
        for mapping in list(self._mappings.values()):
            for destination in [each for each in mapping.destinations.values() if each.address in gone]:
                lost += self._release(destination)
                self._remove(destination)
            for address in gone.intersection(mapping.heard_from):
                del mapping.heard_from[address]
                mapping.senders.clear()
        return lost

    def expire(self, now: float) -> None:
        """End the mappings that were idle for too long."""
        for answered, timeout in ((False, self._limits.unanswered), (True, self._limits.conversation)):
            while (idlest := self._shares.idlest(answered=answered)) and now - idlest.last >= timeout + GRAIN:
                self.end(idlest, Reason.IDLE_TIMEOUT)

    def end(self, mapping: Mapping[Socket], reason: Reason) -> None:
        """Remove a mapping; it comes out of `take_ended` for its socket to be closed."""
        if mapping.ended is not None:
            return
        mapping.ended = reason
        for destination in list(mapping.destinations.values()):
            self.lost += len(self._release(destination))
            self._remove(destination)
        del self._mappings[mapping.key]
        self._shares.remove(mapping)
        self._ended.append(mapping)

    def take_ended(self) -> list[Mapping[Socket]]:
        """The mappings that ended since this was last called."""
        if not self._ended:
            return []
        ended, self._ended = self._ended, []
        return ended

    def take_used(self) -> list[bytes]:
        """Addresses with traffic since this was last called, each at most once in GRAIN and mapping."""
        if not self._used:
            return []
        used, self._used = self._used, []
        return used

    def mappings(self) -> list[Mapping[Socket]]:
        """All live mappings."""
        return list(self._mappings.values())

    def _open(self, key: bytes, client: bytes, port: int, now: float) -> Mapping[Socket]:
        if len(self._mappings) >= self._limits.max_flows:
            self.end(*self._shares.victim(client))
        mapping: Mapping[Socket] = Mapping(key, client, port, now)
        self._mappings[key] = mapping
        self._shares.add(mapping)
        return mapping

    def _evict(self, keep: Mapping[Socket]) -> None:
        for answered in (False, True):
            idlest = self._shares.idlest(answered=answered)
            if idlest is not None and idlest is not keep:
                self.end(idlest, Reason.FLOW_TABLE_FULL)
                return

    def _add(self, mapping: Mapping[Socket], server: bytes, server_port: int, now: float) -> Destination[Socket]:
        self._touch(mapping, server, now)
        if self._destinations >= self._limits.max_destinations:
            if mapping.destinations:
                oldest = next(iter(mapping.destinations.values()))
                self.lost += len(self._release(oldest))
                self._remove(oldest)
            else:
                self._evict(mapping)
        destination = Destination(mapping, server, server_port, now)
        mapping.destinations[(server, server_port)] = destination
        self._destinations += 1
        return destination

    def _remove(self, destination: Destination[Socket]) -> None:
        destination.state = State.ENDED
        del destination.mapping.destinations[(destination.address, destination.port)]
        self._destinations -= 1
        if destination.lane and self._lanes is not None:
            self._lanes.remove(destination.lane)

    def _release(self, destination: Destination[Socket]) -> list[Outgoing]:
        held, destination.held = destination.held, []
        self._held_octets -= destination.held_octets
        destination.held_octets = 0
        self.waiting -= len(held)
        return held

    def _touch(self, mapping: Mapping[Socket], address: bytes, now: float) -> None:
        mapping.last = now
        self._shares.touch(mapping)
        if address in mapping.heard_from:
            mapping.heard_from[address] = now
            self._used.append(address)

    def _is_stale(self, last: float, now: float) -> bool:
        return now - last >= self._limits.conversation + GRAIN
