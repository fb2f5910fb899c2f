"""The store in Redis: leases are keys that end by themselves, and outlive this process.

What this process wrote or found is mirrored in memory, so that a Check of a known address asks nobody, and goes on
being answered while Redis is away. The mirror's leases never end later than Redis's. Several trackers may share one
Redis: each publishes its changes, and the others mirror them.

Answers and changes come on two connections, so either may overtake the other. An answer to what was asked before a
revocation was heard of may be older than it: then Redis is asked again. After a time without the changes, the mirror
is compared: where Redis kept its data, what it no longer holds was revoked; where it was restarted, what is missing is
written again.
"""

import asyncio
import itertools
import logging
import math
import secrets
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton
from typing import Any, Final

import msgspec

from services.tracker.leases import (
    MAX_CLIENTS,
    MAX_NAMES,
    MAX_RECORD_TTL,
    MAX_SIBLINGS,
    Lease,
    Leases,
    LeasesFullError,
    Origin,
)
from services.tracker.redis_changes import RedisChanges
from services.tracker.redis_link import RedisLink
from services.tracker.redis_rules import RedisRules
from services.tracker.redis_scripts import FIND, LEARN, LEARNED, LEASE, REVOKE, REVOKED, RULED, TOUCH
from services.tracker.redis_server import RedisServer
from services.tracker.rules import Said
from services.tracker.store import StoreDownError, Watcher

_CHUNK: Final = 256  # leases per step of loading and restoring, so that others get their turn between
_MAX_PENDING: Final = 4096  # revocations to be made up for
_REMEMBERED_FOR: Final = 5.0  # seconds; no answer is under way for longer than redis_server.ROUND_TRIP

_log = logging.getLogger(__name__)


class _Value(msgspec.Struct):
    """What the key of an address holds."""

    names: list[str]
    rule: str = ""
    when: float = 0.0
    client: str = ""
    chain: str = ""  # of names, with a blank between (names have none)
    clients: dict[str, float] | None = None


_decoder = msgspec.json.Decoder(_Value)


