"""A tcp_fwd process between a tun_io and a tracker of the test's own, clients of one segment at a time, and servers."""

import asyncio
import hashlib
import socket
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import ClassVar, Self

import pytest

from netstack.packet import frame, icmp, tcp
from netstack.packet.flow import Flow, tcp_key
from netstack.packet.seqnum import MASK, diff
from netstack.wire.messages import Closed, Opened
from services.tcp_fwd.segment import Emitter, Segment, parse
from tests.pipeline import world as worlds
from tests.pipeline.own_world import OwnQueue
from tests.pipeline.world import CLIENT, CLIENT_V6, LOOPBACK, LOOPBACK_V6, WITHIN, ForwarderWorld

ISN = 0xFFFFF000  # of every client; the circle is crossed within the first few segments
SCALE = 7  # of the client's windows
LARGE = 60000  # octets of a segment that the kernel would have cut
OWN_WINDOW = 1000 << SCALE  # of clients whose packets wait in a queue that holds a few


class World(ForwarderWorld):
    """One tcp_fwd process."""

    stage: ClassVar[str] = "tcp_fwd"
    worker: ClassVar[str] = "tcp_fwd-1"

    def __init__(self, run_dir: Path) -> None:
        super().__init__(run_dir)
        self.clients: dict[bytes, Client] = {}

    def deliver(self, packet: bytes, trace_id: int) -> None:
        if frame.parse(packet).protocol != tcp.PROTOCOL:
            super().deliver(packet, trace_id)
            return
        segment = parse(packet)
        self.clients[segment.key].segments.put_nowait((segment, trace_id))

    async def over(self, client: "Client") -> None:
        """The client's flow is over, and tun_io knows."""
        await self.until(lambda: Closed([client.key]) in self.said)

    def client(self, port: int, *, server: bytes = LOOPBACK, client_port: int = 40000) -> "Client":
        return Client(self, server, port, client_port)


class OwnWorld(OwnQueue, World):
    """One tcp_fwd process that has a queue of its own: what is not traced goes through that, both ways."""

    async def over(self, client: "Client") -> None:
        while (await self.sample()).gauges["flows"]:
            pass
        told = [message for message in self.said if isinstance(message, Opened | Closed)]
        assert Opened([client.key]) not in told or Closed([client.key]) in told

    def client(self, port: int, *, server: bytes = LOOPBACK, client_port: int = 40000) -> "Client":
        one = super().client(port, server=server, client_port=client_port)
        one.window = OWN_WINDOW
        return one


class Client:
    """A client's TCP that does nothing by itself but keep count."""

    def __init__(self, one: World, server: bytes, port: int, client_port: int) -> None:
        address = CLIENT if len(server) == 4 else CLIENT_V6
        self.key = tcp_key(address, client_port, server, port)
        self.segments: asyncio.Queue[tuple[Segment, int]] = asyncio.Queue()
        self.seq = ISN
        self.ack = 0
        self.window = 0xFFFF << SCALE
        self.acknowledged = ISN
        self.peer_window = 0
        self.ended = False
        """The server's FIN was received in order."""
        self._one = one
        # What is towards a client from a server for the emitter is from this client to the server.
        self._emitter = Emitter(Flow(tcp.PROTOCOL, server, port, address, client_port), 1460)
        one.clients[tcp_key(server, port, address, client_port)] = self

    def frame(self, flags: int, data: bytes = b"", *, seq: int | None = None) -> bytes:
        window = min(self.window, 0xFFFF) if flags & tcp.SYN else self.window >> SCALE
        options = tcp.emit_options(tcp.Options(mss=1460, window_scale=SCALE)) if flags & tcp.SYN else b""
        number = self.seq if seq is None else seq
        return self._emitter.emit(number & MASK, self.ack, flags, window, data, options)

    def send(self, flags: int = tcp.ACK, data: bytes = b"", *, seq: int | None = None, trace_id: int = 0) -> None:
        """Send one segment; without a seq of its own it is the next one."""
        self._one.send(self.frame(flags, data, seq=seq), trace_id=trace_id)
        if seq is None:
            self.seq = (self.seq + len(data) + bool(flags & tcp.SYN) + bool(flags & tcp.FIN)) & MASK

    def syn(self, trace_id: int = 0) -> Self:
        self.send(tcp.SYN, trace_id=trace_id)
        return self

    async def receive(self) -> tuple[Segment, int]:
        """The next segment whatever it is, and its trace id."""
        segment, trace_id = await asyncio.wait_for(self.segments.get(), WITHIN)
        if segment.flags & tcp.ACK and diff(segment.ack, self.acknowledged) >= 0:
            self.acknowledged = segment.ack
            self.peer_window = segment.window << (0 if segment.flags & tcp.SYN else SCALE)
        return segment, trace_id

    async def synchronized(self) -> Self:
        """Take the SYN-ACK and acknowledge it."""
        segment, _ = await self.receive()
        assert segment.flags == tcp.SYN | tcp.ACK
        assert segment.ack == self.seq
        self.ack = (segment.seq + 1) & MASK
        self.send()
        return self

    async def connect(self) -> Self:
        return await self.syn().synchronized()

    async def reset(self) -> Segment:
        """The RST; what comes before it is passed over."""
        while True:
            segment, _ = await self.receive()
            if segment.flags & tcp.RST:
                return segment

    async def read(self, octets: int = 1 << 40) -> bytes:
        """So many octets of what the server sends, or all until it ends; what has come is acknowledged at once."""
        got = bytearray()
        while len(got) < octets and not self.ended:
            segment, _ = await self.receive()
            assert not segment.flags & tcp.RST
            self._take(segment, got)
        return bytes(got)

    def _take(self, segment: Segment, got: bytearray) -> None:
        behind = diff(self.ack, segment.seq)
        assert behind >= 0, "a hole in what was sent"
        if segment.length <= behind:
            if segment.length and self.segments.empty():
                self.send()  # it was sent again
            return
        fresh = segment.payload[behind:]
        got += fresh
        self.ended = bool(segment.flags & tcp.FIN)
        self.ack = (self.ack + len(fresh) + self.ended) & MASK
        if self.ended or self.segments.empty():
            self.send()

    async def write(self, data: bytes) -> None:
        """Send within the window that was offered, and wait until all of it is acknowledged."""
        left = memoryview(data)
        while left or self.acknowledged != self.seq:
            room = self.peer_window - diff(self.seq, self.acknowledged)
            size = min(len(left), room, LARGE)
            if size > 0:
                self.send(tcp.ACK | tcp.PSH, bytes(left[:size]))
                left = left[size:]
            else:
                await self.receive()

    async def answers(self) -> None:
        """Everything sent so far has been dealt with: a keep-alive is acknowledged (RFC 9293 section 3.8.4)."""
        self.send(tcp.ACK, seq=self.seq - 1)
        await self.receive()


