"""DNS over TCP from clients (RFC 7766): tcp_fwd hands each connection over on a Unix socket, with a preface that says
whose it is (framing.py); in `mode = "dns"` clients connect themselves.
"""

import asyncio
import contextlib
import socket
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final, cast

from netstack.packet.reason import Reason
from services.dns_filter.framing import ClientEndpoint, Deframer, MalformedStreamError, frame
from services.dns_filter.queries import Client

IDLE: Final = 10.0  # seconds; RFC 7766 section 6.2.3: "in the order of a few seconds"
MAX_CONNECTIONS: Final = 256
MAX_IN_FLIGHT: Final = 64  # queries of one connection; what is more waits in the client's socket
_WRITE_HIGH: Final = 256 << 10  # octets of answers that a client does not read


class StreamServer:
    """Listens and passes on what connections ask."""

    def __init__(self, on_query: Callable[[bytes, Client], bool], on_drop: Callable[[Reason], None]) -> None:
        """on_query says whether it will call the client's reply; it may have done so already."""
        self.on_query = on_query
        self.on_drop = on_drop
        self.connections: set[Connection] = set()
        self._path: Path | None = None
        self._servers: list[asyncio.Server] = []

    async def listen_at(self, path: Path) -> None:
        """Listen on a Unix socket; one that a killed process left is replaced. Raises OSError."""
        self._path = path
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path.unlink(missing_ok=True)
        loop = asyncio.get_running_loop()
        self._servers.append(await loop.create_unix_server(lambda: Connection(self, loop), str(path)))

    async def listen_on(self, sock: socket.socket) -> None:
        """Take connections from a TCP socket that listens."""
        loop = asyncio.get_running_loop()
        self._servers.append(await loop.create_server(lambda: Connection(self, loop), sock=sock))

    def stop_listening(self) -> None:
        """Take no new connections; those that are there go on."""
        for server in self._servers:
            server.close()
        self._servers.clear()
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    def close(self) -> None:
        """End everything."""
        self.stop_listening()
        for connection in list(self.connections):
            connection.abort()


class Connection(asyncio.Protocol):
    """One connection of one client."""

    def __init__(self, server: StreamServer, loop: asyncio.AbstractEventLoop) -> None:
        self._server = server
        self._loop = loop
        self._deframer = Deframer()
        self._backlog: deque[bytes] = deque()
        self._in_flight = 0
        self.last_heard = loop.time()
        self._asking = False
        self.is_writable = True
        self._ended = False
        self._transport: asyncio.Transport | None = None
        self._idle: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A connection came. Where there are too many, it takes the place of the one that is idle for longest."""
        self._transport = cast("asyncio.Transport", transport)
        peer = transport.get_extra_info("peername")
        if isinstance(peer, tuple):
            self._deframer = Deframer(_endpoint(peer[0], peer[1]))
        if len(self._server.connections) >= MAX_CONNECTIONS:
            self._server.on_drop(Reason.BUFFER_FULL)
            # Nobody can keep others out by connections that ask nothing (RFC 7766 section 6.2.3).
            idle = [connection for connection in self._server.connections if connection.is_idle]
            if not idle:
                self.abort()
                return
            oldest = min(idle, key=lambda connection: connection.last_heard)
            self._server.connections.discard(oldest)
            oldest.abort()
        self._server.connections.add(self)
        self._transport.set_write_buffer_limits(high=_WRITE_HIGH)
        self._idle = self._loop.call_later(IDLE, self._look)

    def data_received(self, data: bytes) -> None:
        """Octets came, of no, one or many queries."""
        try:
            messages = self._deframer.feed(data)
        except MalformedStreamError:
            self._server.on_drop(Reason.MALFORMED_DNS)
            self.abort()
            return
        if messages:
            self.last_heard = self._loop.time()
            self._backlog.extend(messages)
            self._ask()

    @property
    def is_idle(self) -> bool:
        """Whether nothing that was asked is still to be answered."""
        return not self._in_flight and not self._backlog

    def eof_received(self) -> bool:
        """The client asks nothing more, but still listens (RFC 7766 section 6.2.4)."""
        self._ended = True
        self._close_if_done()
        return True

    def pause_writing(self) -> None:
        """The client does not read its answers: take no more queries."""
        self.is_writable = False

    def resume_writing(self) -> None:
        """There is room for answers again."""
        self.is_writable = True
        self._ask()

    def connection_lost(self, _: Exception | None) -> None:
        """It is over; answers still to come go nowhere."""
        self._server.connections.discard(self)
        self._transport = None
        self._backlog.clear()
        if self._idle is not None:
            self._idle.cancel()

    def abort(self) -> None:
        """End it at once."""
        if self._transport is not None:
            self._transport.abort()

    def _ask(self) -> None:
        """Pass on what waits, as far as the limits allow, and stop reading beyond."""
        if self._asking or self._transport is None:
            return  # a reply came while its query was being passed on
        self._asking = True
        while self._backlog and self._in_flight < MAX_IN_FLIGHT and self.is_writable:
            self._in_flight += 1
            if not self._server.on_query(self._backlog.popleft(), self._client()):
                self._in_flight -= 1
        self._asking = False
        with contextlib.suppress(RuntimeError):  # it is closing
            if self._backlog or not self.is_writable:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()
        self._close_if_done()

    def _client(self) -> Client:
        endpoint = self._deframer.client
        assert endpoint is not None
        return Client(endpoint.address, endpoint.port, udp=False, reply=self._reply)

    def _reply(self, message: bytes) -> None:
        self._in_flight -= 1
        self.last_heard = self._loop.time()
        if self._transport is None:
            return
        self._transport.write(frame(message))
        self._ask()

    def _close_if_done(self) -> None:
        if self._ended and not self._in_flight and not self._backlog and self._transport is not None:
            self._transport.close()

    def _look(self) -> None:
        """Close what has been idle. Octets of a query that is never whole do not count as life."""
        left = self.last_heard + IDLE - self._loop.time()
        if left <= 0 and (not self._in_flight or not self.is_writable):
            self.abort()
            return
        self._idle = self._loop.call_later(max(left, 1.0), self._look)


def _endpoint(host: str, port: int) -> ClientEndpoint:
    """Who a TCP client is; the scope of a link-local address says nothing here."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return ClientEndpoint(socket.inet_pton(family, host.partition("%")[0]), port)
