"""A Runtime in this process, and the tracker's end of its whitelist link played by the test."""

import asyncio
import shutil
import tempfile
from collections.abc import Callable, Coroutine
from pathlib import Path

from netstack.runtime.config import Config
from netstack.runtime.service import Runtime
from netstack.wire.bus import Bus
from netstack.wire.messages import (
    VERSION,
    Confirm,
    Confirmed,
    Join,
    Joined,
    Learn,
    Learned,
    Message,
    NameRefused,
    NameRules,
    Several,
)
from netstack.wire.topology import Topology

WITHIN = 5.0  # seconds for anything that should happen


class World:
    def __init__(self, directory: Path, config: Config) -> None:
        topology = Topology(directory)
        self.bus = Bus(asyncio.get_running_loop())
        self.hub = self.bus.hub(topology.whitelist, self._heard)
        self.runtime = Runtime("dns_filter", "dns_filter-1", config, topology)
        self.version = VERSION
        self.instance = "one"
        self.acknowledges = True
        self.confirms = True
        self.epoch = 0
        self.lease = 0.0
        """Seconds that it says leases last."""
        self.joins = 0
        self.several: list[list[Message]] = []
        self.learned: asyncio.Queue[Learn] = asyncio.Queue()
        self.refused: asyncio.Queue[NameRefused] = asyncio.Queue()

    async def learn(self) -> Learn:
        return await asyncio.wait_for(self.learned.get(), WITHIN)

    def answer(self, request: int, *, ok: bool = True, reason: str = "", max_ttl: int = 240) -> None:
        assert self.hub.send(b"dns_filter-1", Learned(request, ok, reason, max_ttl, self.lease))

    def join(self) -> None:
        """Greet, as a tracker does that is asked to."""
        assert self.hub.send(b"dns_filter-1", Joined(self.version, self.instance, 0))

    def end(self) -> None:
        """Some lease was ended."""
        self.epoch += 1
        assert self.hub.send(b"dns_filter-1", Confirmed(0.0, self.instance, self.epoch))

    def rule(self, *, allowed: tuple[str, ...] = (), denied: tuple[str, ...] = (), lenient: bool = False) -> None:
        """Say what commands said."""
        assert self.hub.send(b"dns_filter-1", NameRules(list(allowed), list(denied), lenient))

    def _heard(self, identity: bytes, message: Message) -> None:
        if isinstance(message, Join):
            self.joins += 1
            self.join()
        elif isinstance(message, Confirm):
            if self.confirms:
                self.hub.send(b"dns_filter-1", Confirmed(message.asked, self.instance, self.epoch))
        elif isinstance(message, NameRefused):
            self.refused.put_nowait(message)
        elif isinstance(message, Several):
            self.several.append(message.messages)
            for each in message.messages:
                self._heard(identity, each)
        elif isinstance(message, Learn):
            self.learned.put_nowait(message)
            if self.acknowledges:
                self.answer(message.request)


async def until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(WITHIN):
        while not holds():
            await asyncio.sleep(0.001)


def run(story: Callable[[World], Coroutine[None, None, None]], config: Config | None = None) -> None:
    async def play() -> None:
        directory = Path(tempfile.mkdtemp(prefix="ns-"))
        world = World(directory, config or Config())
        try:
            await story(world)
        finally:
            world.runtime.stop()
            world.runtime.bus.close()
            world.bus.close()
            shutil.rmtree(directory)

    asyncio.run(play())
