"""The store in Redis: leases are keys that end by themselves, and outlive this process.

What this process wrote or found is mirrored in memory, so that a Check of a known address asks nobody, and goes on
being answered while Redis is away. The mirror's leases never end later than Redis's. Several trackers may share one
Redis: what another one leased is found when it is first asked for.
"""

import asyncio
import logging
import math
import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextlib import suppress
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton
from typing import Any, Final

import msgspec

from services.tracker.leases import MAX_NAMES, MAX_RECORD_TTL, MAX_SIBLINGS, Lease, Leases, LeasesFullError
from services.tracker.redis_link import RedisLink
from services.tracker.redis_scripts import FIND, LEARN, LEASE_PREFIX, REVOKE, TOUCH
from services.tracker.store import StoreDownError

_CHUNK: Final = 256  # leases per step of loading and restoring, so that others get their turn between
_MAX_PENDING: Final = 4096  # revocations to be made up for

_log = logging.getLogger(__name__)


class _Value(msgspec.Struct):
    """What the key of an address holds."""

    names: list[str]
    rule: str = ""
    when: float = 0.0


_decoder = msgspec.json.Decoder(_Value)


class RedisStore:
    """Leases in Redis, mirrored here."""

    complete = False

    def __init__(self, url: str, clock: Callable[[], float], report: Callable[[str, str | None], None]) -> None:
        """`report` is told what does not work, by subject, and None when it works again."""
        self._clock = clock
        self._report = report
        self.leases = Leases()
        self._link = RedisLink(url, on_connected=self._connected, on_trouble=lambda text: report("store", text))
        self._finding: dict[bytes, asyncio.Future[Lease | None]] = {}
        self._pending: dict[str | bytes, None] = {}
        self._loaded = False
        self._refuses = False  # Redis is there, but takes no changes
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Connect, and read what is there in the background. Returns soon also when Redis cannot be reached."""
        await self._link.open()
        self._spawn(self._link.serve())

    def live(self, address: bytes) -> Lease | None:
        """The lease of an address as far as the mirror knows."""
        return self.leases.live(address, self._clock())

    async def find(self, address: bytes) -> Lease | None:
        """The lease of an address as far as Redis knows. Equal questions in flight are asked once."""
        found = self._finding.get(address)
        if found is None:
            found = self._finding[address] = self._ask(address)
        return await asyncio.shield(found)

    async def learn(self, name: str, addresses: Sequence[bytes], seconds: float, rule: str) -> None:
        """Lease all of these; returns when Redis has stored it."""
        now = self._clock()
        await self._told(self._learn(name, addresses, seconds, rule))
        # A mirror that is full is no reason to refuse: Redis has it, and will be asked.
        with suppress(LeasesFullError):
            self.leases.learn(name, addresses, seconds, now, rule)

    async def touch(self, addresses: Sequence[bytes], seconds: float) -> list[bytes]:
        """Extend these and their siblings, whoever learned them."""
        now = self._clock()
        answer = await self._told(self._link.run(TOUCH, _ms(seconds), *map(_text, addresses)))
        extended = []
        for text, value in zip(answer[::2], answer[1::2], strict=True):
            address = _address(text)
            if address is not None and self._mirror(address, value, _ms(seconds), now) is not None:
                extended.append(address)
        return extended

    async def revoke(self, target: str | bytes) -> list[bytes]:
        """End leases: here at once, in Redis now or as soon as it can be reached."""
        ended = dict.fromkeys(self.leases.revoke(target, self._clock()))
        ended.update(dict.fromkeys(await self._revoked(target, self._revoke(target))))
        return list(ended)

    async def close(self) -> None:
        """Leave Redis; the leases stay there."""
        self._link.stop()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._link.close()

    def _ask(self, address: bytes) -> asyncio.Future[Lease | None]:
        found: asyncio.Future[Lease | None] = asyncio.get_running_loop().create_future()
        now = self._clock()

        # Mirrored as soon as the answer is there, not when somebody who waits for it gets his turn: a revocation that
        # was submitted later must also be seen later.
        def answered(answer: asyncio.Future[list[Any]]) -> None:
            del self._finding[address]
            error = answer.exception()
            if error is None:
                value, left = answer.result()
                found.set_result(self._mirror(address, value, left, now))
            else:
                found.set_exception(error)
                found.exception()

        self._link.run(FIND, _text(address)).add_done_callback(answered)
        return found

    def _revoke(self, target: str | bytes) -> asyncio.Future[list[bytes]]:
        kind, which = ("address", _text(target)) if isinstance(target, bytes) else ("name", target)
        return self._link.run(REVOKE, kind, which)

    async def _revoked(self, target: str | bytes, answer: asyncio.Future[list[bytes]]) -> list[bytes]:
        """Wait for a revocation; what could not be done is done on the next occasion."""
        try:
            ended = list(filter(None, map(_address, await self._told(answer))))
        except StoreDownError:
            self._pending[target] = None
            if len(self._pending) > _MAX_PENDING:
                del self._pending[next(iter(self._pending))]
            return []
        # What was on its way from Redis when this began may have brought them back.
        for gone in (target, *ended):
            self.leases.revoke(gone, self._clock())
        return ended

    async def _revoke_again(self, target: str | bytes, answer: asyncio.Future[list[bytes]]) -> None:
        await self._revoked(target, answer)

    def _connected(self) -> None:
        # Submitted here and now, before anything else can be: what was revoked meanwhile must not be found again.
        pending, self._pending = self._pending, {}
        for target in pending:
            self._spawn(self._revoke_again(target, self._revoke(target)))
        self._spawn(self._catch_up())

    async def _catch_up(self) -> None:
        with suppress(StoreDownError):
            await self._restore()
            if not self._loaded:
                await self._load()

    async def _load(self) -> None:
        """Read the leases that outlived the process that wrote them."""
        cursor = 0
        while True:
            cursor, keys = await self._link.submit("SCAN", cursor, "MATCH", f"{LEASE_PREFIX}*", "COUNT", _CHUNK)
            await self._load_chunk([address for key in keys if (address := _address(key[len(LEASE_PREFIX) :]))])
            if cursor == 0:
                break
        self._loaded = True
        if self.leases:
            _log.info("%d leases are known from before", len(self.leases))

    async def _load_chunk(self, addresses: list[bytes]) -> None:
        if not addresses:
            return
        now = self._clock()
        answer = await self._link.run(FIND, *map(_text, addresses))
        for address, value, left in zip(addresses, answer[::2], answer[1::2], strict=True):
            self._mirror(address, value, left, now)

    async def _restore(self) -> None:
        """Redis came back, maybe with less than it had: write again what is known here."""
        for chunk in _chunks(self.leases.snapshot(self._clock())):
            writes = []
            for address, lease in chunk:
                left = lease.until - self._clock()
                if self.live(address) is lease:
                    writes += [self._learn(name, [address], left, lease.rule) for name in lease.names]
            await asyncio.gather(*writes)

    def _learn(self, name: str, addresses: Sequence[bytes], seconds: float, rule: str) -> asyncio.Future[list[bytes]]:
        limits = (MAX_NAMES, MAX_SIBLINGS)
        return self._link.run(LEARN, name, rule, int(time.time()), _ms(seconds), *limits, *map(_text, addresses))

    async def _told(self, answer: asyncio.Future[list[bytes]]) -> list[bytes]:
        """Wait for a change; tell when Redis is there but takes no changes, and when it does again."""
        try:
            told = await answer
        except StoreDownError as error:
            if self._link.up and not self._refuses:
                self._refuses = True
                self._report("store-writes", str(error))
            raise
        if self._refuses:
            self._refuses = False
            self._report("store-writes", None)
        return told

    def _mirror(self, address: bytes, value: bytes | None, left: int, now: float) -> Lease | None:
        """Note what Redis said of an address; `left` in ms, -1 where a lease has no end."""
        if value is None or left == 0 or left < -1:
            return None
        try:
            entry = _decoder.decode(value)
        except (msgspec.DecodeError, UnicodeDecodeError):
            self._report("store-values", "the store holds leases that Netstack did not write: ignored")
            return None
        seconds = left / 1000 if left > 0 else MAX_RECORD_TTL
        names = entry.names[-MAX_NAMES:]
        try:
            for name in names:
                self.leases.learn(name, [address], seconds, now, entry.rule)
        except LeasesFullError:
            lease = Lease(now + seconds)
            lease.names = tuple(names)
            return lease
        return self.leases.live(address, now)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            context = {"message": "a task of the store failed", "exception": task.exception()}
            task.get_loop().call_exception_handler(context)


def _chunks(leases: list[tuple[bytes, Lease]]) -> Iterable[list[tuple[bytes, Lease]]]:
    return (leases[at : at + _CHUNK] for at in range(0, len(leases), _CHUNK))


def _ms(seconds: float) -> int:
    return max(1, math.ceil(seconds * 1000))


def _text(address: bytes) -> str:
    return inet_ntop(AF_INET if len(address) == 4 else AF_INET6, address)


def _address(text: bytes) -> bytes | None:
    try:
        written = text.decode("ascii")
        return inet_pton(AF_INET6 if ":" in written else AF_INET, written)
    except (ValueError, OSError):
        return None
