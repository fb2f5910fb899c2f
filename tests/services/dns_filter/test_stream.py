"""DNS over TCP from clients, on a Unix socket."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from netstack.packet.reason import Reason
from services.dns_filter import stream
from services.dns_filter.framing import frame
from services.dns_filter.queries import Client
from services.dns_filter.stream import MAX_IN_FLIGHT, StreamServer

PREFACE = bytes.fromhex("04 0a000002 c350")  # 10.0.0.2, port 50000
WITHIN = 5.0  # seconds


class World:
    """A server whose queries wait until the test answers them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.asked: asyncio.Queue[tuple[bytes, Client]] = asyncio.Queue()
        self.drops: list[Reason] = []
        self.server = StreamServer(self._query, self.drops.append)

    def _query(self, octets: bytes, client: Client) -> bool:
        if octets == b"silence":
            return False
        if octets == b"at once":
            client.reply(b"done at once")
            return True
        self.asked.put_nowait((octets, client))
        return True

    async def next(self) -> tuple[bytes, Client]:
        return await asyncio.wait_for(self.asked.get(), WITHIN)

    @asynccontextmanager
    async def client(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        reader, writer = await asyncio.open_unix_connection(str(self.path))
        try:
            yield reader, writer
        finally:
            writer.close()


def play(scenario: Callable[[World], Coroutine[None, None, None]], tmp_path: Path) -> None:
    async def main() -> None:
        world = World(tmp_path / "dns" / "dns_filter-1")
        await world.server.listen_at(world.path)
        try:
            await asyncio.wait_for(scenario(world), 2 * WITHIN)
        finally:
            world.server.close()
        assert not world.path.exists()

    asyncio.run(main())


async def message(reader: asyncio.StreamReader) -> bytes:
    length = int.from_bytes(await asyncio.wait_for(reader.readexactly(2), WITHIN), "big")
    return await reader.readexactly(length)


async def ended(reader: asyncio.StreamReader) -> None:
    """The connection ends without another octet; if octets were on their way, by a reset."""
    with contextlib.suppress(ConnectionResetError):
        assert await asyncio.wait_for(reader.read(), WITHIN) == b""


def test_pipelined_queries_are_answered_in_any_order(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        async with world.client() as (reader, writer):
            for octet in PREFACE + frame(b"one") + frame(b"two") + frame(b"silence") + frame(b"at once"):
                writer.write(bytes([octet]))
                await asyncio.sleep(0)
            (first, client), (second, other) = await world.next(), await world.next()
            assert (first, second) == (b"one", b"two")
            assert (client.address, client.port, client.udp) == (bytes([10, 0, 0, 2]), 50000, False)
            assert await message(reader) == b"done at once"
            other.reply(b"to two")
            client.reply(b"to one")
            assert [await message(reader), await message(reader)] == [b"to two", b"to one"]

    play(scenario, tmp_path)


def test_half_closed_connection_gets_its_answers_and_is_then_closed(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        async with world.client() as (reader, writer):
            writer.write(PREFACE + frame(b"one"))
            writer.write_eof()
            _, client = await world.next()
            client.reply(b"to one")
            assert await message(reader) == b"to one"
            assert await asyncio.wait_for(reader.read(), WITHIN) == b""

    play(scenario, tmp_path)


def test_no_more_than_so_many_queries_are_taken_at_once(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        async with world.client() as (reader, writer):
            count = MAX_IN_FLIGHT + 36
            writer.write(PREFACE + b"".join(frame(b"%d" % index) for index in range(count)))
            clients = [(await world.next())[1] for _ in range(MAX_IN_FLIGHT)]
            await asyncio.sleep(0)
            assert world.asked.empty()
            for client in clients:
                client.reply(b"ok")
            for _ in range(count - MAX_IN_FLIGHT):
                (await world.next())[1].reply(b"ok")
            assert [await message(reader) for _ in range(count)] == [b"ok"] * count

    play(scenario, tmp_path)


def test_many_queries_that_are_answered_at_once(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        async with world.client() as (reader, writer):
            writer.write(PREFACE + frame(b"at once") * 3000)
            for _ in range(3000):
                assert await message(reader) == b"done at once"

    play(scenario, tmp_path)


def test_bad_preface_ends_the_connection(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        async with world.client() as (reader, writer):
            writer.write(b"\x07")
            await ended(reader)
        assert world.drops == [Reason.MALFORMED_DNS]

    play(scenario, tmp_path)


def test_connections_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "MAX_CONNECTIONS", 1)

    async def scenario(world: World) -> None:
        async with world.client() as (_, writer):
            writer.write(PREFACE + frame(b"one"))
            await world.next()
            async with world.client() as (second, _):
                await ended(second)
            assert world.drops == [Reason.BUFFER_FULL]
            assert len(world.server.connections) == 1

    play(scenario, tmp_path)


def test_connection_that_asks_nothing_makes_room_for_one_that_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "MAX_CONNECTIONS", 2)

    async def scenario(world: World) -> None:
        async with world.client() as (busy, writer), world.client() as (idle, other):
            writer.write(PREFACE + frame(b"one"))
            _, client = await world.next()
            other.write(PREFACE)
            async with world.client() as (reader, third):
                third.write(PREFACE + frame(b"at once"))
                assert await message(reader) == b"done at once"
                await ended(idle)
            client.reply(b"to one")
            assert await message(busy) == b"to one"
        assert world.drops == [Reason.BUFFER_FULL]

    play(scenario, tmp_path)


def test_idle_connection_is_closed_even_if_it_dribbles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "IDLE", 0.05)

    async def scenario(world: World) -> None:
        async with world.client() as (reader, writer):
            writer.write(PREFACE + b"\x00")
            await ended(reader)
        assert not world.server.connections

    play(scenario, tmp_path)


def test_answer_to_a_connection_that_is_gone_goes_nowhere(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        async with world.client() as (_, writer):
            writer.write(PREFACE + frame(b"one"))
            _, client = await world.next()
            (connection,) = world.server.connections
            connection.abort()
            while world.server.connections:
                await asyncio.sleep(0)
            client.reply(b"late")

    play(scenario, tmp_path)


def test_client_that_does_not_read_is_asked_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "IDLE", 0.3)

    async def scenario(world: World) -> None:
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_UNIX) as client:
            client.setblocking(False)
            await loop.sock_connect(client, str(world.path))
            await loop.sock_sendall(client, PREFACE + frame(b"q") * 60)
            for _ in range(60):
                (await world.next())[1].reply(bytes(65535))
            (connection,) = world.server.connections
            assert not connection.is_writable
            await loop.sock_sendall(client, frame(b"more"))
            while world.server.connections:
                await asyncio.sleep(0.01)
        assert world.asked.empty()

    play(scenario, tmp_path)


def test_socket_that_a_killed_process_left_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "dns" / "dns_filter-1"
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))

    async def scenario(world: World) -> None:
        async with world.client() as (reader, writer):
            writer.write(PREFACE + frame(b"at once"))
            assert await message(reader) == b"done at once"

    play(scenario, tmp_path)


def test_after_the_listening_ends_connections_go_on(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        async with world.client() as (reader, writer):
            writer.write(PREFACE)
            await asyncio.sleep(0.01)
            world.server.stop_listening()
            assert not world.path.exists()
            writer.write(frame(b"at once"))
            assert await message(reader) == b"done at once"

    play(scenario, tmp_path)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_tcp_client_needs_no_preface(tmp_path: Path, host: str) -> None:
    async def scenario(world: World) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listening = socket.create_server((host, 0), family=family)
        await world.server.listen_on(listening)
        reader, writer = await asyncio.open_connection(host, listening.getsockname()[1])
        for octet in frame(b"one") + frame(b"two"):
            writer.write(bytes([octet]))
            await asyncio.sleep(0)
        (_, client), (_, other) = await world.next(), await world.next()
        assert client.address == socket.inet_pton(family, host)
        assert (client.port, client.udp) == (writer.get_extra_info("sockname")[1], False)
        other.reply(b"to two")
        client.reply(b"to one")
        assert [await message(reader), await message(reader)] == [b"to two", b"to one"]
        writer.close()

    play(scenario, tmp_path)
