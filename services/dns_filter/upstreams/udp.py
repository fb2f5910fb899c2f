"""DNS over UDP (RFC 1035 section 4.2.1): a socket, a port and an id of its own for each attempt (RFC 5452)."""

import asyncio
import secrets
import select
import socket
import time
from collections.abc import Sequence
from typing import Final

from services.dns_filter.message import MAX_MESSAGE, TC, read_header
from services.dns_filter.query import Query, answers, emit_upstream
from services.dns_filter.upstreams.tcp import TcpTransport
from services.dns_filter.upstreams.upstream import OnMismatch, UpstreamError, reason_of

FIRST_WAIT: Final = 0.3
"""The share of the time there is after which a datagram is taken for lost and sent again: 1.5 of 5 s."""

_LOOK: Final = 0.05  # seconds between looks at who has waited for too long
_BURST: Final = 64  # answers in one turn of the loop
_KIND: Final = int(socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)


class UdpTransport:
    """One resolver over UDP; what was truncated is asked again over TCP."""

    def __init__(self, label: str, addresses: Sequence[str], port: int, on_mismatch: OnMismatch) -> None:
        self.label = label
        self._addresses = list(addresses)
        self._preferred = 0
        """Index of the address that answered last."""
        self._port = port
        self._on_mismatch = on_mismatch
        self._tcp = TcpTransport(label, addresses, port, on_mismatch)
        self._poller: _Poller | None = None

    async def ask(self, query: Query, patience: float) -> bytes:
        """See Transport."""
        ends_at = time.monotonic() + patience
        first = self._preferred
        try:
            octets = await self._attempt(self._addresses[first], query, patience * FIRST_WAIT)
        except UpstreamError as error:
            if not error.silent and len(self._addresses) == 1:
                raise
            second = (first + 1) % len(self._addresses)
            octets = await self._attempt(self._addresses[second], query, ends_at - time.monotonic())
            self._preferred = second
        if read_header(octets).flags & TC:
            return await self._tcp.ask(query, ends_at - time.monotonic())
        return octets

    async def prepare(self) -> None:
        """Nothing is slow here."""

    async def close(self) -> None:
        """Close the connection for what was truncated; each attempt closes its own socket."""
        await self._tcp.close()
        if self._poller is not None:
            self._poller.close()
            self._poller = None

    async def _attempt(self, address: str, query: Query, patience: float) -> bytes:
        try:
            return await self._exchange(address, query, patience)
        except TimeoutError:
            raise UpstreamError(f"no answer within {patience:.1f} s", silent=True) from None
        except OSError as error:
            raise UpstreamError(reason_of(error)) from None

    async def _exchange(self, address: str, query: Query, patience: float) -> bytes:
        """The answer; raises TimeoutError and OSError."""
        poller = self._poller
        if poller is None:
            poller = self._poller = _Poller()
        # The class behind socket.socket: what that adds costs as much again as the system calls.
        sock = socket.SocketType(socket.AF_INET6 if ":" in address else socket.AF_INET, _KIND)
        try:
            # Connected: the kernel drops what comes from elsewhere, tells of refusals, and picks a port at random.
            sock.connect((address, self._port))
            exchange = _Exchange(sock, query, time.monotonic() + patience, self._on_mismatch)
            poller.add(sock.fileno(), exchange)
            sock.send(emit_upstream(query, exchange.query_id))
            return await exchange.answer
        finally:
            poller.remove(sock.fileno())
            sock.close()


class _Exchange:
    """One question sent, and whatever comes back on its socket."""

    def __init__(self, sock: socket.SocketType, query: Query, deadline: float, on_mismatch: OnMismatch) -> None:
        self.query_id = secrets.randbits(16)
        self.answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self.deadline = deadline
        self._socket = sock
        self._query = query
        self._on_mismatch = on_mismatch

    def give_up(self) -> None:
        if not self.answer.done():
            self.answer.set_exception(TimeoutError())

    def readable(self) -> None:
        while not self.answer.done():
            try:
                octets = self._socket.recv(MAX_MESSAGE)
            except BlockingIOError:
                return
            except OSError as error:
                self.answer.set_exception(error)
                return
            if answers(self._query, self.query_id, octets):
                self.answer.set_result(octets)
            else:
                self._on_mismatch()


class _Poller:
    """Who waits on which socket, and until when: one descriptor and one timer of the loop for all.

    The loop's own for each cost more than the rest of an exchange.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._epoll = select.epoll()
        self._exchanges: dict[int, _Exchange] = {}
        self._looking = False
        self._loop.add_reader(self._epoll.fileno(), self._ready)

    def add(self, descriptor: int, exchange: _Exchange) -> None:
        self._exchanges[descriptor] = exchange
        self._epoll.register(descriptor, select.EPOLLIN)
        if not self._looking:
            self._looking = True
            self._loop.call_later(_LOOK, self._look)

    def remove(self, descriptor: int) -> None:
        """It is closed next, which takes it away from the kernel's list."""
        self._exchanges.pop(descriptor, None)

    def close(self) -> None:
        self._loop.remove_reader(self._epoll.fileno())
        self._epoll.close()

    def _ready(self) -> None:
        for descriptor, _ in self._epoll.poll(0, _BURST):
            # While a child that was just forked has its copy, the kernel's list has a socket that was closed.
            exchange = self._exchanges.get(descriptor)
            if exchange is not None:
                exchange.readable()

    def _look(self) -> None:
        now = time.monotonic()
        wait = _LOOK
        for exchange in self._exchanges.values():
            left = exchange.deadline - now
            if left <= 0.0:
                exchange.give_up()
            elif left < wait:
                wait = left  # who asked gives up soon after, and could not say then who was silent
        self._looking = bool(self._exchanges)
        if self._looking:
            self._loop.call_later(wait, self._look)
