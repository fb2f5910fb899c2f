"""One real service process, with what is around it played by the test: a tun_io and a tracker for a forwarder."""

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import ClassVar, TypeVar

import zmq

from netstack.wire.arena import LARGE, Arena
from netstack.wire.bus import Bus
from netstack.wire.lending import Lending
from netstack.wire.messages import (
    VERSION,
    Check,
    Drain,
    FromTun,
    Heartbeat,
    Hello,
    Join,
    Joined,
    LeaseChange,
    Message,
    Packets,
    Sample,
    ToTun,
    Traced,
    TraceHop,
    Verdict,
    Welcome,
    WhoAreYou,
    unpack,
)
from netstack.wire.partner import Partner
from netstack.wire.topology import Topology

WITHIN = 5.0  # seconds for anything that should happen
CLIENT = bytes([10, 0, 0, 2])
CLIENT_V6 = bytes.fromhex("fd006e73000000000000000000000002")
LOOPBACK = bytes([127, 0, 0, 1])
LOOPBACK_V6 = bytes(15) + b"\x01"
NOBODY = bytes([198, 18, 0, 9])
GATEWAY = bytes([10, 0, 0, 1])


class ServiceWorld:
    """A service's process, and the end of the events link at which commands listen."""

    stage: ClassVar[str]
    worker: ClassVar[str]

    def __init__(self, run_dir: Path) -> None:
        self.topology = Topology(run_dir / "test")
        self.topology.directory.mkdir(mode=0o700)
        self._run_dir = run_dir
        self._log = run_dir / "log"
        self._bus = Bus(asyncio.get_running_loop())
        self._events = zmq.Context()
        self._collector = self._events.socket(zmq.SUB)
        self._collector.bind(self.topology.events_in)
        self._samples: dict[bytes, Sample] = {}
        self._hops: list[TraceHop] = []
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notify.setblocking(False)
        self._notify.bind(str(self.topology.notify))
        self.process: asyncio.subprocess.Process | None = None

    async def launch(
        self, settings: tuple[str, ...], *more: str, prefix: tuple[str, ...] = (), descriptors: tuple[int, ...] = ()
    ) -> None:
        arguments = ["--worker", self.worker, "--run-dir", str(self._run_dir), "--instance", "test", *more]
        for setting in settings:
            arguments += ["-s", setting]
        with self._log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *prefix, sys.executable, "-m", f"services.{self.stage}", *arguments, stderr=log, pass_fds=descriptors,
                env={**os.environ, "NOTIFY_SOCKET": str(self.topology.notify)},
            )  # fmt: skip

    async def ready(self) -> None:
        said = await asyncio.wait_for(asyncio.get_running_loop().sock_recv(self._notify, 1024), WITHIN)
        assert said == f"READY=1\nX_NETSTACK_WORKER={self.worker}\n".encode()

    async def start(self, *settings: str, prefix: tuple[str, ...] = ()) -> None:
        await self.launch(settings, prefix=prefix)
        await self.ready()

    async def ended(self) -> int:
        """The exit code, once the process has ended."""
        assert self.process is not None
        return await asyncio.wait_for(self.process.wait(), WITHIN)

    async def stop(self) -> None:
        try:
            if self.process is not None and self.process.returncode is None:
                self.process.send_signal(signal.SIGTERM)
                assert await self.ended() == 0
        finally:
            print(self.log(), file=sys.stderr)
            self._notify.close()
            self._bus.close()
            self._collector.close(linger=0)
            self._events.term()

    def log(self) -> str:
        """What the process has said on stderr."""
        return self._log.read_text() if self._log.exists() else ""

    async def until(self, holds: Callable[[], object]) -> None:
        async with asyncio.timeout(WITHIN):
            while not holds():
                await asyncio.sleep(0.01)

    async def sample(self) -> Sample:
        topic = b"sample." + os.urandom(4)
        self._collector.subscribe(topic)
        await self.until(lambda: self._collect() and topic in self._samples)
        self._collector.unsubscribe(topic)
        return self._samples[topic]

    async def hops(self, event: str) -> list[TraceHop]:
        """The hops published since the last look, up to and including the first one of that event."""
        await self.until(lambda: self._collect() and any(hop.event == event for hop in self._hops))
        count = 1 + next(index for index, hop in enumerate(self._hops) if hop.event == event)
        found, self._hops = self._hops[:count], self._hops[count:]
        return found

    def _collect(self) -> bool:
        while self._collector.poll(0):
            topic, octets = self._collector.recv_multipart()
            message = unpack(octets)
            if isinstance(message, Sample):
                self._samples[topic] = message
            elif isinstance(message, TraceHop):
                self._hops.append(message)
        return True

    async def trace(self) -> None:
        """Somebody listens to hops from now on: subscriptions take effect in their order."""
        self._collector.subscribe(b"trace")
        await self.sample()


