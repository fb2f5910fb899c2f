"""Leases on addresses: who may be reached, by which names, until when. No I/O, no clock.

Theory of operation. A name was answered with addresses; each gets a lease. A later answer never shortens it; a flow
that uses the address extends it, and with it every address of the same names, so that a client that picks another
address of a name it resolved long ago is not refused. An address may be shared by many names. Each lease has one
entry in a heap, at the time at which it is looked at again; extending a lease does not touch the heap, it is queued
anew when its entry comes up. So every operation costs what it touches, however many leases there are.
"""

import heapq
from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

MAX_ADDRESSES: Final = 1_000_000
"""Leases held in memory; with a name of its own each has some 500 octets."""

MAX_NAMES: Final = 32
"""Names kept per address, the newest; wildcard names would otherwise grow without bound."""

MAX_SIBLINGS: Final = 4096
"""Addresses kept together per name, the newest: as many A records as one DNS message holds (RFC 1035 section 4.2.2)."""

MAX_CLIENTS: Final = 256
"""Clients kept per address, the newest, where each has to ask for itself."""

MAX_RECORD_TTL: Final = 86400
"""Seconds; what a resolver's cache commonly makes of longer ones (RFC 8767 section 4 allows such a cap)."""


class LeasesFullError(Exception):
    """There is no room for another lease until one ends."""


def lease_seconds(ttl: int, floor: int, grace: int) -> int:
    """How long an answer is leased, in seconds: the record's TTL and the grace, at least the floor."""
    return max(floor, min(ttl, MAX_RECORD_TTL) + grace, 1)


def max_client_ttl(lease: int, grace: int) -> int:
    """The longest TTL, in seconds, with which a client that obeys DNS never outlives its lease."""
    return max(lease - grace, 1)


class Origin(NamedTuple):
    """The answer that a lease comes from; shared by all addresses of that answer."""

    rule: str = ""
    """Why it was leased."""
    client: bytes = b""
    """Who asked; empty where that is not known."""
    chain: tuple[str, ...] = ()
    """The names that the asked one is an alias of, in order."""
    when: float = 0.0
    """Unix time; 0 where that is not known."""
    alone: bool = False
    """Whether the addresses are open for that client alone (whitelist.scope)."""


NOWHERE: Final = Origin()


class Lease:
    """One address's lease."""

    __slots__ = ("clients", "due", "names", "origin", "until")

    def __init__(self, until: float) -> None:
        self.until = until
        """When it ends, in the clock of `now`."""
        self.due = until
        """When the heap looks at it; an entry with another time is stale."""
        self.names: tuple[str, ...] = ()
        """What the address was answered for, oldest first."""
        self.origin = NOWHERE
        """The newest answer that it was in."""
        self.clients: dict[bytes, float] | None = None
        """For whom it is open and until when, oldest first; None: for all."""

    def until_for(self, client: bytes) -> float:
        """When it ends for a client; 0.0 where it is not open for that one."""
        return self.until if self.clients is None else self.clients.get(client, 0.0)


class Kept(NamedTuple):
    """Leases as another process kept them, in columns of the same length."""

    untils: list[float]
    names: list[tuple[str, ...]]
    origins: list[tuple[Any, ...]]
    """The first three fields of an Origin."""
    whens: list[float]
    """The fourth."""


