"""Queries over UDP from clients that ask this host itself."""

import asyncio
import socket
from collections.abc import Callable, Coroutine

import pytest

from netstack.runtime.counters import Counters
from netstack.runtime.listening import open_listeners
from services.dns_filter.listener import UdpListener
from services.dns_filter.queries import Client
from tests.runtime.test_listening import unused

WITHIN = 5.0  # seconds


class World:
    """A listener whose queries wait until the test answers them, and a client."""

    def __init__(self, listen: str, port: int) -> None:
        self.port = port
        self.counters = Counters()
        self.asked: asyncio.Queue[tuple[bytes, Client]] = asyncio.Queue()
        udp, tcp = open_listeners([f"{listen}:{port}"])
        tcp.close()
        self.listener = UdpListener(udp, self._query, self.counters)

    def _query(self, octets: bytes, client: Client) -> bool:
        self.asked.put_nowait((octets, client))
        return True

    async def next(self) -> tuple[bytes, Client]:
        return await asyncio.wait_for(self.asked.get(), WITHIN)


def client_to(address: str, port: int) -> socket.socket:
    """Connected: the kernel gives it only what comes from the address that it asked."""
    sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
    sock.setblocking(False)
    sock.connect((address, port))
    return sock


def play(listen: str, story: Callable[[World], Coroutine[None, None, None]]) -> World:
    async def main() -> World:
        world = World(listen, unused())
        try:
            await asyncio.wait_for(story(world), WITHIN)
        finally:
            world.listener.close()
        return world

    return asyncio.run(main())


@pytest.mark.parametrize(
    ("listen", "address", "packed"),
    [
        ("0.0.0.0", "127.0.0.1", bytes([127, 0, 0, 1])),
        ("0.0.0.0", "127.9.9.9", bytes([127, 0, 0, 1])),
        ("127.0.0.3", "127.0.0.3", bytes([127, 0, 0, 1])),
        ("[::]", "::1", bytes(15) + b"\x01"),
    ],
    ids=["any address", "any other one of the host's", "one", "any IPv6 address"],
)
def test_answer_comes_from_the_address_that_was_asked(listen: str, address: str, packed: bytes) -> None:
    async def story(world: World) -> None:
        with client_to(address, world.port) as sock:
            loop = asyncio.get_running_loop()
            await loop.sock_sendall(sock, b"question")
            octets, client = await world.next()
            assert octets == b"question"
            assert client.port == sock.getsockname()[1]
            assert client.udp
            if address in ("127.0.0.1", "::1"):
                assert client.address == packed
            client.reply(b"answer")
            assert await loop.sock_recv(sock, 100) == b"answer"

    world = play(listen, story)
    counters = world.counters
    assert (counters.packets_in, counters.octets_in, counters.packets_out, counters.octets_out) == (1, 8, 1, 6)


def test_more_than_a_query_may_have_is_seen_as_too_long() -> None:
    async def story(world: World) -> None:
        with client_to("127.0.0.1", world.port) as sock:
            sock.send(bytes(9000))
            assert len((await world.next())[0]) == 4097

    play("127.0.0.1", story)


def test_client_that_is_gone_harms_nobody() -> None:
    async def story(world: World) -> None:
        with client_to("127.0.0.1", world.port) as sock:
            sock.send(b"one")
            _, client = await world.next()
        client.reply(b"nobody hears this")
        with client_to("127.0.0.1", world.port) as sock:
            sock.send(b"two")
            assert (await world.next())[0] == b"two"

    play("127.0.0.1", story)


def test_what_cannot_be_sent_is_counted() -> None:
    async def story(world: World) -> None:
        with client_to("127.0.0.1", world.port) as sock:
            sock.send(b"one")
            _, client = await world.next()
            client.reply(bytes(65536))

    assert play("127.0.0.1", story).counters.drops == {"socket-error": 1}


def test_after_the_listening_ends_answers_still_go_out() -> None:
    async def story(world: World) -> None:
        loop = asyncio.get_running_loop()
        with client_to("127.0.0.1", world.port) as sock:
            sock.send(b"one")
            _, client = await world.next()
            world.listener.stop_listening()
            sock.send(b"two")
            client.reply(b"answer")
            assert await loop.sock_recv(sock, 100) == b"answer"
            assert world.asked.empty()
            world.listener.close()
            client.reply(b"late")

    play("127.0.0.1", story)
