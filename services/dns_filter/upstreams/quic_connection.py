"""One QUIC connection to an upstream, by aioquic: who waits for what on which of its streams.

dnspython has a client of its own on top of aioquic; it keeps to itself why a connection ended (the certificate, the
network), leaves those who wait to their timeouts, and has no room for further headers.
"""

import asyncio
import contextlib
import os
import ssl
import time
from typing import Final

from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import (
    ConnectionTerminated,
    HandshakeCompleted,
    QuicEvent,
    StopSendingReceived,
    StreamDataReceived,
    StreamReset,
)

from services.dns_filter.message import MAX_MESSAGE
from services.dns_filter.upstreams.certificates import certificate_error
from services.dns_filter.upstreams.upstream import UpstreamError

IDLE: Final = 30.0  # seconds after which an unused connection ends; servers' own limits are about that

_CRYPTO_ERROR: Final = 0x100  # RFC 9001 section 4.8: to this the TLS alert is added
_CERTIFICATE_ALERTS: Final = range(42, 50)  # RFC 8446 section 6: bad_certificate to access_denied
_NO_APPLICATION_PROTOCOL: Final = 120


class Exchange:
    """A question on a stream of its own, and what has come back on it."""

    def __init__(self) -> None:
        self.answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self.received = bytearray()

    def add(self, octets: bytes, limit: int) -> None:
        """More came; refused where it is more than the limit."""
        self.received += octets
        if len(self.received) > limit:
            self.fail(UpstreamError(f"an answer of more than {MAX_MESSAGE} octets"))

    def finish(self, octets: bytes) -> None:
        """This is the answer."""
        if not self.answer.done():
            self.answer.set_result(octets)

    def fail(self, error: Exception) -> None:
        """There will be none."""
        if not self.answer.done():
            self.answer.set_exception(error)


class Connection(QuicConnectionProtocol):
    """One connection; a subclass knows how a question and an answer are written on a stream."""

    cancelled_code = 0
    """The application's error code for "I do not want it any more"."""

    def __init__(self, quic: QuicConnection) -> None:
        super().__init__(quic)
        self.is_open = True
        self.heard_at = time.monotonic()
        self.established: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done once the certificate has been checked; fails with UpstreamError or OSError."""
        self._exchanges: dict[int, Exchange] = {}

    @classmethod
    async def open(cls, address: str, port: int, configuration: QuicConfiguration) -> "Connection":
        """Connect; raises OSError where the network refuses, UpstreamError where the peer does or is not believed."""
        loop = asyncio.get_running_loop()
        transport, connection = await loop.create_datagram_endpoint(
            # Connected: the kernel drops what comes from elsewhere, and tells of refusals.
            lambda: cls(QuicConnection(configuration=configuration)),
            remote_addr=(address, port),
        )
        try:
            connection.connect(transport.get_extra_info("peername"))
            await connection.established
        except BaseException:
            connection.end()
            raise
        return connection

    async def ask(self, message: bytes) -> bytes:
        """The answer; raises ConnectionError when the connection ends first, UpstreamError when this stream does."""
        if not self.is_open:
            raise ConnectionResetError("the connection has ended")
        stream_id = self._quic.get_next_available_stream_id()
        exchange = self._exchanges[stream_id] = Exchange()
        try:
            self.send_question(stream_id, message)
            self.transmit()
            return await exchange.answer
        finally:
            del self._exchanges[stream_id]
            if self.is_open and (exchange.answer.cancelled() or exchange.answer.exception() is not None):
                self._cancel(stream_id)

    def end(self) -> None:
        """Say goodbye and close the socket."""
        self.close(self.goodbye_code())
        self._over(ConnectionResetError("the connection was closed"))

    def goodbye_code(self) -> int:
        """The application's error code for "nothing is wrong"."""
        return 0

    def send_question(self, stream_id: int, message: bytes) -> None:
        """Write a question and the end of the stream."""
        raise NotImplementedError

    def stream_received(self, exchange: Exchange, event: StreamDataReceived) -> None:
        """Octets came for a question that waits."""
        raise NotImplementedError

    def other_received(self, event: QuicEvent) -> None:
        """Something came that belongs to no question."""

    def quic_event_received(self, event: QuicEvent) -> None:
        """aioquic tells what happened."""
        if isinstance(event, HandshakeCompleted):
            if not self.established.done():
                self.established.set_result(None)
        elif isinstance(event, ConnectionTerminated):
            self._over(_ended(event))
        elif isinstance(event, StreamReset | StopSendingReceived):
            exchange = self._exchanges.get(event.stream_id)
            if exchange is not None:
                exchange.fail(UpstreamError(f"it reset the query with code {event.error_code:#x}"))
        else:
            if isinstance(event, StreamDataReceived):
                self.heard_at = time.monotonic()
                exchange = self._exchanges.get(event.stream_id)
                if exchange is not None:
                    self.stream_received(exchange, event)
                    return
            self.other_received(event)

    def error_received(self, exc: Exception) -> None:
        """The network refuses (ICMP): the address has no such service, or is gone."""
        self._over(exc)
        self.close()  # nothing is sent any more, but aioquic's timers end

    def _over(self, error: Exception) -> None:
        self.is_open = False
        if self._transport is not None:
            self._transport.close()
        if not self.established.done():
            self.established.set_exception(error)
            self.established.exception()  # whoever waited may have gone; asyncio would complain
        # What a question on a reused connection gets must make it be asked again (quic.py).
        late = error if isinstance(error, ConnectionError) else ConnectionResetError(str(error))
        for exchange in list(self._exchanges.values()):
            exchange.fail(late)

    def _cancel(self, stream_id: int) -> None:
        # RFC 9250 section 4.2: a client that has waited long enough says so, and the server may forget it.
        with contextlib.suppress(ValueError):  # both sides have ended the stream already
            self._quic.stop_stream(stream_id, self.cancelled_code)
        self.transmit()


def make_configuration(name: str, alpn: str, tls_ca: str) -> QuicConfiguration:
    """How to connect to a server of this name, or address; tls_ca as in `authorities`. Raises OSError."""
    configuration = QuicConfiguration(
        is_client=True, alpn_protocols=[alpn], server_name=name, idle_timeout=IDLE, verify_mode=ssl.CERT_REQUIRED
    )
    if tls_ca:
        configuration.load_verify_locations(cafile=tls_ca)
        return configuration
    # aioquic would take a list of its own; the administrator's is the system's.
    paths = ssl.get_default_verify_paths()
    cafile = paths.cafile if paths.cafile and os.access(paths.cafile, os.R_OK) else None
    configuration.load_verify_locations(cafile=cafile, capath=paths.capath or paths.openssl_capath)
    return configuration


def _ended(event: ConnectionTerminated) -> Exception:
    """Why a connection ended, as an exception."""
    alert = event.error_code - _CRYPTO_ERROR
    if alert in _CERTIFICATE_ALERTS:
        return UpstreamError(certificate_error(event.reason_phrase or f"TLS alert {alert}"))
    if alert == _NO_APPLICATION_PROTOCOL:
        return UpstreamError("it speaks QUIC, but not this protocol (no common ALPN)")
    why = event.reason_phrase or f"code {event.error_code:#x}"
    return ConnectionResetError(f"the connection ended: {why}")
