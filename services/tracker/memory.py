"""The embedded store: leases live in this process, and in a journal for the process after it."""

import logging
from collections.abc import Callable, Sequence

from services.tracker.journal import Journal
from services.tracker.leases import Lease, Leases, Origin
from services.tracker.rules import Said
from services.tracker.store import Watcher

_log = logging.getLogger(__name__)


class MemoryStore:
    """All leases, known to nobody else."""

    complete = True

    def __init__(self, clock: Callable[[], float], journal: Journal | None = None) -> None:
        self._clock = clock
        self._journal = journal
        self.leases = Leases()
        self.watcher: Watcher | None = None

    async def open(self, said: Sequence[Said] = ()) -> None:  # noqa: ARG002  (nobody else is to be told)
        """Read what the process before this one left."""
        if self._journal is not None and (known := self._journal.open(self.leases, self._clock())):
            _log.info("%d leases are known from before", known)

    def live(self, address: bytes) -> Lease | None:
        """The lease of an address."""
        return self.leases.live(address, self._clock())

    async def find(self, address: bytes) -> Lease | None:
        """The same as `live`: nobody knows more."""
        return self.live(address)

    async def learn(self, name: str, addresses: Sequence[bytes], seconds: float, origin: Origin) -> None:
        """Lease all of these or, with LeasesFullError, none."""
        self.learn_at_once(name, addresses, seconds, origin)

    def learn_at_once(self, name: str, addresses: Sequence[bytes], seconds: float, origin: Origin) -> bool:
        """The same."""
        now = self._clock()
        self.leases.learn(name, addresses, seconds, now, origin)
        if self._journal is not None:
            self._journal.learned(name, addresses, now + seconds, origin)
        return True

    async def touch(self, addresses: Sequence[bytes], seconds: float) -> list[bytes]:
        """Extend these and their siblings."""
        now = self._clock()
        extended = self.leases.touch(addresses, seconds, now)
        if self._journal is not None and extended:
            self._journal.touched(extended, now + seconds)
        return extended

    async def revoke(self, target: str | bytes) -> list[bytes]:
        """End leases."""
        ended = self.leases.revoke(target, self._clock())
        if self._journal is not None and ended:
            self._journal.gone(ended)
        return ended

    def rule(self, said: Sequence[Said]) -> None:
        """Nobody else is to be told."""

    def tidy(self, limit: int) -> None:
        """Forget leases that have ended, and let the journal do some of its work."""
        self.leases.expire(self._clock(), limit)
        if self._journal is not None:
            self._journal.step()

    async def close(self) -> None:
        """Leave the journal to the next process."""
        if self._journal is not None:
            self._journal.close()