class Server:
    """A listening TCP socket on loopback, and the connections it accepts."""

    def __init__(self, host: str = "127.0.0.1", *, backlog: int = 16, buffer: int | None = None) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_STREAM)
        if buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        self.socket.setblocking(False)
        self.socket.bind((host, 0))
        self.socket.listen(backlog)
        self.port = self.socket.getsockname()[1]
        self._accepted: list[socket.socket] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for one in [self.socket, *self._accepted]:
            one.close()

    async def accept(self) -> "Accepted":
        accepted, _ = await asyncio.wait_for(asyncio.get_running_loop().sock_accept(self.socket), WITHIN)
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._accepted.append(accepted)
        return Accepted(accepted)


class Accepted:
    """The server's end of a connection."""

    def __init__(self, accepted: socket.socket) -> None:
        self.socket = accepted
        self.socket.setblocking(False)

    async def read(self, octets: int = 1 << 40) -> bytes:
        """So many octets, or all until the client ends."""
        loop = asyncio.get_running_loop()
        got = bytearray()
        while len(got) < octets:
            data = await asyncio.wait_for(loop.sock_recv(self.socket, min(octets - len(got), 1 << 20)), WITHIN)
            if not data:
                break
            got += data
        return bytes(got)

    async def write(self, data: bytes) -> None:
        await asyncio.wait_for(asyncio.get_running_loop().sock_sendall(self.socket, data), WITHIN)

    def nothing(self) -> bool:
        """Whether nothing has come that is not read."""
        try:
            return not self.socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True

    def stuff(self, data: bytes) -> int:
        """Write what fits now; how many octets that was."""
        try:
            return self.socket.send(data)
        except BlockingIOError:
            return 0


def run(
    scenario: Callable[[World], Coroutine[None, None, None]],
    *settings: str,
    prefix: tuple[str, ...] = (),
    kind: type[World] = World,
) -> None:
    worlds.play(kind, scenario, *settings, prefix=prefix)


BOTH_WAYS = pytest.mark.parametrize("kind", [World, OwnWorld], ids=["through tun_io", "own queue"])
"""For what must not depend on the way that packets go."""


async def pair(one: World, server: Server, client_port: int = 40000) -> tuple[Client, Accepted]:
    """A connection: its client's and its server's end."""
    address = LOOPBACK_V6 if server.socket.family == socket.AF_INET6 else LOOPBACK
    client = await one.client(server.port, server=address, client_port=client_port).connect()
    return client, await server.accept()


def digest(octets: bytes) -> str:
    """What large payloads are compared by: the difference of two would take minutes to print."""
    return hashlib.sha256(octets).hexdigest()


def unreachable(octets: bytes) -> tuple[bytes, int, int, bytes]:
    """Source, type, code and quote of an ICMP error of either version."""
    whole = frame.parse(octets)
    assert whole.protocol in {icmp.PROTOCOL, icmp.PROTOCOL_V6}
    message = octets[whole.upper : whole.end]
    return whole.source, message[0], message[1], message[8:]
