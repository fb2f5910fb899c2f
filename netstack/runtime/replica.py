"""A forwarder's copy of the whitelist: leases as the tracker published them, and verdicts as it gave them.

No I/O, no clock. What the replica does not know is a miss, and the tracker is asked; it never says no by itself, since
a lease may be on its way. Only what is allowed is kept.
"""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Final, Generic, TypeVar

MAX_ENTRIES: Final = 1 << 20
"""Addresses, and as many endpoints; beyond it the oldest are forgotten (a miss asks again)."""

TOUCH_EVERY: Final = 30.0
"""Seconds between two reports that an address is in use; a tenth of the shortest lease."""

_Key = TypeVar("_Key")

Question = tuple[bytes, bytes, int, int]
"""What a Check asks: client, address, port and protocol. What one client may reach need not be open for another."""

# DNS over TLS and over QUIC (RFC 7858, RFC 9250). A lease on an address does not cover these ports.
ASK_ALWAYS: Final = frozenset({853})


class Replica:
    """What is known to be allowed."""

    def __init__(self) -> None:
        self._leases: dict[bytes, float] = {}
        self._endpoints: dict[Question, float] = {}
        self._touched: dict[bytes, float] = {}
        self._sweeps = (_Sweep(self._leases), _Sweep(self._endpoints), _Sweep(self._touched, TOUCH_EVERY))

    def __len__(self) -> int:
        return len(self._leases)

    def allows(self, question: Question, now: float) -> bool:
        """Whether it is known that this client may reach this endpoint; False means: ask the tracker."""
        if question[2] not in ASK_ALWAYS and self._leases.get(question[1], 0.0) > now:
            return True
        return bool(self._endpoints) and self._endpoints.get(question, 0.0) > now

    def lease(self, addresses: Sequence[bytes], expires_in: float, now: float) -> None:
        """The tracker leased these addresses. A lease is never shortened, except by `revoke`."""
        until = now + expires_in
        for address in addresses:
            self._leases[address] = max(until, self._leases.pop(address, 0.0))
        _bound(self._leases)

    def allow_endpoint(self, question: Question, expires_in: float, now: float) -> None:
        """The tracker said yes to a Check."""
        self._endpoints[question] = now + expires_in
        _bound(self._endpoints)

    def revoke(self, addresses: Sequence[bytes]) -> None:
        """The tracker ended these leases: forget them and whatever was allowed at these addresses."""
        gone = set(addresses)
        for address in gone:
            self._leases.pop(address, None)
        for key in [key for key in self._endpoints if key[1] in gone]:
            del self._endpoints[key]

    def use(self, address: bytes, now: float) -> bool:
        """A flow uses this address; True when it is time to tell the tracker so."""
        if now - self._touched.get(address, -TOUCH_EVERY) < TOUCH_EVERY:
            return False
        self._touched.pop(address, None)
        self._touched[address] = now
        _bound(self._touched)
        return True

    def expire(self, now: float, limit: int = MAX_ENTRIES) -> None:
        """Forget what has ended, looking at no more than `limit` entries of each kind; call it now and then."""
        for sweep in self._sweeps:
            sweep.step(now, limit)


class _Sweep(Generic[_Key]):
    """Goes round a table, some entries at a time: all of a million at once would take a tenth of a second."""

    def __init__(self, table: dict[_Key, float], kept_for: float = 0.0) -> None:
        self._table = table
        self._kept_for = kept_for
        self._keys: Iterator[_Key] = iter(())

    def step(self, now: float, limit: int) -> None:
        """The rest of this round and, where there is room, the next one."""
        for _ in range(2):
            for key in islice(self._keys, limit):
                limit -= 1
                if self._table.get(key, now) + self._kept_for <= now:
                    self._table.pop(key, None)
            if limit <= 0:
                return
            self._keys = iter(list(self._table))


def _bound(table: dict[_Key, float]) -> None:
    if len(table) > MAX_ENTRIES:
        # Some more than must go: to find the first of a dict whose first ones are gone takes a step for each of these.
        for key in list(islice(table, len(table) - MAX_ENTRIES + MAX_ENTRIES // 64)):
            del table[key]
