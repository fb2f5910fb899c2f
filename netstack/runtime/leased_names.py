"""Which names were answered with which addresses, as far as this process has heard. No I/O, no clock.

What is not known here may still be so: a process that started late has not heard of earlier answers, and of each
address only the newest names are kept. Who needs to be sure asks the tracker.
"""

from collections.abc import Iterable, Sequence
from typing import Final

MAX_NAMES: Final = 256
"""Names kept of an address, the newest; the large networks that serve many names have some hundreds at each."""

MAX_ADDRESSES: Final = 65536
"""Addresses kept, the last to be leased; with two or three names each, some 30 MB."""


class LeasedNames:
    """The names of each leased address."""

    def __init__(self) -> None:
        self._until: dict[bytes, float] = {}
        self._names: dict[bytes, dict[str, None]] = {}  # by address, the address leased last at the end

    def __len__(self) -> int:
        return len(self._names)

    def learn(self, addresses: Sequence[bytes], names: Sequence[str], expires_in: float, now: float) -> None:
        """Each of these names was answered with each of these addresses, leased for so many seconds."""
        if not names:
            return
        for address in addresses:
            if self._until.get(address, 0.0) <= now:
                self._forget(address)
            known = self._names.pop(address, {})
            for name in names:
                known.pop(name, None)
                known[name] = None
            while len(known) > MAX_NAMES:
                del known[next(iter(known))]
            self._names[address] = known
            self._until[address] = max(self._until.get(address, 0.0), now + expires_in)
            if len(self._names) > MAX_ADDRESSES:
                self._forget(next(iter(self._names)))

    def has(self, address: bytes, name: str, now: float) -> bool:
        """Whether this name is known to have been answered with this address, whose lease goes on."""
        return self._until.get(address, 0.0) > now and name in self._names[address]

    def revoke(self, addresses: Iterable[bytes]) -> None:
        """The leases of these addresses were ended."""
        for address in addresses:
            self._forget(address)

    def expire(self, now: float) -> None:
        """Forget what has ended; call it now and then."""
        self.revoke([address for address, until in self._until.items() if until <= now])

    def _forget(self, address: bytes) -> None:
        self._until.pop(address, None)
        self._names.pop(address, None)
