"""What other trackers on the same Redis do, as it happens: a subscription on a connection of its own.

It is quiet while Redis is away (the connection for operations says so) and tries again and again. What was published
meanwhile is lost, which `on_subscribed` says: whoever keeps a copy has to compare it.
"""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final

from services.tracker.redis_scripts import CHANGES
from services.tracker.redis_server import DOWN, RedisServer, close

_PING_EVERY: Final = 2.0  # seconds
_SILENT_AFTER: Final = 6.0  # seconds without a word, a pong included: the connection is dead
_BACKOFF: Final = (0.1, 2.0)  # seconds from one attempt to the next, at first and at most


class RedisChanges:
    """Listens until it is cancelled."""

    def __init__(
        self, server: RedisServer, on_subscribed: Callable[[], None], on_change: Callable[[bytes], None]
    ) -> None:
        self._server = server
        self._on_subscribed = on_subscribed
        self._on_change = on_change
        self._stopping = False

    def stop(self) -> None:
        """Let `serve` end; cancel it after this (see RedisLink.stop)."""
        self._stopping = True

    async def serve(self) -> None:
        """Listen; returns after `stop` and a cancellation."""
        least, most = _BACKOFF
        delay = least
        while not self._stopping:
            with contextlib.suppress(*DOWN):
                await self._listen()
                delay = least
            if not self._stopping:
                await asyncio.sleep(delay)
            delay = min(2 * delay, most)

    async def _listen(self) -> None:
        """Until the connection ends."""
        client = await self._server.connect(answers_within=None)
        listener = client.pubsub()
        try:
            clock = asyncio.get_running_loop().time
            await listener.subscribe(self._server.prefix + CHANGES)
            heard = pinged = clock()
            while not self._stopping and clock() - heard < _SILENT_AFTER:
                message = await listener.get_message(timeout=_PING_EVERY)
                now = clock()
                if message is not None:
                    heard = now
                    if message["type"] == "subscribe":
                        self._on_subscribed()
                    elif message["type"] == "message":
                        self._on_change(message["data"])
                if now - pinged >= _PING_EVERY:
                    pinged = now
                    await listener.ping()
        finally:
            with contextlib.suppress(*DOWN):
                await listener.aclose()  # type: ignore[no-untyped-call]
            await close(client)
