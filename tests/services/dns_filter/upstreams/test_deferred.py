"""A transport whose module is imported late."""

import asyncio
from types import ModuleType

from services.dns_filter.query import Query
from services.dns_filter.upstreams.deferred import Deferred
from tests.services.dns_filter.messages import query


class Real:
    label = "real"

    def __init__(self) -> None:
        self.prepared = 0
        self.closed = 0

    async def ask(self, query: Query, patience: float) -> bytes:
        return f"{query} {patience}".encode()

    async def prepare(self) -> None:
        self.prepared += 1

    async def close(self) -> None:
        self.closed += 1


def test_module_is_brought_in_once_and_then_stood_for() -> None:
    async def main() -> None:
        made: list[Real] = []

        def make(module: ModuleType) -> Real:
            assert module.__name__ == "colorsys"
            made.append(Real())
            return made[-1]

        deferred = Deferred("real", "colorsys", make)
        await deferred.close()
        assert made == []
        got = await asyncio.gather(*(deferred.ask(query(), 1.0) for _ in range(3)), deferred.prepare())
        assert got[:3] == [b"www.example.com A 1.0"] * 3
        await deferred.prepare()
        await deferred.close()
        assert [(one.prepared, one.closed) for one in made] == [(2, 1)]

    asyncio.run(main())
