"""A worker with a queue of its own: what goes where, and what tun_io is told."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import zmq

from netstack.packet.reason import Reason
from netstack.runtime import tunnel
from netstack.runtime.config import Config
from netstack.runtime.service import Runtime
from netstack.runtime.tunnel import Tunnel
from netstack.wire.bus import Bus
from netstack.wire.messages import (
    VERSION,
    Astray,
    Closed,
    Heartbeat,
    Hello,
    Opened,
    ToTun,
    Welcome,
    WhoAreYou,
)
from netstack.wire.topology import Topology
from tests.inbox import Inbox
from tests.runtime.tunnel_world import KEY, WORKER, Sharing, run, tun_io, worker


@pytest.fixture(autouse=True)
def short_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tunnel, "HEARTBEAT", 0.05)


class Owning:
    """A worker that has a queue of its own, with a tun_io that shares memory; the test has the queue's far end."""

    def __init__(self, far: Sharing, link: Tunnel, runtime: Runtime, client: socket.socket) -> None:
        self.far = far
        self.link = link
        self.counters = runtime.counters
        self.client = client
        client.setblocking(False)

    async def written(self) -> bytes:
        """The next packet on the own queue."""
        return await asyncio.wait_for(asyncio.get_running_loop().sock_recv(self.client, 1 << 17), 20)

    def nothing_written(self) -> bool:
        try:
            self.client.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        return False


@asynccontextmanager
async def owning(run_dir: Path, on_own: Callable[[list[bytes]], None], **arguments: Any) -> AsyncIterator[Owning]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    bus = Bus(asyncio.get_running_loop())
    topology = Topology(run_dir)
    with ours, theirs, socket.socket(socket.AF_UNIX) as listener:
        listener.setblocking(False)
        listener.bind(str(topology.queues))
        listener.listen()
        far = Sharing(bus, topology)
        try:
            async with worker(run_dir, on_own=on_own, **arguments) as (link, runtime):
                await far.heard.first(Hello)
                far.say(Welcome(VERSION, WORKER, 1500, far.arena.path.name))
                connection, _ = await asyncio.wait_for(asyncio.get_running_loop().sock_accept(listener), 20)
                with connection:
                    socket.send_fds(connection, [b"0"], [theirs.fileno()])
                    async with asyncio.timeout(20):
                        while not link._queue:
                            await asyncio.sleep(0)
                    far.heard.items.clear()
                    yield Owning(far, link, runtime, ours)
                    link._queue.close()
        finally:
            bus.close(linger=0)


@run
async def test_what_is_written_goes_to_the_own_queue_unless_it_is_traced(run_dir: Path) -> None:
    large = bytes(range(256)) * 20
    async with owning(run_dir, Inbox()) as one:
        link = one.link
        slot = link.slot()
        assert slot is not None
        slot.payload[: len(large)] = large
        link.write(b"one")
        link.write_parts(b"head", large)
        link.write_slot(slot, b"head", len(large))
        assert [await one.written() for _ in range(3)] == [b"one", b"head" + large, b"head" + large]
        assert (one.counters.packets_out, one.counters.octets_out) == (3, 3 + 2 * len(b"head" + large))
        link.write(b"one", 7)
        link.write_parts(b"head", b"and more", 8)
        link.write_slot(slot, b"head", len(large), 9)
        batch = await one.far.heard.first(ToTun)
        assert [type(packet) for packet in batch.packets] == [bytes, bytes, list]
        assert batch.packets[:2] == [b"one", b"headand more"]
        assert batch.traced == [[0, 7], [1, 8], [2, 9]]
        assert one.nothing_written()


@run
async def test_a_slot_of_an_arena_before_this_one_is_written_as_it_is(run_dir: Path) -> None:
    async with owning(run_dir, Inbox()) as one:
        slot = one.link.slot()
        assert slot is not None
        slot.view[:] = bytes(len(slot.view))
        slot.payload[:7] = b"payload"
        one.link._arena = one.link._make_arena()
        one.link.write_slot(slot, b"head", 7)
        assert await one.written() == b"headpayload"
        assert bytes(slot.view).count(b"head") == 0, "tun_io may yet read it"


@run
async def test_a_full_queue_drops_and_what_is_no_packet_is_counted(run_dir: Path) -> None:
    async with owning(run_dir, Inbox()) as one:
        one.client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        for _ in range(10_000):
            one.link.write(bytes(1000))
        assert set(one.counters.drops) == {Reason.TUN_FULL.value}
        assert one.counters.packets_out + one.counters.drops[Reason.TUN_FULL.value] == 10_000
        one.client.close()
        one.link.write(b"refused")
        assert one.counters.drops[Reason.MALFORMED_IP.value] == 1
        assert not one.link.congested


