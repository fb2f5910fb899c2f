"""What every store of leases can do, whether it keeps them in this process or in Redis."""

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, Protocol

from services.tracker.leases import Lease, Leases, Origin
from services.tracker.rules import Said

ANSWER_WITHIN: Final = 1.4
"""Seconds; a Learn that is not stored by then is refused, before the client asks again."""


class StoreDownError(Exception):
    """The store does not answer, or refuses; the message says why. Nothing was confirmed."""


class Watcher(NamedTuple):
    """Who is told of what other trackers on the same store did."""

    leased: Callable[[Sequence[bytes], float], None]
    """These were leased or extended, for so many seconds from now."""
    revoked: Callable[[Sequence[bytes]], None]
    """These leases were ended."""
    ruled: Callable[[Sequence[Said]], None]
    """This is what commands said to all of them together."""


class Store(Protocol):
    """Leases, and where they are kept. Times are in seconds; `StoreDownError` where nothing can be confirmed."""

    leases: Leases
    """What this process knows."""

    complete: bool
    """Whether `live` knows every lease, so that `find` would tell no more."""

    watcher: Watcher | None
    """To be set before anything is learned, by who wants to be told."""

    async def open(self, said: Sequence[Said] = ()) -> None:
        """Get to work; `said` is what commands said to the tracker before this one.

        Returns soon also when the store cannot be reached; that is then tried again and again.
        """

    def live(self, address: bytes) -> Lease | None:
        """The lease of an address as far as this process knows."""

    async def find(self, address: bytes) -> Lease | None:
        """The lease of an address that this process does not know, as far as anybody does."""

    def learn_at_once(self, name: str, addresses: Sequence[bytes], seconds: float, origin: Origin) -> bool:
        """Lease all of these if that takes no waiting; else False, and nothing is done. LeasesFullError as `learn`."""

    async def learn(self, name: str, addresses: Sequence[bytes], seconds: float, origin: Origin) -> None:
        """Lease all of these; returns when that is stored. LeasesFullError where there is no room."""

    async def touch(self, addresses: Sequence[bytes], seconds: float) -> list[bytes]:
        """Extend these and their siblings to at least so long from now; returns those that became longer."""

    async def revoke(self, target: str | bytes) -> list[bytes]:
        """End the lease of an address, or those of all addresses of a name; returns those that were leased.

        Holds in this process at once, and in the store as soon as that can be reached.
        """

    def rule(self, said: Sequence[Said]) -> None:
        """This is, as a whole, what commands said here: for other trackers on the same store."""

    def tidy(self, limit: int) -> None:
        """Forget leases that have ended, looking at no more than `limit`; to be called now and then."""

    async def close(self) -> None:
        """Let go of what was opened."""
