"""DNS over TCP (RFC 7766) or TLS (RFC 7858): one connection, reused, many questions on it, answered in any order."""

import asyncio
import contextlib
import secrets
import ssl
import time
from collections.abc import Sequence
from typing import NamedTuple

from services.dns_filter.framing import frame
from services.dns_filter.query import Query, answers, emit_upstream
from services.dns_filter.upstreams.certificates import certificate_error
from services.dns_filter.upstreams.upstream import OnMismatch, UpstreamError, failing_as_upstream, reason_of


class Tls(NamedTuple):
    """What a server must prove to be."""

    context: ssl.SSLContext
    name: str
    """A name, or an address where that is all there is."""


class TcpTransport:
    """One resolver over TCP, or over TLS."""

    def __init__(
        self, label: str, addresses: Sequence[str], port: int, on_mismatch: OnMismatch, tls: Tls | None = None
    ) -> None:
        self.label = label
        self._tls = tls
        self._addresses = list(addresses)
        self._port = port
        self._on_mismatch = on_mismatch
        self._connection: _Connection | None = None
        self._connecting = asyncio.Lock()

    async def ask(self, query: Query, patience: float) -> bytes:
        """See Transport."""
        asked_at = time.monotonic()
        try:
            async with failing_as_upstream(patience):
                return await self._ask(query)
        except UpstreamError as error:
            if error.silent:
                await self._suspect(asked_at)
            raise

    async def prepare(self) -> None:
        """A connection is opened when there is something to ask: servers close idle ones soon."""

    async def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            await self._connection.close()

    async def _ask(self, query: Query) -> bytes:
        connection = self._connection
        if connection is not None and connection.is_open:
            # The server may close at any time what we think is open (RFC 7766 section 6.2.3): once more, on a new one.
            with contextlib.suppress(ConnectionError):
                return await connection.ask(query)
        return await (await self._connect()).ask(query)

    async def _connect(self) -> "_Connection":
        async with self._connecting:
            connection = self._connection
            if connection is not None and connection.is_open:
                return connection
            failure: Exception = ConnectionError("no address")
            for _ in range(len(self._addresses)):
                address = self._addresses.pop(0)
                self._addresses.append(address)
                try:
                    reader, writer = await self._open(address)
                except ssl.SSLCertVerificationError as error:
                    failure = UpstreamError(certificate_error(error.verify_message))
                    continue
                except OSError as error:
                    failure = error
                    continue
                self._addresses.insert(0, self._addresses.pop())  # this one again, until it fails
                self._connection = _Connection(reader, writer, self._on_mismatch, padded=self._tls is not None)
                return self._connection
            raise failure

    async def _open(self, address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._tls is None:
            return await asyncio.open_connection(address, self._port)
        return await asyncio.open_connection(address, self._port, ssl=self._tls.context, server_hostname=self._tls.name)

    async def _suspect(self, since: float) -> None:
        """A question was not answered: a connection on which nothing at all has come since then is given up."""
        connection = self._connection
        if connection is not None and connection.is_open and connection.heard_at < since:
            self._addresses.append(self._addresses.pop(0))
            await connection.close()


class _Connection:
    """One connection, and who waits for what on it."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, on_mismatch: OnMismatch, *, padded: bool
    ) -> None:
        self._padded = padded
        self.is_open = True
        self.heard_at = time.monotonic()
        self._reader = reader
        self._writer = writer
        self._on_mismatch = on_mismatch
        self._pending: dict[int, tuple[Query, asyncio.Future[bytes]]] = {}
        self._task = asyncio.create_task(self._read())

    async def ask(self, query: Query) -> bytes:
        """The answer; raises ConnectionError when the connection ends first."""
        query_id = secrets.randbits(16)
        while query_id in self._pending:
            query_id = secrets.randbits(16)
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._pending[query_id] = (query, answer)
        try:
            self._writer.write(frame(emit_upstream(query, query_id, padded=self._padded)))
            return await answer
        finally:
            del self._pending[query_id]

    async def close(self) -> None:
        """End the connection; who waits gets ConnectionError."""
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _read(self) -> None:
        reason = "the upstream closed the connection"
        try:
            while True:
                length = int.from_bytes(await self._reader.readexactly(2), "big")
                self._received(await self._reader.readexactly(length))
        except asyncio.IncompleteReadError:
            pass
        except OSError as error:
            reason = reason_of(error)
        finally:
            self.is_open = False
            self._writer.close()
            for _, answer in self._pending.values():
                if not answer.done():
                    answer.set_exception(ConnectionResetError(reason))

    def _received(self, octets: bytes) -> None:
        self.heard_at = time.monotonic()
        query_id = int.from_bytes(octets[:2], "big")
        query, answer = self._pending.get(query_id, (None, None))
        if query is None or answer is None or answer.done() or not answers(query, query_id, octets):
            self._on_mismatch()
            return
        answer.set_result(octets)
