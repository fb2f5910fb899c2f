"""The embedded store: leases live in this process and end with it."""

from collections.abc import Callable, Sequence

from services.tracker.leases import Lease, Leases


class MemoryStore:
    """All leases, known to nobody else."""

    complete = True

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.leases = Leases()

    async def open(self) -> None:
        """Nothing to open."""

    def live(self, address: bytes) -> Lease | None:
        """The lease of an address."""
        return self.leases.live(address, self._clock())

    async def find(self, address: bytes) -> Lease | None:
        """The same as `live`: nobody knows more."""
        return self.live(address)

    async def learn(self, name: str, addresses: Sequence[bytes], seconds: float, rule: str) -> None:
        """Lease all of these or, with LeasesFullError, none."""
        self.leases.learn(name, addresses, seconds, self._clock(), rule)

    async def touch(self, addresses: Sequence[bytes], seconds: float) -> list[bytes]:
        """Extend these and their siblings."""
        return self.leases.touch(addresses, seconds, self._clock())

    async def revoke(self, target: str | bytes) -> list[bytes]:
        """End leases."""
        return self.leases.revoke(target, self._clock())

    async def close(self) -> None:
        """Nothing to close."""
