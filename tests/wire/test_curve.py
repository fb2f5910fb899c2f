"""Keys, and sockets that other hosts can reach: who has no key can neither say nor hear anything."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import zmq

from netstack.wire.bus import Bus
from netstack.wire.curve import Curve, new_secret, public_of
from netstack.wire.messages import Heartbeat, Revoked, pack
from netstack.wire.proxy import EventsProxy
from tests.inbox import Inbox

SERVER, CLIENT, STRANGER = (new_secret() for _ in range(3))
GATEWAY = Curve(SERVER, peers={public_of(CLIENT): "web2"})
WORKER = Curve(CLIENT, public_of(SERVER))
ANY_PORT = "tcp://127.0.0.1:*"


@contextmanager
def bus(curve: Curve | None) -> Iterator[Bus]:
    opened = Bus(asyncio.get_running_loop(), curve=curve)
    try:
        yield opened
    finally:
        opened.close(linger=0)


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(30):
            await scenario()

    asyncio.run(main())


def endpoint(socket: "zmq.Socket[bytes]") -> str:
    """Where it was bound last, with the port that it got."""
    return socket.last_endpoint.rstrip(b"\0").decode()


async def until_logged(caplog: pytest.LogCaptureFixture, text: str) -> None:
    while text not in caplog.text:
        await asyncio.sleep(0.005)


def test_a_public_key_belongs_to_its_secret_one() -> None:
    assert public_of(SERVER) == public_of(SERVER) != public_of(CLIENT)
    assert WORKER.public == public_of(CLIENT)
    assert len(SERVER) == len(WORKER.public) == 32


def test_a_secret_is_not_shown() -> None:
    assert repr(CLIENT) not in repr(WORKER)
    assert CLIENT.hex() not in repr(WORKER)


def test_one_hub_serves_this_host_without_keys_and_others_with_theirs(tmp_path: Path) -> None:
    async def scenario() -> None:
        with bus(GATEWAY) as near, bus(WORKER) as far:
            heard, at_local, at_far = Inbox(), Inbox(), Inbox()
            hub = near.hub((f"ipc://{tmp_path}/x", ANY_PORT), heard)
            near.peer(f"ipc://{tmp_path}/x", "local", at_local).send(Heartbeat("local"))
            far.peer(endpoint(hub.socket), "far", at_far).send(Heartbeat("far"))
            assert sorted(await heard.until(2)) == [(b"far", Heartbeat("far")), (b"local", Heartbeat("local"))]
            assert hub.send(b"far", Revoked(1, 2))
            assert hub.send(b"local", Revoked(3, 4))
            assert await at_far.until(1) == [Revoked(1, 2)]
            assert await at_local.until(1) == [Revoked(3, 4)]

    run(scenario)


@pytest.mark.parametrize(
    ("curve", "server_says", "client_says"),
    [
        pytest.param(
            Curve(STRANGER, public_of(SERVER)), f"its public key {public_of(STRANGER).hex()} is not in links.peers",
            "it does not know our key", id="with a key that is not known",
        ),
        pytest.param(None, "shows no key", "it wants a key", id="without a key"),
        pytest.param(
            Curve(CLIENT, public_of(STRANGER)), "takes us for another host", "links.server_key is not its public key",
            id="with another server's key",
        ),
    ],
)  # fmt: skip
def test_who_has_not_the_right_keys_says_nothing_and_hears_nothing(
    caplog: pytest.LogCaptureFixture, curve: Curve | None, server_says: str, client_says: str
) -> None:
    async def scenario() -> None:
        with bus(GATEWAY) as near, bus(WORKER) as far, bus(curve) as other:
            heard, at_far, at_other = Inbox(), Inbox(), Inbox()
            hub = near.hub((ANY_PORT,), heard)
            news = near.publisher((ANY_PORT,), bind=True)
            other.peer(endpoint(hub.socket), "far", at_other).send(Heartbeat("forged"))
            other.subscriber(endpoint(news.socket), [b""], at_other)
            await until_logged(caplog, server_says)
            await until_logged(caplog, client_says)
            far.peer(endpoint(hub.socket), "far", at_far).send(Heartbeat("far"))
            far.subscriber(endpoint(news.socket), [b"news"], at_far)
            assert await heard.until(1) == [(b"far", Heartbeat("far"))]
            while not news.wants(b"news"):
                await asyncio.sleep(0.005)
            assert news.topics == {b"news"}, "nor does anybody else's subscription count"
            news.publish(b"news", Revoked(1, 2))
            assert await at_far.until(1) == [(b"news", Revoked(1, 2))]
            assert heard.items == [(b"far", Heartbeat("far"))]
            assert at_other.items == []
            for secret in (SERVER, CLIENT, STRANGER):
                assert secret.hex() not in caplog.text

    caplog.set_level(logging.DEBUG)
    run(scenario)


def test_the_events_link_is_closed_to_strangers_too(tmp_path: Path) -> None:
    async def scenario() -> None:
        port = _free_port()
        places = [
            (f"ipc://{tmp_path}/{name}", f"tcp://127.0.0.1:{port + number}") for number, name in ((0, "i"), (1, "o"))
        ]
        proxy = EventsProxy(places[0], places[1], GATEWAY)
        with bus(None) as here, bus(WORKER) as far, bus(Curve(STRANGER, public_of(SERVER))) as other:
            heard, overheard = Inbox(), Inbox()
            other.subscriber(places[1][1], [b""], overheard)
            here.subscriber(places[1][0], [b"news"], heard)
            forger = other.publisher(places[0][1])
            for publisher in (far.publisher(places[0][1]), here.publisher(places[0][0])):
                while not publisher.wants(b"news"):
                    await asyncio.sleep(0.005)
                publisher.publish(b"news", Revoked(1, 2))
            assert await heard.until(2) == [(b"news", Revoked(1, 2))] * 2
            assert not forger.topics
            assert overheard.items == []
        proxy.stop()

    run(scenario)


def test_without_somebody_who_decides_nobody_comes_in() -> None:
    async def scenario() -> None:
        with bus(GATEWAY) as near:
            hub = near.hub((ANY_PORT,), Inbox())
            near._doorman.stop()
            context: zmq.Context[Any] = zmq.Context()
            with context.socket(zmq.DEALER) as dealer:
                dealer.curve_publickey, dealer.curve_secretkey = WORKER.public, WORKER.secret
                dealer.curve_serverkey, dealer.linger = WORKER.server, 0
                events = dealer.get_monitor_socket(zmq.EVENT_CONNECTED | zmq.EVENT_HANDSHAKE_SUCCEEDED)
                dealer.connect(endpoint(hub.socket))
                dealer.send(pack(Heartbeat("far")))
                assert events.poll(5000)
                events.recv_multipart()
                assert not events.poll(300), "the connection is there, the handshake is not"
                dealer.disable_monitor()
                events.close()
            context.term()

    run(scenario)


def _free_port() -> int:
    """The first of two ports in a row that nobody has."""
    with zmq.Context() as context, context.socket(zmq.PULL) as one:
        return one.bind_to_random_port("tcp://127.0.0.1", 20000, 30000)
