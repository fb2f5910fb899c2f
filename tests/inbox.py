"""Waiting for what callbacks bring, without a sleep."""

import asyncio
from typing import Any


class Inbox:
    """A callback that keeps what it was called with, and a way to wait for it."""

    def __init__(self) -> None:
        self.items: list[Any] = []
        self._grown = asyncio.Event()

    def __call__(self, *item: Any) -> None:
        self.items.append(item[0] if len(item) == 1 else item)
        self._grown.set()

    async def until(self, count: int) -> list[Any]:
        """Everything, once there are `count` of them."""
        async with asyncio.timeout(20):
            while len(self.items) < count:
                self._grown.clear()
                await self._grown.wait()
        return self.items

    async def first(self, kind: type) -> Any:
        """The first of this kind, once it is there; of what came with its sender, the message."""
        while True:
            for item in self.items:
                message = item[1] if type(item) is tuple else item
                if isinstance(message, kind):
                    return message
            await self.until(len(self.items) + 1)

    def of(self, kind: type) -> list[Any]:
        """All of this kind so far."""
        messages = [item[1] if type(item) is tuple else item for item in self.items]
        return [message for message in messages if isinstance(message, kind)]