class ForwarderWorld(ServiceWorld):
    """A forwarder's process; what tun_io and the tracker would say to it, and what it said to them."""

    def __init__(self, run_dir: Path) -> None:
        super().__init__(run_dir)
        self._tun = self._bus.hub(self.topology.packets, self._tun_heard)
        self._tracker = self._bus.hub(self.topology.whitelist, self._tracker_heard)
        self._changes = self._bus.publisher(self.topology.changes, bind=True)
        self.allowed = {LOOPBACK, LOOPBACK_V6}
        self.reason = "not-whitelisted"
        self.names: list[str] = []
        """What the addresses that are allowed were the answers for."""
        self.silent = False
        """The tracker keeps its verdicts to itself."""
        self.frames: asyncio.Queue[tuple[bytes, int]] = asyncio.Queue()
        self.said: list[Message] = []
        self.beats = 0
        """Heartbeats, which are not kept."""
        self.flows: list[bytes] | None = None
        self._identity = b""
        self._arena = Arena(self.topology.directory / "arena-tun_io", 16)
        self._lending = Lending(1)
        self._partner: Partner | None = None
        self.shares = True
        """Large packets lie in shared memory, both ways; or travel in messages."""

    async def start(self, *settings: str, prefix: tuple[str, ...] = ()) -> None:
        await super().start(*settings, prefix=prefix)
        await self.until(lambda: self._changes.topics)

    def send(self, *frames: bytes, trace_id: int = 0) -> None:
        """The client sends packets; they arrive as one batch, the first of them traced where trace_id says so."""
        packets = [self._lend(frame) or frame for frame in frames]
        assert self._say(packets, [[0, trace_id]] if trace_id else [])

    def _lend(self, frame: bytes) -> list[int] | None:
        slot = self._arena.take() if self.shares and len(frame) >= LARGE else None
        if slot is None:
            return None
        slot.view[: len(frame)] = frame
        self._lending.lend(slot)
        return [slot.position, len(frame)]

    def _say(self, packets: Packets, traced: Traced) -> bool:
        """False where the link is full; then nothing was said."""
        lending = self._lending
        now = asyncio.get_running_loop().time()
        said = self._tun.send(self._identity, FromTun(now, packets, traced, lending.lent, lending.borrowed))
        if said:
            lending.reported = lending.borrowed
        return said

    def deliver(self, packet: bytes, trace_id: int) -> None:
        """The client receives a packet."""
        self.frames.put_nowait((packet, trace_id))

    def stop_reading(self) -> None:
        """tun_io is behind: its end of the packets link fills up."""
        asyncio.get_running_loop().remove_reader(self._tun.socket.fd)

    def read_on(self) -> None:
        asyncio.get_running_loop().add_reader(self._tun.socket.fd, self._tun._drain)
        self._tun._recheck()

    def ask_who(self) -> None:
        self._tun.send(self._identity, WhoAreYou(VERSION))

    def publish(self, addresses: list[bytes], expires_in: float, *names: str) -> None:
        self._changes.publish(b"", LeaseChange(addresses, list(names), expires_in, 0))

    def answer_all(self) -> None:
        """The tracker gives the verdicts that it kept to itself."""
        self.silent = False
        for message in self.said:
            if isinstance(message, Check):
                self._tracker_heard(self.worker.encode(), message)

    async def frame(self) -> bytes:
        return (await asyncio.wait_for(self.frames.get(), WITHIN))[0]

    def _tun_heard(self, identity: bytes, message: Message) -> None:
        if isinstance(message, Hello):
            self._identity = identity
            self.flows = message.flows
            self._partner = Partner(self.topology.directory, message.arena) if self.shares else None
            name = self._arena.path.name if self.shares else ""
            self._tun.send(identity, Welcome(VERSION, message.worker, 1500, name))
        elif isinstance(message, ToTun):
            traced = dict(message.traced)
            for index, packet in enumerate(message.packets):
                whole = bytes(self._partner.packet(packet)) if type(packet) is list else packet
                self.deliver(whole, traced.get(index, 0))
            self._lending.borrowed = message.lent
            self._lending.returned(message.returned)
            if self._lending.borrowed - self._lending.reported >= 8:
                self._say([], [])  # during a flood there may be no room: then after what comes next
        elif isinstance(message, Heartbeat):
            self.beats += 1
        else:
            self.said.append(message)
            if isinstance(message, Drain):
                self._tun.send(identity, message)

    def _tracker_heard(self, identity: bytes, message: Message) -> None:
        if isinstance(message, Join):
            self._tracker.send(identity, Joined(VERSION, "one", 0))
        elif isinstance(message, Check):
            if self.silent:
                self.said.append(message)
                return
            yes = message.address in self.allowed
            self._tracker.send(
                identity,
                Verdict(message.request, yes, "" if yes else self.reason, self.names, 300.0 if yes else 0.0, 0),
            )
        else:
            self.said.append(message)


One = TypeVar("One", bound=ServiceWorld)


@contextlib.asynccontextmanager
async def world(
    kind: type[One],
    *settings: str,
    prefix: tuple[str, ...] = (),
    before: Callable[[One], None] = lambda _: None,
) -> AsyncIterator[One]:
    run_dir = Path(tempfile.mkdtemp(prefix="ns-"))
    try:
        one = kind(run_dir)
        before(one)
        try:
            await one.start(*settings, prefix=prefix)
            yield one
        finally:
            await one.stop()
    finally:
        shutil.rmtree(run_dir)


def play(
    kind: type[One],
    scenario: Callable[[One], Coroutine[None, None, None]],
    *settings: str,
    prefix: tuple[str, ...] = (),
) -> None:
    async def whole() -> None:
        async with world(kind, *settings, prefix=prefix) as one:
            await scenario(one)

    asyncio.run(whole())
