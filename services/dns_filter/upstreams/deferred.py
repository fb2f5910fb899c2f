"""A transport whose module takes long to import: brought in after the start, beside the loop."""

import asyncio
import importlib
from collections.abc import Callable
from types import ModuleType

from services.dns_filter.query import Query
from services.dns_filter.upstreams.upstream import Transport


class Deferred:
    """Stands for a transport until its module is there."""

    def __init__(self, label: str, module: str, make: Callable[[ModuleType], Transport]) -> None:
        """make gets the imported module."""
        self.label = label
        self._module = module
        self._make = make
        self._transport: Transport | None = None

    async def ask(self, query: Query, patience: float) -> bytes:
        """See Transport."""
        return await (self._transport or await self._bring_in()).ask(query, patience)

    async def prepare(self) -> None:
        """Import the module, then prepare what stands behind it."""
        await (self._transport or await self._bring_in()).prepare()

    async def close(self) -> None:
        """See Transport."""
        if self._transport is not None:
            await self._transport.close()

    async def _bring_in(self) -> Transport:
        module = await asyncio.to_thread(importlib.import_module, self._module)
        # Another question may have waited for the same import.
        self._transport = self._transport or self._make(module)
        return self._transport
