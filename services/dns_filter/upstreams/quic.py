"""DNS over dedicated QUIC connections (RFC 9250): a stream for each question. Importing this takes 0.15 s (aioquic)."""

import asyncio
import time
from collections.abc import Sequence
from typing import Final

from aioquic.quic.events import StreamDataReceived

from services.dns_filter.framing import frame
from services.dns_filter.message import MAX_MESSAGE
from services.dns_filter.query import Query, answers, emit_upstream
from services.dns_filter.upstreams.quic_connection import Connection, Exchange, make_configuration
from services.dns_filter.upstreams.upstream import OnMismatch, UpstreamError, failing_as_upstream

ALPN: Final = "doq"  # RFC 9250 section 4.1.1
_REQUEST_CANCELLED: Final = 0x3  # RFC 9250 section 4.3


class DoqConnection(Connection):
    """Questions and answers with two octets of length in front (RFC 9250 section 4.2)."""

    cancelled_code = _REQUEST_CANCELLED

    def send_question(self, stream_id: int, message: bytes) -> None:
        """See Connection."""
        self._quic.send_stream_data(stream_id, frame(message), end_stream=True)

    def stream_received(self, exchange: Exchange, event: StreamDataReceived) -> None:
        """See Connection."""
        exchange.add(event.data, 2 + MAX_MESSAGE)
        received = exchange.received
        length = int.from_bytes(received[:2], "big")
        if len(received) >= 2 + length > 2:
            exchange.finish(bytes(received[2 : 2 + length]))
        elif event.end_stream:
            exchange.fail(UpstreamError("an answer that is cut off"))


class QuicTransport:
    """One resolver over QUIC: one connection, made when it is needed, to the first address that answers."""

    alpn = ALPN

    def __init__(
        self, label: str, addresses: Sequence[str], endpoint: tuple[str, int], tls_ca: str, on_mismatch: OnMismatch
    ) -> None:
        """The endpoint's name, or address, is what the certificate must be for. Raises OSError, see authorities."""
        self.label = label
        self._addresses = list(addresses)
        name, self._port = endpoint
        self._configuration = make_configuration(name, self.alpn, tls_ca)
        self._on_mismatch = on_mismatch
        self._connection: Connection | None = None
        self._connecting = asyncio.Lock()

    async def ask(self, query: Query, patience: float) -> bytes:
        """See Transport."""
        asked_at = time.monotonic()
        try:
            async with failing_as_upstream(patience):
                octets = await self._ask(query)
        except UpstreamError as error:
            if error.silent:
                self._suspect(asked_at)
            raise
        if not answers(query, 0, octets):
            self._on_mismatch()
            raise UpstreamError("an answer to another question")
        return octets

    async def prepare(self) -> None:
        """A connection is opened when there is something to ask: servers close idle ones soon."""

    async def close(self) -> None:
        """Close the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.end()

    async def open(self, address: str) -> Connection:
        """Connect to one address; see Connection.open."""
        return await DoqConnection.open(address, self._port, self._configuration)

    async def _ask(self, query: Query) -> bytes:
        # "the DNS Message ID MUST be set to 0" (RFC 9250 section 4.2.1, and RFC 8484 section 4.1 for HTTP).
        message = emit_upstream(query, 0, padded=True)
        connection = self._connection
        if connection is not None and connection.is_open:
            try:
                return await connection.ask(message)
            except ConnectionError:
                pass  # the server may have forgotten what we think is open: once more, on a new one
        return await (await self._connect()).ask(message)

    async def _connect(self) -> Connection:
        async with self._connecting:
            connection = self._connection
            if connection is not None and connection.is_open:
                return connection
            failure: Exception = ConnectionError("no address")
            for _ in range(len(self._addresses)):
                # To the end first: where this attempt is given up by its caller, the next one is another's.
                address = self._addresses.pop(0)
                self._addresses.append(address)
                try:
                    connection = await self.open(address)
                except (OSError, UpstreamError) as error:
                    failure = error
                    continue
                self._addresses.insert(0, self._addresses.pop())  # this one again, until it fails
                self._connection = connection
                return connection
            raise failure

    def _suspect(self, since: float) -> None:
        """A question was not answered: a connection on which nothing at all has come since then is given up."""
        connection = self._connection
        if connection is not None and connection.is_open and connection.heard_at < since:
            self._addresses.append(self._addresses.pop(0))
            self._connection = None
            connection.end()
