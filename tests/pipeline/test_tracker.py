"""The real tracker process, spoken to over its links by a dns_filter and a forwarder of the test's own."""

import asyncio
import os
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgpack
import pytest
import zmq

from netstack.wire.bus import Bus
from netstack.wire.messages import (
    VERSION,
    Check,
    Forbid,
    Join,
    Joined,
    Learn,
    Learned,
    LeaseChange,
    Message,
    Revoke,
    Revoked,
    Sample,
    Several,
    Touch,
    TraceHop,
    Verdict,
    pack,
)
from netstack.wire.topology import Topology
from tests.services.tracker.redis_server import RedisServer

WITHIN = 10.0  # seconds for anything that should happen
TCP = 6
CLIENT = bytes([10, 0, 0, 2])
WEB = bytes([198, 18, 0, 1])
SIBLING = bytes([198, 18, 0, 2])
OTHER = bytes([198, 18, 0, 3])


class World:
    """One tracker process, and those who talk to it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.topology = Topology(directory / "test")
        self.topology.directory.mkdir(mode=0o700)
        self._bus = Bus(asyncio.get_running_loop())
        self._heard: asyncio.Queue[Message] = asyncio.Queue()
        self.changes: asyncio.Queue[LeaseChange] = asyncio.Queue()
        self.events: asyncio.Queue[Message] = asyncio.Queue()
        self._samples = 0
        self.process: asyncio.subprocess.Process | None = None
        # They connect before there is anything to connect to, as after a restart of the tracker.
        self._peer = self._bus.peer(self.topology.whitelist, "tcp_fwd-1", self._hears, high_water=0)
        self._bus.subscriber(self.topology.changes, [b""], lambda topic, change: self.changes.put_nowait(change))

    async def start(self, *settings: str) -> None:
        path = self._directory / "notify"
        path.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.setblocking(False)
            notify.bind(str(path))
            arguments = ["--worker", "tracker-1", "--run-dir", str(self._directory), "--instance", "test"]
            for setting in settings:
                arguments += ["-s", setting]
            self.process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "services.tracker", *arguments, env={**os.environ, "NOTIFY_SOCKET": str(path)}
            )
            said = await asyncio.wait_for(asyncio.get_running_loop().sock_recv(notify, 1024), WITHIN)
        assert said == b"READY=1\nX_NETSTACK_WORKER=tracker-1\n"

    async def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return await asyncio.wait_for(self.process.wait(), WITHIN)

    async def kill(self) -> None:
        self.process.kill()
        await self.process.wait()

    async def close(self) -> None:
        if self.process is not None and self.process.returncode is None:
            await self.kill()
        self._bus.close()

    def _hears(self, message: Message) -> None:
        for each in message.messages if isinstance(message, Several) else [message]:
            self._heard.put_nowait(each)

    def say(self, message: Message) -> None:
        self._peer.send(message)

    async def hear(self) -> Message:
        return await asyncio.wait_for(self._heard.get(), WITHIN)

    async def ask(self, message: Message) -> Message:
        self.say(message)
        return await self.hear()

    async def learn(self, name: str, *addresses: bytes, ttl: int = 60, trace_id: int = 0) -> Learned:
        learned = await self.ask(Learn(1, name, list(addresses), ttl, CLIENT, trace_id, []))
        assert isinstance(learned, Learned)
        return learned

    async def check(self, address: bytes, port: int = 443, trace_id: int = 0) -> Verdict:
        verdict = await self.ask(Check(2, CLIENT, address, port, TCP, trace_id))
        assert isinstance(verdict, Verdict)
        return verdict

    async def change(self) -> LeaseChange:
        return await asyncio.wait_for(self.changes.get(), WITHIN)

    async def follow(self) -> None:
        """Until changes are heard: a subscription has no acknowledgement."""
        while self.changes.empty():
            await self.ask(Revoke(3, "203.0.113.99"))
            await asyncio.sleep(0.01)
        await self.quiet()

    async def quiet(self) -> None:
        await asyncio.sleep(0.05)
        while not self.changes.empty():
            self.changes.get_nowait()

    def listen(self, topic: bytes) -> None:
        self._bus.subscriber(self.topology.events_out, [topic], lambda _, event: self.events.put_nowait(event))

    async def sample(self) -> Sample:
        """What `netstack status` would get."""
        self._samples += 1
        self.listen(b"sample.%d" % self._samples)
        sample = await asyncio.wait_for(self.events.get(), WITHIN)
        assert isinstance(sample, Sample)
        return sample


@pytest.fixture
def directory():
    path = Path(tempfile.mkdtemp(prefix="netstack-"))  # pytest's own are too long for a Unix socket
    yield path
    shutil.rmtree(path)


@pytest.fixture
def run(directory: Path) -> Callable[[Callable[[World], Awaitable[None]]], None]:
    async def main(story: Callable[[World], Awaitable[None]]) -> None:
        world = World(directory)
        try:
            await story(world)
        finally:
            await world.close()

    return lambda story: asyncio.run(main(story))


@pytest.fixture
def redis(directory: Path):
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed: apt-get install redis-server")
    server = RedisServer(directory)
    yield server
    server.kill()


def test_learn_check_touch_revoke(run) -> None:
    async def story(world: World) -> None:
        await world.start()
        await world.follow()
        joined = await world.ask(Join(VERSION, "tcp_fwd", "tcp_fwd-1", 0))
        assert isinstance(joined, Joined)
        assert joined.version == VERSION
        assert (await world.check(WEB)).reason == "not-whitelisted"
        assert await world.learn("www.example", WEB, SIBLING) == Learned(1, True, "", 240, 300.0)
        assert (await world.change())[:3] == ([WEB, SIBLING], ["www.example"] * 2, 300.0)
        verdict = await world.check(WEB)
        assert verdict[1:4] == (True, "", ["www.example"])
        world.say(Touch([SIBLING]))
        assert set((await world.change()).addresses) == {WEB, SIBLING}
        assert await world.ask(Revoke(9, "www.example")) == Revoked(9, 2)
        change = await world.change()
        assert (set(change.addresses), change.expires_in) == ({WEB, SIBLING}, 0.0)
        assert (await world.check(WEB)).reason == "not-whitelisted"
        assert await world.stop() == 0

    run(story)


def test_events_of_every_process_pass_through_it_and_its_own_too(run) -> None:
    async def story(world: World) -> None:
        await world.start()
        world.listen(b"trace")
        while world.events.empty():
            await world.learn("www.example", WEB, trace_id=77)
            await asyncio.sleep(0.01)
        hop = await world.events.get()
        assert isinstance(hop, TraceHop)
        assert (hop.trace_id, hop.stage, hop.event) == (77, "tracker", "learned")
        assert hop.detail == "www.example 1 addresses"

    run(story)


def test_garbage_on_its_link_is_counted_and_it_goes_on(run) -> None:
    frames = [
        b"",
        b"\xc1",
        b"\x00" * 100,
        os.urandom(1000),
        msgpack.packb([99]),
        msgpack.packb([11, "many", "wrong", "types"]),
        msgpack.packb({"kind": 11}),
        msgpack.packb([13, 1, b"", b"\x01\x02\x03", 443, 6, 0]),
        pack(Check(1, CLIENT, b"", 443, TCP, 0)),
        pack(Verdict(1, True, "", [], float("nan"), 0)),
    ]

    async def story(world: World) -> None:
        await world.start()
        context = zmq.Context()
        dealer = context.socket(zmq.DEALER)
        dealer.connect(world.topology.whitelist)
        for frame in frames:
            dealer.send(frame)
        dealer.send_multipart([b"two", b"parts"])
        dealer.send(pack(Join(VERSION, "udp_fwd", "udp_fwd-1", 0)))
        assert dealer.poll(WITHIN * 1000)
        dealer.recv()
        dealer.close(linger=0)
        context.term()
        sample = await world.sample()
        assert sample.drops == {"malformed-frame": len(frames) + 1}
        assert (await world.learn("www.example", WEB)).ok

    run(story)


def test_killed_and_started_anew_it_is_found_again_and_says_that_it_is_another(run) -> None:
    async def story(world: World) -> None:
        await world.start()
        first = await world.ask(Join(VERSION, "tcp_fwd", "tcp_fwd-1", 0))
        await world.learn("www.example", WEB)
        await world.kill()
        await world.start()
        second = await world.ask(Join(VERSION, "tcp_fwd", "tcp_fwd-1", 0))
        assert first.instance != second.instance
        assert second.epoch >= first.epoch
        # What it had leased was in its journal, and nothing is allowed that it does not know.
        verdict = await world.check(WEB)
        assert (verdict.allowed, verdict.names) == (True, ["www.example"])
        assert (await world.check(OTHER)).reason == "not-whitelisted"
        await world.follow()
        await world.learn("www.example", WEB)
        assert (await world.change()).addresses == [WEB]

    run(story)


def test_what_was_revoked_stays_so_in_the_tracker_after_this_one(run) -> None:
    async def story(world: World) -> None:
        await world.start()
        await world.learn("www.example", WEB, SIBLING)
        assert await world.ask(Revoke(1, "198.18.0.1")) == Revoked(1, 1)
        await world.ask(Forbid(2, "ads.example", 0.0))
        await world.kill()
        await world.start()
        assert (await world.check(WEB)).reason == "not-whitelisted"
        assert (await world.check(SIBLING)).allowed
        assert (await world.learn("www.ads.example", OTHER)).reason == "name-denied"

    run(story)


def test_a_hundred_thousand_leases(run) -> None:
    block = 1000

    async def story(world: World) -> None:
        await world.start()
        addresses = [bytes([198, 18, 0, 0])[:1] + number.to_bytes(3, "big") for number in range(100_000)]
        for at in range(0, len(addresses), block):
            world.say(Learn(at, f"{at}.example", addresses[at : at + block], 60, CLIENT, 0, []))
        for _ in range(0, len(addresses), block):
            learned = await world.hear()
            assert isinstance(learned, Learned)
            assert learned.ok
        sample = await world.sample()
        assert sample.gauges == {"leases": 100_000, "names": 100, "asked": 0, "learned": 100}
        assert (await world.check(addresses[-1])).allowed

    run(story)


def test_leases_in_redis_outlive_the_tracker(run, redis: RedisServer) -> None:
    redis.start()
    store = f"whitelist.store={redis.url}"

    async def story(world: World) -> None:
        await world.start(store)
        await world.learn("www.example", WEB)
        await world.kill()
        await world.start(store)
        verdict = await world.check(WEB)
        assert verdict[1:4] == (True, "", ["www.example"])
        assert verdict.expires_in <= 300
        assert await world.stop() == 0

    run(story)


def test_without_redis_it_is_ready_says_so_allows_nothing_and_heals(run, redis: RedisServer) -> None:
    async def story(world: World) -> None:
        await world.start(f"whitelist.store={redis.url}")
        assert await world.learn("www.example", WEB) == Learned(1, False, "tracker-down", 240)
        assert (await world.check(WEB)).reason == "tracker-down"
        assert "redis.sock cannot be reached" in (await world.sample()).notes[0]
        redis.start()
        while not (await world.learn("www.example", WEB)).ok:
            await asyncio.sleep(0.02)
        assert (await world.check(WEB)).allowed
        assert (await world.sample()).notes == []
        redis.kill()
        assert not (await world.learn("other.example", OTHER)).ok
        assert (await world.check(WEB)).allowed
        assert (await world.check(OTHER)).reason == "tracker-down"
        assert await world.stop() == 0

    run(story)
