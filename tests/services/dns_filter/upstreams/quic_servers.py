"""Resolvers over QUIC (RFC 9250) and over HTTP/3 (RFC 8484), by aioquic, on loopback."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.asyncio.server import QuicServer, serve
from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import QuicEvent, StopSendingReceived, StreamDataReceived

from services.dns_filter.framing import frame
from tests.services.dns_filter.servers import Respond
from tests.services.dns_filter.upstreams.certificates import Chain


class Resolver:
    """What came, and what is answered. What goes back on a stream is all that `respond` gives, then its end."""

    def __init__(self, respond: Respond) -> None:
        self.respond = respond
        self.asked: list[bytes] = []
        self.headers: list[dict[bytes, bytes]] = []
        self.status = b"200"
        self.media_type = b"application/dns-message"
        self.raw: bytes | None = None
        """Sent in place of an answer, without a length of ours in front."""
        self.resets = 0
        """So many questions are answered by resetting the stream."""
        self.cancelled: list[int] = []
        """Codes with which the client gave up a question."""
        self.connections: list[QuicConnectionProtocol] = []
        self.server: QuicServer | None = None

    def cut(self) -> None:
        """Forget every connection without a word, as a server does that was restarted."""
        assert self.server is not None
        for connection in self.connections:
            for cid in [cid for cid, known in self.server._protocols.items() if known is connection]:
                del self.server._protocols[cid]


class _Doq(QuicConnectionProtocol):
    def __init__(self, resolver: Resolver, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._resolver = resolver
        self._received: dict[int, bytes] = {}
        resolver.connections.append(self)

    def quic_event_received(self, event: QuicEvent) -> None:
        resolver = self._resolver
        if isinstance(event, StopSendingReceived):
            resolver.cancelled.append(event.error_code)
        if not isinstance(event, StreamDataReceived):
            return
        received = self._received[event.stream_id] = self._received.get(event.stream_id, b"") + event.data
        if not event.end_stream:
            return
        message = received[2:]
        assert int.from_bytes(received[:2], "big") == len(message)
        resolver.asked.append(message)
        if resolver.resets:
            resolver.resets -= 1
            self._quic.reset_stream(event.stream_id, 0x2)
        elif resolver.raw is not None:
            self._quic.send_stream_data(event.stream_id, resolver.raw, end_stream=True)
        else:
            for answer in resolver.respond(message):
                octets = frame(answer)
                # In two parts, between which the client has half of a length.
                self._quic.send_stream_data(event.stream_id, octets[:1])
                self._quic.send_stream_data(event.stream_id, octets[1:], end_stream=True)
        self.transmit()


class _Doh3(QuicConnectionProtocol):
    def __init__(self, resolver: Resolver, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._resolver = resolver
        self._http = H3Connection(self._quic)
        self._bodies: dict[int, bytes] = {}
        resolver.connections.append(self)

    def quic_event_received(self, event: QuicEvent) -> None:
        resolver = self._resolver
        if isinstance(event, StopSendingReceived):
            resolver.cancelled.append(event.error_code)
        for part in self._http.handle_event(event):
            if isinstance(part, HeadersReceived):
                resolver.headers.append(dict(part.headers))
            elif isinstance(part, DataReceived):
                body = self._bodies[part.stream_id] = self._bodies.get(part.stream_id, b"") + part.data
                if part.stream_ended:
                    self._answer(part.stream_id, body)

    def _answer(self, stream_id: int, message: bytes) -> None:
        resolver = self._resolver
        resolver.asked.append(message)
        answers = [resolver.raw] if resolver.raw is not None else resolver.respond(message)
        for answer in answers:
            headers = [(b":status", resolver.status), (b"content-type", resolver.media_type)]
            self._http.send_headers(stream_id, headers)
            self._http.send_data(stream_id, answer[:7], end_stream=False)
            self._http.send_data(stream_id, answer[7:], end_stream=True)
        self.transmit()


@asynccontextmanager
async def quic_server(
    respond: Respond, chain: Chain, *, alpn: str = "doq", port: int = 0, address: str = "127.0.0.1"
) -> AsyncIterator[tuple[Resolver, int]]:
    """A resolver over QUIC, or over HTTP/3 where the ALPN is that; its port."""
    resolver = Resolver(respond)
    kind = _Doh3 if alpn in H3_ALPN else _Doq
    configuration = QuicConfiguration(is_client=False, alpn_protocols=[alpn])
    configuration.load_cert_chain(str(chain.certificate), str(chain.key))
    server = resolver.server = await serve(
        address, port, configuration=configuration, create_protocol=lambda *a, **k: kind(resolver, *a, **k)
    )
    assert server._transport is not None
    try:
        yield resolver, server._transport.get_extra_info("sockname")[1]
    finally:
        server.close()
        await asyncio.sleep(0)