@run
async def test_what_comes_to_the_own_queue_is_dealt_with_or_passed_on(run_dir: Path) -> None:
    def deal(packets: list[bytes]) -> None:
        for packet in packets:
            if bytes(packet[:6]) == b"astray":
                one.link.pass_on(packet)
            else:
                one.link.write(packet.upper())

    async with owning(run_dir, deal) as one:
        large = b"astray" + bytes(3000)
        for packet in (b"mine", b"astray", large):
            one.client.send(packet)
        assert await one.written() == b"MINE"
        while sum(len(message.frames) for message in one.far.heard.of(Astray)) < 2:
            await one.far.heard.until(len(one.far.heard.items) + 1)
        assert [frame for message in one.far.heard.of(Astray) for frame in message.frames] == [b"astray", large]
        assert (one.counters.packets_in, one.counters.octets_in) == (3, 10 + len(large))


@run
async def test_a_congested_link_drops_what_is_astray(run_dir: Path) -> None:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    far = context.socket(zmq.ROUTER)
    far.rcvhwm = 1
    far.bind(Topology(run_dir).packets)
    links: list[Tunnel] = []
    async with worker(run_dir, on_own=lambda packets: list(map(links[0].pass_on, packets))) as (link, runtime):
        links.append(link)
        while not link._peer.congested:
            link._own_packets([bytes(60_000)] * 4)
        assert not runtime.counters.drops
        link._own_packets([b"one", b"two"])
        assert runtime.counters.drops == {Reason.QUEUE_FULL.value: 2}
    context.destroy(linger=0)


@run
async def test_a_flow_that_lasts_is_told_of_and_one_that_is_over_before_costs_no_message(run_dir: Path) -> None:
    async with owning(run_dir, Inbox()) as one:
        began = asyncio.get_running_loop().time()
        for key in (b"short", b"lasting", b"other"):
            one.link.opened(key)
        one.link.forget(b"short")
        assert await one.far.heard.first(Opened) == Opened([b"lasting", b"other"])
        assert asyncio.get_running_loop().time() - began >= tunnel.TELL_WITHIN
        one.link.forget(b"lasting")
        assert await one.far.heard.first(Closed) == Closed([b"lasting"])
        await one.far.heard.first(Heartbeat)
        assert len(one.far.heard.of(Opened)) == len(one.far.heard.of(Closed)) == 1


@run
async def test_a_key_that_is_used_again_is_told_as_closed_first(run_dir: Path) -> None:
    async with owning(run_dir, Inbox()) as one:
        one.link.opened(KEY)
        await one.far.heard.first(Opened)
        one.far.heard.items.clear()
        one.link.forget(KEY)
        one.link.opened(KEY)
        one.link._tell_opened()
        await one.far.heard.first(Opened)
        await one.far.heard.first(Heartbeat)
        said = [message for _, message in one.far.heard.items if isinstance(message, Opened | Closed)]
        assert said == [Closed([KEY]), Opened([KEY])]


@run
async def test_what_was_told_with_hello_is_told_as_closed(run_dir: Path) -> None:
    async with owning(run_dir, Inbox(), flows=lambda: [KEY]) as one:
        await one.far.heard.first(Heartbeat)
        one.far.say(WhoAreYou(VERSION))
        one.link.opened(KEY)
        assert (await one.far.heard.first(Hello)).flows == [KEY]
        one.link.forget(KEY)
        assert await one.far.heard.first(Closed) == Closed([KEY])
        assert one.far.heard.of(Opened) == []


@run
async def test_a_worker_without_one_asks_again(run_dir: Path) -> None:
    async with tun_io(run_dir) as far, worker(run_dir, on_own=Inbox()) as (link, _):
        await far.heard.first(Hello)
        far.say(Welcome(VERSION, WORKER, 1500))
        with socket.socket(socket.AF_UNIX) as listener:
            listener.setblocking(False)
            listener.bind(str(Topology(run_dir).queues))
            listener.listen()
            for _ in range(2):
                connection, _ = await asyncio.wait_for(asyncio.get_running_loop().sock_accept(listener), 20)
                connection.close()
        assert not link._queue


@run
async def test_a_worker_on_another_host_asks_for_none(run_dir: Path) -> None:
    runtime = Runtime("tcp_fwd", WORKER, Config(), Topology(run_dir, connect="tcp://127.0.0.1:9"))
    assert Tunnel(runtime, Inbox(), on_own=Inbox())._queue is None
    runtime.stop()
    runtime.bus.close(linger=0)