class Leases:
    """All leases that this process knows."""

    def __init__(self, max_addresses: int = MAX_ADDRESSES) -> None:
        self._max_addresses = max_addresses
        # What another process kept becomes a Lease when somebody asks for it: a million at once would take seconds.
        self._leases: dict[bytes, Lease | int] = {}
        self._kept = Kept([], [], [], [])
        # By name, oldest first; most names have one, for which a dict would take more than all the rest of its lease.
        self._addresses: dict[str, bytes | tuple[bytes, ...] | dict[bytes, None]] = {}
        self._heap: list[tuple[float, bytes]] = []
        self._unqueued: list[Sequence[bytes]] = []  # of what was kept

    def __len__(self) -> int:
        return len(self._leases)

    @property
    def name_count(self) -> int:
        """How many names have a lease."""
        return len(self._addresses)

    @property
    def queued(self) -> int:
        """Entries of the heap: bounded by twice the leases."""
        return len(self._heap)

    def live(self, address: bytes, now: float) -> Lease | None:
        """The lease of an address, if it has one that has not ended."""
        lease = self.get(address)
        return lease if lease is not None and lease.until > now else None

    def get(self, address: bytes) -> Lease | None:
        """The lease of an address, also one that has ended and is not forgotten yet."""
        lease = self._leases.get(address)
        if isinstance(lease, int):
            lease = self._leases[address] = self._awake(lease)
        return lease

    def addresses(self) -> list[bytes]:
        """Every address that `get` knows."""
        return list(self._leases)

    def siblings(self, name: str) -> list[bytes]:
        """The addresses that a name was answered with, oldest first."""
        return list(self._siblings(name))

    def names(self) -> list[str]:
        """Every name that has a lease."""
        return list(self._addresses)

    def learn(
        self, name: str, addresses: Sequence[bytes], seconds: float, now: float, origin: Origin = NOWHERE
    ) -> None:
        """Lease all of these addresses or, with LeasesFullError, none."""
        self.expire(now, 2 * len(addresses) + 2)
        self._check_room(addresses)
        for address in addresses:
            lease = self.get(address)
            if lease is not None and lease.until <= now:
                self._remove(address, lease)
                lease = None
            if lease is None:
                lease = self._add(address, now + seconds)
                lease.clients = {} if origin.alone else None
            _open_for(lease, now + seconds, origin)
            lease.until = max(lease.until, now + seconds)
            lease.origin = origin
            self._tie(lease, name, address)

    def restore(self, addresses: Sequence[bytes], kept: Kept) -> None:
        """Take over leases that another process kept, for all clients, without a look at each; or LeasesFullError.

        To be followed by restore_names for all of their names.
        """
        self._check_room(addresses)
        first = len(self._kept.untils)
        self._leases.update(zip(addresses, range(first, first + len(addresses)), strict=True))
        untils, names, origins, whens = kept
        self._kept.untils.extend(untils)
        self._kept.names.extend(names)
        self._kept.origins.extend(origins)
        self._kept.whens.extend(whens)
        self._unqueued.append(addresses)

    def restore_names(self, names: Sequence[str], addresses: Sequence[bytes | tuple[bytes, ...]]) -> None:
        """Which addresses each name has, oldest first."""
        self._addresses.update(zip(names, addresses, strict=True))

    def touch(self, addresses: Iterable[bytes], seconds: float, now: float) -> list[bytes]:
        """Extend the leases of these addresses and of their siblings to at least `seconds` from now.

        Returns the addresses whose lease became longer. A lease that has ended stays ended.
        """
        until = now + seconds
        reached: dict[bytes, None] = {}
        names: dict[str, None] = {}
        for address in addresses:
            lease = self.live(address, now)
            if lease is not None:
                reached[address] = None
                names.update(dict.fromkeys(lease.names))
        for name in names:
            reached.update(dict.fromkeys(self._siblings(name)))
        extended = []
        for address in reached:
            lease = self.get(address)
            if lease is not None and lease.until > now and _extend(lease, until, now):
                extended.append(address)
        return extended

    def extend(self, addresses: Iterable[bytes], until: float, now: float) -> None:
        """Extend the leases of these addresses alone, as `touch` did elsewhere."""
        for address in addresses:
            lease = self.live(address, now)
            if lease is not None:
                _extend(lease, until, now)

    def revoke(self, target: str | bytes, now: float) -> list[bytes]:
        """End the lease of an address, or those of all addresses of a name, whoever else shares them.

        Returns the addresses that were leased until now.
        """
        addresses = [target] if isinstance(target, bytes) else self.siblings(target)
        ended = []
        for address in addresses:
            lease = self.get(address)
            if lease is None:
                continue
            if lease.until > now:
                ended.append(address)
            self._remove(address, lease)
        self._drop_stale()
        return ended

    def expire(self, now: float, limit: int) -> None:
        """Forget leases that have ended, looking at no more than `limit`; call it now and then."""
        self._queue(limit)
        for _ in range(limit):
            if not self._heap or self._heap[0][0] > now:
                return
            due, address = heapq.heappop(self._heap)
            lease = self.get(address)
            if lease is None or lease.due != due:
                continue
            if lease.until > now:
                lease.due = lease.until
                heapq.heappush(self._heap, (lease.due, address))
            else:
                self._remove(address, lease)

    def _awake(self, number: int) -> Lease:
        untils, names, origins, whens = self._kept
        lease = Lease(untils[number])
        lease.names = names[number]
        rule, client, chain = origins[number]
        lease.origin = Origin(rule, client, chain, whens[number])
        return lease

    def _due(self, lease: Lease | int) -> float:
        return self._kept.untils[lease] if isinstance(lease, int) else lease.due

    def _queue(self, limit: int) -> None:
        """What was kept needs entries in the heap, too. Until then it only stays in memory for longer."""
        while self._unqueued and len(self._unqueued[-1]) <= limit:
            addresses = self._unqueued.pop()
            limit -= len(addresses)
            for address in addresses:
                lease = self._leases.get(address)
                if lease is not None:
                    heapq.heappush(self._heap, (self._due(lease), address))

    def _check_room(self, addresses: Sequence[bytes]) -> None:
        if len(self._leases) + len(addresses) > self._max_addresses:
            new = sum(address not in self._leases for address in addresses)
            if len(self._leases) + new > self._max_addresses:
                raise LeasesFullError(f"{self._max_addresses} addresses are leased, and no more are kept in memory")

    def _add(self, address: bytes, until: float) -> Lease:
        lease = self._leases[address] = Lease(until)
        heapq.heappush(self._heap, (until, address))
        return lease

    def _siblings(self, name: str) -> Iterable[bytes]:
        known = self._addresses.get(name, ())
        return (known,) if isinstance(known, bytes) else known

    def _tie(self, lease: Lease, name: str, address: bytes) -> None:
        if not lease.names:
            lease.names = (name,)
        elif lease.names[-1] != name:
            lease.names = (*(known for known in lease.names if known != name), name)
            for dropped in lease.names[:-MAX_NAMES]:
                self._untie(dropped, address)
            lease.names = lease.names[-MAX_NAMES:]
        if self._addresses.setdefault(name, address) != address:
            self._join(name, address)

    def _join(self, name: str, address: bytes) -> None:
        """The name has other addresses, too."""
        siblings = self._addresses[name]
        if isinstance(siblings, bytes):
            siblings = (siblings,)
        if isinstance(siblings, tuple):
            siblings = self._addresses[name] = dict.fromkeys(siblings)
        siblings.pop(address, None)
        siblings[address] = None
        if len(siblings) > MAX_SIBLINGS:
            oldest = next(iter(siblings))
            del siblings[oldest]
            other = self.get(oldest)
            if other is not None:
                other.names = tuple(known for known in other.names if known != name) or other.names

    def _untie(self, name: str, address: bytes) -> None:
        siblings = self._addresses.get(name)
        if isinstance(siblings, tuple):
            siblings = self._addresses[name] = dict.fromkeys(siblings)
        if isinstance(siblings, dict):
            siblings.pop(address, None)
        if not siblings or siblings == address:
            self._addresses.pop(name, None)

    def _remove(self, address: bytes, lease: Lease) -> None:
        for name in lease.names:
            self._untie(name, address)
        del self._leases[address]

    def _drop_stale(self) -> None:
        if len(self._heap) > 2 * len(self._leases) + 64:
            self._heap = [(self._due(lease), address) for address, lease in self._leases.items()]
            heapq.heapify(self._heap)


def _open_for(lease: Lease, until: float, origin: Origin) -> None:
    if not origin.alone:
        lease.clients = None
    if lease.clients is None:
        return
    lease.clients[origin.client] = max(until, lease.clients.pop(origin.client, 0.0))
    if len(lease.clients) > MAX_CLIENTS:
        del lease.clients[next(iter(lease.clients))]


def _extend(lease: Lease, until: float, now: float) -> bool:
    if lease.until >= until:
        return False
    lease.until = until
    if lease.clients:
        lease.clients = {client: max(end, until) for client, end in lease.clients.items() if end > now}
    return True
