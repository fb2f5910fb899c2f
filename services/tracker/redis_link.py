"""The connection to Redis: one round trip at a time, each carrying every operation that waits.

Theory of operation. Operations are queued; whatever is in the queue when a round trip ends makes up the next
pipeline. So all operations reach Redis in the order in which they were submitted, a burst of them costs few round
trips, and nothing waits for a timer. When Redis does not answer, everything that waits fails at once, and so does
everything submitted while it is down; it is tried again and again, each time a little later, and an idle connection
is looked at each second.
"""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import redis.asyncio
from redis.exceptions import NoScriptError

from services.tracker import redis_scripts
from services.tracker.redis_scripts import Script
from services.tracker.redis_server import DOWN, ROUND_TRIP, RedisServer, close
from services.tracker.store import StoreDownError

_IDLE: Final = 1.0  # seconds without an operation after which the connection is looked at
_BACKOFF: Final = (0.1, 2.0)  # seconds from one attempt to the next, at first and at most
_MAX_WAITING: Final = 16384  # operations
_MAX_BATCH: Final = 512  # operations in one pipeline
_MAX_ARGUMENTS: Final = 16384  # of all operations in one pipeline; about 20 ms of Redis's time

_log = logging.getLogger(__name__)


class _Operation(NamedTuple):
    command: tuple[Any, ...]
    answered: asyncio.Future[Any]


class RedisLink:
    """Operations in, answers out; says when Redis goes away and when it is there again."""

    def __init__(
        self, server: RedisServer, *, on_connected: Callable[[], None], on_trouble: Callable[[str | None], None]
    ) -> None:
        self._server = server
        self._place = server.place
        self.connections = 0
        """How many there have been; what was read over another one may have been another Redis's."""
        self._on_connected = on_connected
        self._on_trouble = on_trouble
        self._client: redis.asyncio.Redis | None = None
        self._waiting: deque[_Operation] = deque()
        self._wake = asyncio.Event()
        self._up = False
        self._stopping = False

    @property
    def up(self) -> bool:
        """Whether Redis answered when it was last asked."""
        return self._up

    async def open(self) -> None:
        """Try to connect, once; `serve` goes on from there."""
        try:
            await self._exchange([])
        except DOWN as error:
            await self._went_down(error, [])

    async def serve(self) -> None:
        """Carry operations until `stop` and a cancellation."""
        least, most = _BACKOFF
        delay = least
        while not self._stopping:
            batch = await self._next_batch()
            try:
                await self._exchange(batch)
                delay = least
            except DOWN as error:
                await self._went_down(error, batch)
                if not self._stopping:
                    await asyncio.sleep(delay)
                delay = min(2 * delay, most)
            except asyncio.CancelledError:
                self._fail(batch, "the tracker stops")
                raise

    def run(self, script: Script, *arguments: str | int) -> asyncio.Future[Any]:
        """Submit a script; the future fails with StoreDownError where its effect is not certain."""
        return self.submit("EVALSHA", script.digest, 1, self._server.prefix, *arguments)

    def submit(self, *command: str | int) -> asyncio.Future[Any]:
        """Submit a command."""
        answered: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if not self._up:
            answered.set_exception(StoreDownError(f"{self._place} cannot be reached"))
        elif len(self._waiting) >= _MAX_WAITING:
            answered.set_exception(StoreDownError(f"{_MAX_WAITING} operations wait for {self._place}"))
        else:
            self._waiting.append(_Operation(command, answered))
            self._wake.set()
        # Whoever submitted this may have given up by then; that is no error of ours.
        answered.add_done_callback(_retrieve)
        return answered

    def stop(self) -> None:
        """Let `serve` end; cancel it after this.

        The cancellation alone may be lost: redis-py sends by asyncio.wait_for, which before Python 3.12 swallows one
        that comes just when it is done (bpo-37658).
        """
        self._stopping = True

    async def close(self) -> None:
        """Close the connection, when `serve` has ended."""
        self._fail(list(self._waiting), "the tracker stops")
        self._waiting.clear()
        self._up = False
        await self._disconnect()

    async def _next_batch(self) -> list[_Operation]:
        if not self._up:
            return []
        if not self._waiting:
            self._wake.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_IDLE):
                    await self._wake.wait()
        batch: list[_Operation] = []
        room = _MAX_ARGUMENTS
        while self._waiting and len(batch) < _MAX_BATCH and room > 0:
            operation = self._waiting.popleft()
            room -= len(operation.command)
            if not operation.answered.done():
                batch.append(operation)
        return batch

    async def _exchange(self, batch: list[_Operation]) -> None:
        answers = await self._converse(batch)
        for operation, answer in zip(batch, answers, strict=True):
            if operation.answered.done():
                continue
            if isinstance(answer, Exception):
                operation.answered.set_exception(StoreDownError(f"{self._place} refuses: {answer}"))
            else:
                operation.answered.set_result(answer)

    async def _converse(self, batch: list[_Operation]) -> list[Any]:
        if self._client is not None:
            try:
                return await _send(self._client, batch)
            except (redis.exceptions.ConnectionError, NoScriptError):
                # It was restarted, maybe, while nothing was said. Every operation may safely be done twice.
                await self._disconnect()
        self._client = await self._server.connect(redis_scripts.ALL)
        self.connections += 1
        answers = await _send(self._client, batch)
        self._came_up()
        return answers

    async def _disconnect(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await close(client)

    def _came_up(self) -> None:
        if not self._up:
            self._up = True
            self._on_trouble(None)
        self._on_connected()

    async def _went_down(self, error: BaseException, batch: list[_Operation]) -> None:
        why = self._server.explain(error) or f"no answer within {ROUND_TRIP} s"
        self._up = False
        self._fail([*batch, *self._waiting], f"{self._place}: {why}")
        self._waiting.clear()
        self._on_trouble(f"{self._place} cannot be reached: {why}")
        # What is still on its way must never be taken for an answer to something else.
        await self._disconnect()

    def _fail(self, operations: list[_Operation], why: str) -> None:
        for operation in operations:
            if not operation.answered.done():
                operation.answered.set_exception(StoreDownError(why))


async def _send(client: redis.asyncio.Redis, batch: list[_Operation]) -> list[Any]:
    async with asyncio.timeout(ROUND_TRIP):
        if not batch:
            await client.ping()
            return []
        pipeline = client.pipeline(transaction=False)
        for operation in batch:
            pipeline.execute_command(*operation.command)
        answers = await pipeline.execute(raise_on_error=False)
    for answer in answers:
        if isinstance(answer, NoScriptError):
            raise answer
    return answers


def _retrieve(answered: asyncio.Future[Any]) -> None:
    if not answered.cancelled():
        answered.exception()
