"""Stores on one Redis, and what they reported."""

import asyncio

from services.tracker.redis_server import RedisServer
from services.tracker.redis_store import RedisStore


class World:
    """Stores on one Redis, and what they reported."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.reports: list[tuple[str, str | None]] = []
        self.clock = asyncio.get_running_loop().time
        self._stores: list[RedisStore] = []

    def make(self, url: str = "", prefix: str = "netstack:") -> RedisStore:
        store = RedisStore(
            RedisServer(url or self.url, prefix),
            self.clock,
            lambda subject, trouble: self.reports.append((subject, trouble)),
        )
        self._stores.append(store)
        return store

    async def open(self, url: str = "", prefix: str = "netstack:") -> RedisStore:
        store = self.make(url, prefix)
        await store.open()
        return store

    async def close(self) -> None:
        for store in self._stores:
            await store.close()

    def left(self, store: RedisStore, address: bytes) -> float:
        lease = store.live(address)
        assert lease is not None
        return lease.until - self.clock()

    def troubles(self, subject: str) -> list[str]:
        return [trouble for about, trouble in self.reports if about == subject and trouble is not None]
