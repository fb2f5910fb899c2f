"""Upstream resolvers of the tests' own, on loopback."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from services.dns_filter.framing import frame

Respond = Callable[[bytes], list[bytes]]
"""What comes back for one query: messages in order, or none."""


class UdpServer(asyncio.DatagramProtocol):
    def __init__(self, respond: Respond) -> None:
        self.respond = respond
        self.asked: list[bytes] = []
        self.ports: list[int] = []
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        assert self._transport is not None
        self.asked.append(data)
        self.ports.append(addr[1])
        for octets in self.respond(data):
            self._transport.sendto(octets, addr)


class TcpServer:
    """Answers what comes on its connections; `cut` makes it close one after so many queries."""

    def __init__(self, respond: Respond) -> None:
        self.respond = respond
        self.asked: list[bytes] = []
        self.connections = 0
        self.cut = 0
        self.writers: set[asyncio.StreamWriter] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.writers.add(writer)
        taken = 0
        try:
            while True:
                length = int.from_bytes(await reader.readexactly(2), "big")
                octets = await reader.readexactly(length)
                self.asked.append(octets)
                taken += 1
                for message in self.respond(octets):
                    writer.write(frame(message))
                if taken == self.cut:
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            self.writers.discard(writer)
            writer.close()


@asynccontextmanager
async def udp_server(respond: Respond, port: int = 0) -> AsyncIterator[tuple[UdpServer, int]]:
    transport, server = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: UdpServer(respond), local_addr=("127.0.0.1", port)
    )
    try:
        yield server, transport.get_extra_info("sockname")[1]
    finally:
        transport.close()


@asynccontextmanager
async def tcp_server(respond: Respond, port: int = 0) -> AsyncIterator[tuple[TcpServer, int]]:
    handler = TcpServer(respond)
    server = await asyncio.start_server(handler.serve, "127.0.0.1", port)
    try:
        yield handler, server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for writer in list(handler.writers):
            writer.close()
        await asyncio.sleep(0)


def silent(_: bytes) -> list[bytes]:
    return []
