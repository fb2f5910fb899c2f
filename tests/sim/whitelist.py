"""A virtual world of names whose addresses rotate, clients of several habits, and a whitelist between them.

Time is virtual. Clients are generators: each yields the seconds until it acts again. The whitelist is either ours, made
of the tracker's leases and a forwarder's replica as the services connect them, or the one that is commonly built: an
address is open for 300 s from the answer it was in.
"""

import heapq
import random
from collections import Counter
from collections.abc import Generator
from typing import Final, Protocol

from netstack.runtime.replica import Replica
from services.tracker.leases import Leases, lease_seconds, max_client_ttl

HOUR: Final = 3600.0
ROTATION: Final = 30.0
"""Seconds after which a name has other addresses."""

FLOOR: Final = 300  # whitelist.ttl
GRACE: Final = 60  # whitelist.grace
_IN_USE: Final = 20.0  # seconds between the forwarder's looks at its flows
_AT_ONCE: Final = 2  # addresses in an answer
_POOL: Final = 64  # addresses of a name

Client = Generator[float, None, None]


class Whitelist(Protocol):
    """What an answer and a flow do to it."""

    def learn(self, name: str, addresses: list[bytes], ttl: int, now: float) -> int:
        """The answer is about to be released; returns the longest TTL that the client may be told."""

    def allows(self, address: bytes, now: float) -> bool:
        """Whether a new flow may begin."""

    def in_use(self, addresses: set[bytes], now: float) -> None:
        """These have flows."""

    def tidy(self, now: float) -> None:
        """Forget what has ended."""


class Leased:
    """Ours."""

    def __init__(self) -> None:
        self.tracker = Leases()
        self.replica = Replica()

    def learn(self, name: str, addresses: list[bytes], ttl: int, now: float) -> int:
        seconds = lease_seconds(ttl, FLOOR, GRACE)
        self.tracker.learn(name, addresses, seconds, now)
        self.replica.lease(addresses, seconds, now)
        return max_client_ttl(seconds, GRACE)

    def allows(self, address: bytes, now: float) -> bool:
        question = (b"", address, 443, 6)
        if not self.replica.allows(question, now):
            lease = self.tracker.live(address, now)
            if lease is None:
                return False
            self.replica.allow_endpoint(question, lease.until - now, now)
        self.in_use({address}, now)
        return True

    def in_use(self, addresses: set[bytes], now: float) -> None:
        touched = [address for address in addresses if self.replica.use(address, now)]
        if touched and (extended := self.tracker.touch(touched, FLOOR, now)):
            self.replica.lease(extended, FLOOR, now)

    def tidy(self, now: float) -> None:
        self.tracker.expire(now, 4096)
        self.replica.expire(now)


class Plain:
    """An address is open for 300 s from its last answer, and the client is told the record's own TTL."""

    def __init__(self) -> None:
        self._until: dict[bytes, float] = {}

    def learn(self, name: str, addresses: list[bytes], ttl: int, now: float) -> int:
        self._until.update(dict.fromkeys(addresses, now + FLOOR))
        return ttl

    def allows(self, address: bytes, now: float) -> bool:
        return self._until.get(address, 0.0) > now

    def in_use(self, addresses: set[bytes], now: float) -> None:
        """It knows nothing of flows."""

    def tidy(self, now: float) -> None:
        self._until = {address: until for address, until in self._until.items() if until > now}


class World:
    """Names, clients, flows, and what became of each attempt to connect."""

    def __init__(self, whitelist: Whitelist, seed: int) -> None:
        self.whitelist = whitelist
        self.random = random.Random(seed)
        self.now = 0.0
        self.connected: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self._flows: Counter[bytes] = Counter()
        self._turns: list[tuple[float, int, Client]] = []
        self._numbers = 0
        self.start(self._forwarder())

    def start(self, client: Client, after: float = 0.0) -> None:
        """Let a client act from then on."""
        self._numbers += 1
        heapq.heappush(self._turns, (self.now + after, self._numbers, client))

    def run(self, seconds: float) -> None:
        """Everything that happens meanwhile."""
        end = self.now + seconds
        while self._turns and self._turns[0][0] < end:
            self.now, _, client = heapq.heappop(self._turns)
            wait = next(client, None)
            if wait is not None:
                self.start(client, wait)
        self.now = end

    def resolve(self, number: int, ttl: int) -> tuple[list[bytes], float]:
        """The addresses of a name at this moment, and for how long the client may believe them."""
        turn = int(self.now // ROTATION) * _AT_ONCE
        addresses = [self._address(number, turn + index) for index in range(_AT_ONCE)]
        told = self.whitelist.learn(f"n{number}.example", addresses, ttl, self.now)
        return addresses, min(ttl, told)

    def connect(self, habit: str, address: bytes, seconds: float = 0.0) -> None:
        """Begin a flow that lasts so long."""
        allowed = self.whitelist.allows(address, self.now)
        (self.connected if allowed else self.refused)[habit] += 1
        if allowed and seconds:
            self.start(self._flow(address, seconds))

    def _address(self, number: int, index: int) -> bytes:
        return bytes([198, 18 + number % 2, number // 2, index % _POOL])

    def _flow(self, address: bytes, seconds: float) -> Client:
        self._flows[address] += 1
        yield seconds
        self._flows[address] -= 1

    def _forwarder(self) -> Client:
        while True:
            self.whitelist.in_use({address for address, count in self._flows.items() if count}, self.now)
            self.whitelist.tidy(self.now)
            yield _IN_USE
