"""DNS over UDP (RFC 1035 section 4.2.1): a socket, a port and an id of its own for each attempt (RFC 5452)."""

import asyncio
import secrets
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

    async def _attempt(self, address: str, query: Query, patience: float) -> bytes:
        try:
            return await self._exchange(address, query, patience)
        except TimeoutError:
            raise UpstreamError(f"no answer within {patience:.1f} s", silent=True) from None
        except OSError as error:
            raise UpstreamError(reason_of(error)) from None

    async def _exchange(self, address: str, query: Query, patience: float) -> bytes:
        """The answer; raises TimeoutError and OSError."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        loop = asyncio.get_running_loop()
        with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
            # Connected: the kernel drops what comes from elsewhere, tells of refusals, and picks a port at random.
            sock.connect((address, self._port))
            exchange = _Exchange(sock, query, loop.create_future(), self._on_mismatch)
            number = sock.fileno()  # the loop would make a text of the socket
            loop.add_reader(number, exchange.readable)
            timer = loop.call_later(patience, exchange.give_up)
            try:
                sock.send(emit_upstream(query, exchange.query_id))
                return await exchange.answer
            finally:
                timer.cancel()
                # Before it is closed: the number is reused at once.
                loop.remove_reader(number)


class _Exchange:
    """One question sent, and whatever comes back on its socket."""

    def __init__(
        self, sock: socket.socket, query: Query, answer: asyncio.Future[bytes], on_mismatch: OnMismatch
    ) -> None:
        self.query_id = secrets.randbits(16)
        self.answer = answer
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