class RedisStore:
    """Leases in Redis, mirrored here."""

    complete = False

    def __init__(
        self, server: RedisServer, clock: Callable[[], float], report: Callable[[str, str | None], None]
    ) -> None:
        """`report` is told what does not work, by subject, and None when it works again."""
        self._clock = clock
        self._report = report
        self.leases = Leases()
        self.watcher: Watcher | None = None
        self._prefix = server.prefix
        self._link = RedisLink(server, on_connected=self._connected, on_trouble=lambda text: report("store", text))
        self._changes = RedisChanges(server, self._subscribed, self._changed)
        self._source = secrets.token_hex(8)
        self._rules = RedisRules(self._link, self._source, clock)
        self._ruling = asyncio.Lock()
        self._serials = itertools.count(1)
        self._revoking: dict[int, int] = {}
        """Own revocations by serial number that were not heard back yet, and `_foreign` when they were submitted."""
        self._foreign = 0
        """How many leases of others were heard of."""
        self._revoked_at: dict[bytes, float] = {}
        """Addresses revoked in the last seconds, oldest first, and when that was heard of."""
        self._comparing = asyncio.Lock()
        self._run_id: str | None = None
        self._compared = 0
        """The connection over which it was, or is being, compared."""
        self._finding: dict[bytes, asyncio.Future[Lease | None]] = {}
        self._pending: dict[str | bytes, None] = {}
        self._loaded = False
        self._refuses = False  # Redis is there, but takes no changes
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self, said: Sequence[Said] = ()) -> None:
        """Connect, and read what is there in the background. Returns soon also when Redis cannot be reached."""
        self._rules.known(said)
        await self._link.open()
        self._spawn(self._link.serve())
        self._spawn(self._changes.serve())

    def live(self, address: bytes) -> Lease | None:
        """The lease of an address as far as the mirror knows."""
        return self.leases.live(address, self._clock())

    async def find(self, address: bytes) -> Lease | None:
        """The lease of an address as far as Redis knows. Equal questions in flight are asked once."""
        found = self._finding.get(address)
        if found is None:
            found = self._finding[address] = self._ask(address)
        return await asyncio.shield(found)

    def learn_at_once(self, name: str, addresses: Sequence[bytes], seconds: float, origin: Origin) -> bool:  # noqa: ARG002
        """No: Redis is somebody else."""
        return False

    async def learn(self, name: str, addresses: Sequence[bytes], seconds: float, origin: Origin) -> None:
        """Lease all of these; returns when Redis has stored it."""
        now = self._clock()
        await self._told(self._learn(name, addresses, seconds, origin))
        self._takes_changes()
        settled, unsettled = self._settled(addresses, now)
        # A mirror that is full is no reason to refuse: Redis has it, and will be asked.
        with suppress(LeasesFullError):
            self.leases.learn(name, settled, seconds, now, origin)
        for address in unsettled:
            await self.find(address)

    async def touch(self, addresses: Sequence[bytes], seconds: float) -> list[bytes]:
        """Extend these and their siblings, whoever learned them."""
        now = self._clock()
        answer = await self._told(self._link.run(TOUCH, self._source, _ms(seconds), *map(_text, addresses)))
        if answer:
            self._takes_changes()
        values = dict(zip(map(_address, answer[::2]), answer[1::2], strict=True))
        settled, unsettled = self._settled([address for address in values if address is not None], now)
        for address in unsettled:
            await self.find(address)
        return [address for address in settled if self._mirror(address, values[address], _ms(seconds), now)]

    async def revoke(self, target: str | bytes) -> list[bytes]:
        """End leases: here at once, in Redis now or as soon as it can be reached."""
        ended = dict.fromkeys(self.leases.revoke(target, self._clock()))
        self._note_revoked(ended)
        ended.update(dict.fromkeys(await self._revoked(target, self._revoke(target))))
        return list(ended)

    def rule(self, said: Sequence[Said]) -> None:
        """Other trackers are told, now or as soon as Redis can be reached."""
        if self._rules.say(said):
            self._spawn(self._agree())

    def tidy(self, limit: int) -> None:
        """Forget leases that have ended, and revocations that no answer can be older than."""
        now = self._clock()
        if self._rules.due():
            self._spawn(self._agree())
        self.leases.expire(now, limit)
        for address, at in list(itertools.islice(self._revoked_at.items(), limit)):
            if at > now - _REMEMBERED_FOR:
                break
            del self._revoked_at[address]

    async def close(self) -> None:
        """Leave Redis; the leases stay there."""
        self._link.stop()
        self._changes.stop()
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
            error = answer.exception()
            if error is None and self._revoked_at.get(address, -math.inf) >= now:
                again = self._ask(address)
                self._finding[address] = again
                again.add_done_callback(partial(_pass_on, found))
                return
            del self._finding[address]
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
        serial = next(self._serials)
        self._revoking[serial] = self._foreign
        if len(self._revoking) > _MAX_PENDING:
            del self._revoking[next(iter(self._revoking))]
        return self._link.run(REVOKE, self._source, serial, kind, which)

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
        self._note_revoked(ended)
        return ended

    async def _revoke_again(self, target: str | bytes, answer: asyncio.Future[list[bytes]]) -> None:
        await self._revoked(target, answer)

    def _connected(self) -> None:
        # Submitted here and now, before anything else can be: what was revoked meanwhile must not be found again.
        pending, self._pending = self._pending, {}
        for target in pending:
            self._spawn(self._revoke_again(target, self._revoke(target)))
        self._spawn(self._compare())

    async def _agree(self) -> None:
        """Write what commands said here, and hear what they said elsewhere."""
        async with self._ruling:
            with suppress(StoreDownError):
                heard = None
                while heard is None:
                    await self._rules.tell()
                    heard = await self._rules.hear()
                # One that was restarted has forgotten what nobody took back: it is compared first, then asked again.
                if self.watcher is not None and self._link.connections == self._compared:
                    self.watcher.ruled(heard)

    def _subscribed(self) -> None:
        self._spawn(self._compare())

    async def _compare(self) -> None:
        """Bring mirror and Redis together, after a time in which either may have missed something."""
        async with self._comparing:
            with suppress(StoreDownError):
                connection = self._link.connections
                run_id = await self._identity()
                if self._link.connections != connection:
                    return  # whose identity it is cannot be said; it is compared again
                if self._run_id is not None and self._run_id == run_id:
                    await self._drop_missing(connection)
                else:
                    if self._run_id is not None:
                        self._rules.forgotten()
                    await self._restore()
                self._compared = connection
                await self._agree()
                await self._load()
                self._run_id = run_id

    async def _identity(self) -> str:
        """Which process of Redis it is: another one after a restart."""
        with suppress(StoreDownError):
            return str((await self._link.submit("INFO", "server"))["run_id"])
        return secrets.token_hex(8)  # it may not be asked: then what is missing is written again

    async def _drop_missing(self, connection: int) -> None:
        """What Redis, which was not restarted, holds no longer was revoked by another tracker."""
        for chunk in self._chunks():
            answer = await self._link.run(FIND, *(_text(address) for address, _ in chunk))
            if self._link.connections != connection:
                return  # it may be another process by now; it is compared again
            now = self._clock()
            gone = [
                address
                for (address, lease), value in zip(chunk, answer[::2], strict=True)
                # One that ends in these moments is no revocation.
                if value is None and self.leases.live(address, now + 1) is lease
            ]
            for address in gone:
                self.leases.revoke(address, now)
            self._note_revoked(gone)
            if gone and self.watcher is not None:
                self.watcher.revoked(gone)

    def _changed(self, octets: bytes) -> None:
        """A change was published, by another tracker or by this one."""
        try:
            kind, source, number, *rest = msgspec.json.decode(octets)
            texts = [_address(text.encode()) for text in (rest[::2] if kind == LEARNED else rest)]
            addresses = [address for address in texts if address is not None]
            if kind == LEARNED and source != self._source and len(addresses) * 2 == len(rest):
                self._learned_elsewhere(addresses, [value.encode() for value in rest[1::2]], int(number))
            elif kind == RULED and source != self._source:
                self._spawn(self._agree())
            elif kind == REVOKED:
                self._revoked_somewhere(addresses, source, int(number))
        except (msgspec.DecodeError, ValueError, TypeError, AttributeError) as error:
            _log.debug("published, and not by a tracker: %s", error)

    def _learned_elsewhere(self, addresses: list[bytes], values: list[bytes], ms: int) -> None:
        self._foreign += 1
        now = self._clock()
        known = [
            address for address, value in zip(addresses, values, strict=True) if self._mirror(address, value, ms, now)
        ]
        if known and self.watcher is not None:
            self.watcher.leased(known, ms / 1000)

    def _revoked_somewhere(self, addresses: list[bytes], source: str, serial: int) -> None:
        if source == self._source and self._revoking.pop(serial, self._foreign) == self._foreign:
            return  # nothing came between that could have brought them back
        for address in addresses:
            self.leases.revoke(address, self._clock())
        self._note_revoked(addresses)
        if addresses and self.watcher is not None:
            self.watcher.revoked(addresses)

    def _note_revoked(self, addresses: Iterable[bytes]) -> None:
        now = self._clock()
        for address in addresses:
            self._revoked_at.pop(address, None)
            self._revoked_at[address] = now

    def _settled(self, addresses: Sequence[bytes], since: float) -> tuple[list[bytes], list[bytes]]:
        """Those that an answer is true of, and those that were revoked since it was asked for."""
        revoked = self._revoked_at
        if not revoked:
            return list(addresses), []
        unsettled = [address for address in addresses if revoked.get(address, -math.inf) >= since]
        return [address for address in addresses if address not in unsettled], unsettled

    async def _load(self) -> None:
        """Read what others wrote: before this process, or while it did not hear of it."""
        cursor = 0
        while True:
            pattern = f"{self._prefix}{LEASE}*"
            cursor, keys = await self._link.submit("SCAN", cursor, "MATCH", pattern, "COUNT", _CHUNK)
            await self._load_chunk([address for key in keys if (address := _address(key[len(pattern) - 1 :]))])
            if cursor == 0:
                break
        if self.leases and not self._loaded:
            _log.info("%d leases are known from before", len(self.leases))
        self._loaded = True

    async def _load_chunk(self, addresses: list[bytes]) -> None:
        if not addresses:
            return
        now = self._clock()
        answer = await self._link.run(FIND, *map(_text, addresses))
        found = dict(zip(addresses, zip(answer[::2], answer[1::2], strict=True), strict=True))
        for address in self._settled(addresses, now)[0]:
            self._mirror(address, *found[address], now)

    def _chunks(self) -> Iterable[list[tuple[bytes, Lease]]]:
        """All live leases, some at a time."""
        addresses = self.leases.addresses()
        for at in range(0, len(addresses), _CHUNK):
            found = ((address, self.live(address)) for address in addresses[at : at + _CHUNK])
            if chunk := [(address, lease) for address, lease in found if lease is not None]:
                yield chunk

    async def _restore(self) -> None:
        """Redis came back, maybe with less than it had: write again what is known here."""
        for chunk in self._chunks():
            writes = []
            for address, lease in chunk:
                left = lease.until - self._clock()
                if self.live(address) is lease:
                    writes += [
                        self._learn(name, [address], until - self._clock() if lease.clients else left, origin)
                        for name in lease.names
                        for origin, until in _origins(lease)
                        if until > self._clock()
                    ]
            await asyncio.gather(*writes)

    def _learn(
        self, name: str, addresses: Sequence[bytes], seconds: float, origin: Origin
    ) -> asyncio.Future[list[bytes]]:
        client = _text(origin.client) if origin.client else ""
        fields = {"rule": origin.rule, "when": origin.when, "client": client, "chain": " ".join(origin.chain)}
        written = msgspec.json.encode(fields).decode()
        limits = (MAX_NAMES, MAX_SIBLINGS, MAX_CLIENTS)
        return self._link.run(
            LEARN, self._source, name, written, int(origin.alone), _ms(seconds), *limits, *map(_text, addresses)
        )

    async def _told(self, answer: asyncio.Future[list[bytes]]) -> list[bytes]:
        """Wait for a change; tell when Redis is there but takes none."""
        try:
            return await answer
        except StoreDownError as error:
            if self._link.up and not self._refuses:
                self._refuses = True
                self._report("store-writes", str(error))
            raise

    def _takes_changes(self) -> None:
        """It stored something: one that is full still does what needs no room, and extends nothing with success."""
        if self._refuses:
            self._refuses = False
            self._report("store-writes", None)

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
        client = _address(entry.client.encode()) or b""
        origin = Origin(entry.rule, client, tuple(entry.chain.split()), entry.when)
        try:
            for name in names:
                self.leases.learn(name, [address], seconds, now, origin)
        except LeasesFullError:
            lease = Lease(now + seconds)
            lease.names = tuple(names)
        else:
            found = self.leases.live(address, now)
            if found is None:
                return None
            lease = found
        if entry.clients is not None:
            lease.clients = _clients(entry.clients, now + seconds)
        return lease

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            context = {"message": "a task of the store failed", "exception": task.exception()}
            task.get_loop().call_exception_handler(context)


def _clients(written: Mapping[str, float], until: float) -> dict[bytes, float]:
    """For whom a lease is open and until when; the last of them as long as the lease, whatever Redis's clock says."""
    last = max(written.values(), default=0.0)
    clients = {_address(text.encode()): until - (last - ends) / 1000 for text, ends in written.items()}
    return {client: ends for client, ends in clients.items() if client is not None}


def _origins(lease: Lease) -> list[tuple[Origin, float]]:
    """What has to be learned so that a lease is open for the same clients again, and until when."""
    if lease.clients is None:
        return [(lease.origin, lease.until)]
    return [(lease.origin._replace(client=client, alone=True), until) for client, until in lease.clients.items()]


def _pass_on(to: "asyncio.Future[Lease | None]", answered: "asyncio.Future[Lease | None]") -> None:
    error = answered.exception()
    if error is None:
        to.set_result(answered.result())
    else:
        to.set_exception(error)
        to.exception()


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
