"""The far side of the packets link for a tunnel, with and without shared memory; the test plays tun_io."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from netstack.runtime.config import Config
from netstack.runtime.service import Runtime
from netstack.runtime.tunnel import Tunnel
from netstack.wire.arena import Arena
from netstack.wire.bus import Bus
from netstack.wire.lending import Lending
from netstack.wire.messages import (
    VERSION,
    Hello,
    Message,
    ToTun,
    Welcome,
)
from netstack.wire.partner import Partner
from netstack.wire.topology import Topology
from tests.inbox import Inbox

WORKER = "udp_fwd-1"
KEY = bytes(6)


class TunIo:
    """What the far side of the link hears and says."""

    def __init__(self, bus: Bus, topology: Topology) -> None:
        self.heard = Inbox()
        self.hub = bus.hub(topology.packets, self.heard)

    def say(self, message: Message) -> None:
        assert self.hub.send(WORKER.encode(), message)


@asynccontextmanager
async def tun_io(run_dir: Path) -> AsyncIterator[TunIo]:
    bus = Bus(asyncio.get_running_loop())
    try:
        yield TunIo(bus, Topology(run_dir))
    finally:
        bus.close(linger=0)


@asynccontextmanager
async def worker(
    run_dir: Path, on_batch: Callable[[list[bytes], dict[int, int]], None] | None = None, **callbacks: Any
) -> AsyncIterator[tuple[Tunnel, Runtime]]:
    runtime = Runtime("udp_fwd", WORKER, Config(), Topology(run_dir))
    yield Tunnel(runtime, on_batch or Inbox(), **callbacks), runtime
    runtime.stop()
    runtime.bus.close(linger=0)


def run(test: Callable[[Path], Awaitable[None]]) -> Callable[[Path], None]:
    """A test that is a coroutine."""

    def wrapper(run_dir: Path) -> None:
        asyncio.run(test(run_dir))  # type: ignore[arg-type]

    wrapper.__name__, wrapper.__doc__ = test.__name__, test.__doc__
    return wrapper


class Sharing(TunIo):
    """A far side that has an arena of its own, and looks into the worker's."""

    def __init__(self, bus: Bus, topology: Topology) -> None:
        super().__init__(bus, topology)
        self.directory = topology.directory
        self.arena = Arena(topology.directory / "arena-tun_io", 4)
        self.lending = Lending(50)

    def refer(self, octets: bytes) -> list[int]:
        slot = self.arena.take()
        assert slot is not None
        slot.view[: len(octets)] = octets
        self.lending.lend(slot)
        return [slot.position, len(octets)]

    def packets(self, arena: str) -> list[bytes]:
        """All that was written, wherever it lies."""
        partner = Partner(self.directory, arena)
        all_of_them = [packet for batch in self.heard.of(ToTun) for packet in batch.packets]
        return [bytes(partner.packet(one)) if isinstance(one, list) else one for one in all_of_them]


@asynccontextmanager
async def sharing(
    run_dir: Path, *, views: bool = False, **arguments: Any
) -> AsyncIterator[tuple[Sharing, Tunnel, str]]:
    """A tunnel and a tun_io that see each other's arenas; and the name of the worker's."""
    bus = Bus(asyncio.get_running_loop())
    welcomed = Inbox()
    try:
        far = Sharing(bus, Topology(run_dir))
        async with worker(run_dir, on_welcome=lambda: welcomed("welcome"), views=views, **arguments) as (link, _):
            hello = await far.heard.first(Hello)
            far.say(Welcome(VERSION, WORKER, 1500, far.arena.path.name))
            await welcomed.until(1)
            yield far, link, hello.arena
    finally:
        bus.close(linger=0)
