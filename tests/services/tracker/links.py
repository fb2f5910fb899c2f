"""A tracker in this process, and those who talk to it over its links."""

import asyncio
import shutil
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec

from netstack.runtime.config import Config
from netstack.runtime.service import Runtime
from netstack.wire.bus import Bus
from netstack.wire.messages import (
    VERSION,
    Check,
    Confirmed,
    Join,
    Joined,
    Learn,
    Learned,
    LeaseChange,
    Message,
    Revoke,
    Revoked,
    TraceHop,
    Verdict,
)
from netstack.wire.topology import Topology
from services.tracker.service import start

WITHIN = 10.0  # seconds for one story
TCP = 6
CLIENT = bytes([10, 0, 0, 2])


class Forwarder:
    """Somebody on the whitelist link."""

    def __init__(self, bus: Bus, topology: Topology, name: str) -> None:
        self.heard: asyncio.Queue[Message] = asyncio.Queue()
        self.confirmed: asyncio.Queue[Confirmed] = asyncio.Queue()
        """What comes at each ending beside answers."""
        self._peer = bus.peer(topology.whitelist, name, self._heard)
        self._requests = 0

    def _heard(self, message: Message) -> None:
        if isinstance(message, Confirmed):
            self.confirmed.put_nowait(message)
        else:
            self.heard.put_nowait(message)

    def say(self, message: Message) -> None:
        self._peer.send(message)

    async def hear(self) -> Message:
        return await self.heard.get()

    async def join(self, version: int = VERSION) -> Joined:
        self.say(Join(version, "tcp_fwd", "tcp_fwd-1", 0))
        joined = await self.hear()
        assert isinstance(joined, Joined)
        return joined

    async def learn(
        self,
        name: str,
        *addresses: bytes,
        ttl: int = 60,
        trace_id: int = 0,
        chain: tuple[str, ...] = (),
        client: bytes = CLIENT,
        spare: int = 0,
    ) -> Learned:
        self._requests += 1
        self.say(Learn(self._requests, name, list(addresses), ttl, client, trace_id, list(chain), spare))
        learned = await self.hear()
        assert isinstance(learned, Learned)
        assert learned.request == self._requests
        return learned

    async def check(
        self, address: bytes, port: int = 443, protocol: int = TCP, trace_id: int = 0, client: bytes = CLIENT
    ) -> Verdict:
        self._requests += 1
        self.say(Check(self._requests, client, address, port, protocol, trace_id))
        verdict = await self.hear()
        assert isinstance(verdict, Verdict)
        assert verdict.request == self._requests
        return verdict

    async def revoke(self, target: str) -> int:
        self._requests += 1
        self.say(Revoke(self._requests, target))
        revoked = await self.hear()
        assert isinstance(revoked, Revoked)
        assert revoked.request == self._requests
        return revoked.count


class World:
    """A tracker with its links, and those who talk to it."""

    def __init__(self, directory: Path, settings: dict[str, object]) -> None:
        config = msgspec.convert(settings, Config)
        self.runtime = Runtime("tracker", "tracker-1", config, Topology(directory))
        self.bus = Bus(self.runtime.loop)
        self.changes: asyncio.Queue[LeaseChange] = asyncio.Queue()
        self.hops: asyncio.Queue[TraceHop] = asyncio.Queue()

    async def open(self) -> None:
        await start(self.runtime)
        topology = self.runtime.topology
        self.dns = Forwarder(self.bus, topology, "dns_filter-1")
        self.fwd = Forwarder(self.bus, topology, "tcp_fwd-1")
        self.cmd = Forwarder(self.bus, topology, "command-1")
        self.bus.subscriber(topology.changes, [b""], lambda topic, change: self.changes.put_nowait(change))
        self.bus.subscriber(topology.events_out, [b"trace"], lambda topic, hop: self.hops.put_nowait(hop))
        while not self.runtime.trace.active:
            await asyncio.sleep(0.005)
        # A subscription has no acknowledgement: revoke until that is heard.
        while self.changes.empty():
            await self.dns.revoke("203.0.113.99")
        await asyncio.sleep(0.02)
        while not self.changes.empty():
            self.changes.get_nowait()
        self.runtime.counters.drops.clear()

    async def close(self) -> None:
        for call in reversed(self.runtime.on_stop):
            outcome = call()
            if outcome is not None:
                await outcome
        self.runtime.bus.close()
        self.bus.close()

    @property
    def drops(self) -> dict[str, int]:
        return dict(self.runtime.counters.drops)

    def gauges(self) -> dict[str, int]:
        self.runtime.before_sample()
        return self.runtime.counters.gauges


Story = Callable[[World], Awaitable[None]]


def _keep(own: Path, directory: Path | None) -> None:
    for path in own.iterdir():
        if directory is not None and path.is_file():
            shutil.copy(path, directory)
    shutil.rmtree(own)


def run(story: Story, directory: Path | None = None, **settings: object) -> None:
    """Play a story in a directory of its own, or with the files that an earlier one left in this one."""

    async def main() -> None:
        own = Path(tempfile.mkdtemp(prefix="netstack-"))  # pytest's own are too long for a Unix socket
        if directory is not None:
            shutil.copytree(directory, own, dirs_exist_ok=True)
        world = World(own, settings)
        try:
            await world.open()
            await asyncio.wait_for(story(world), WITHIN)
        finally:
            await world.close()
            _keep(own, directory)

    asyncio.run(main())
