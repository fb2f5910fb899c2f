"""The real dns_filter process between a tun_io and a tracker of the test's own."""

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

import zmq

from netstack.packet import datagram
from netstack.wire.bus import Bus
from netstack.wire.messages import (
    VERSION,
    Confirm,
    Confirmed,
    FromTun,
    Heartbeat,
    Hello,
    Join,
    Joined,
    Learn,
    Learned,
    Message,
    Sample,
    Several,
    ToTun,
    TraceHop,
    Welcome,
    unpack,
)
from netstack.wire.topology import Topology
from tests.services.dns_filter.messages import respond
from tests.services.dns_filter.servers import Respond, udp_server

WITHIN = 8.0  # seconds for anything that should happen
CLIENT = bytes([10, 0, 0, 2])
RESOLVER = bytes([10, 0, 0, 1])


def cpu_seconds(pid: int) -> float:
    """What a process has used of the CPU, in itself and for it in the kernel (utime and stime of proc_pid_stat(5))."""
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, after_name[11:13])) / os.sysconf("SC_CLK_TCK")


class World:
    """One dns_filter process; what tun_io and the tracker would say to it, and what it said to them, in order."""

    def __init__(self, run_dir: Path) -> None:
        self.topology = Topology(run_dir / "test")
        self.topology.directory.mkdir(mode=0o700)
        self._run_dir = run_dir
        self._bus = Bus(asyncio.get_running_loop())
        self._tun = self._bus.hub(self.topology.packets, self._tun_heard)
        self._tracker = self._bus.hub(self.topology.whitelist, self._tracker_heard)
        self._events = zmq.Context()
        self._collector = self._events.socket(zmq.SUB)
        self._collector.bind(self.topology.events_in)
        self.tracker: str = "ok"
        """What becomes of a Learn: ok, refused, or silent."""
        self.max_ttl = 300
        self.frames: asyncio.Queue[tuple[datagram.Datagram, int]] = asyncio.Queue()
        self.journal: list[str] = []
        """"learn" and "answer", as they happened."""
        self.said: list[Message] = []
        self._identity = b""
        self.process: asyncio.subprocess.Process | None = None
        self.messages = b""
        self.cpu_until_ready = 0.0
        """Seconds of CPU, which others on the machine do not lengthen as they do those of the clock."""

    async def start(self, *settings: str) -> None:
        notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        notify.setblocking(False)
        notify.bind(str(self.topology.notify))
        arguments = ["--worker", "dns_filter-1", "--run-dir", str(self._run_dir), "--instance", "test"]
        for setting in settings:
            arguments += ["-s", setting]
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "services.dns_filter", *arguments, stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "NOTIFY_SOCKET": str(self.topology.notify)},
        )  # fmt: skip
        said = await asyncio.wait_for(asyncio.get_running_loop().sock_recv(notify, 1024), WITHIN)
        self.cpu_until_ready = cpu_seconds(self.process.pid)
        notify.close()
        assert said == b"READY=1\nX_NETSTACK_WORKER=dns_filter-1\n"

    async def stop(self) -> None:
        if self.process is not None and self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
        await self.ended()
        self._bus.close()
        self._collector.close(linger=0)
        self._events.term()
        assert not (self.topology.dns / "dns_filter-1").exists()

    async def ended(self) -> None:
        """The process has ended by itself, in good order."""
        if self.process is not None:
            _, messages = await asyncio.wait_for(self.process.communicate(), WITHIN)
            self.messages += messages or b""
            assert self.process.returncode == 0, self.messages

    def send(
        self, query: bytes, *, client: bytes = CLIENT, port: int = 5000, server: bytes = RESOLVER, trace_id: int = 0
    ) -> None:
        """The client sends a datagram to port 53 of some address."""
        packet = datagram.emit(client, port, server, 53, query)
        self.send_frame(packet, trace_id)

    def send_frame(self, packet: bytes, trace_id: int = 0) -> None:
        now = asyncio.get_running_loop().time()
        assert self._tun.send(self._identity, FromTun(now, [packet], [[0, trace_id]] if trace_id else []))

    async def datagram(self) -> tuple[datagram.Datagram, int]:
        return await asyncio.wait_for(self.frames.get(), WITHIN)

    async def answer(self) -> bytes:
        return (await self.datagram())[0].payloads[0]

    async def query(self, query: bytes, **options: object) -> bytes:
        self.send(query, **options)  # type: ignore[arg-type]
        return await self.answer()

    async def sample(self) -> Sample:
        nonce = os.urandom(4)
        self._collector.subscribe(b"sample." + nonce)
        found: list[Sample] = []
        async with asyncio.timeout(WITHIN):
            while not found:
                while self._collector.poll(0):
                    message = unpack(self._collector.recv_multipart()[1])
                    if isinstance(message, Sample):
                        found.append(message)
                await asyncio.sleep(0.01)
        return found[0]

    async def trace(self) -> None:
        """Somebody listens to hops from now on."""
        self._collector.subscribe(b"trace")
        for _ in range(10):
            self._collector.poll(0)  # the subscription leaves when libzmq is called after the other side has connected
            await asyncio.sleep(0.02)

    async def hops(self, count: int) -> list[TraceHop]:
        found: list[TraceHop] = []
        async with asyncio.timeout(WITHIN):
            while len(found) < count:
                while self._collector.poll(0):
                    message = unpack(self._collector.recv_multipart()[1])
                    assert isinstance(message, TraceHop)
                    found.append(message)
                await asyncio.sleep(0.01)
        return found

    @property
    def learned(self) -> list[Learn]:
        return [message for message in self.said if isinstance(message, Learn)]

    @contextlib.asynccontextmanager
    async def stream(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """What tcp_fwd opens for a client's connection to port 53."""
        reader, writer = await asyncio.open_unix_connection(str(self.topology.dns / "dns_filter-1"))
        writer.write(b"\x04" + CLIENT + (5000).to_bytes(2, "big"))
        try:
            yield reader, writer
        finally:
            writer.close()

    def _tun_heard(self, identity: bytes, message: Message) -> None:
        if isinstance(message, Hello):
            self._identity = identity
            self._tun.send(identity, Welcome(VERSION, message.worker, 1500))
        elif isinstance(message, ToTun):
            traced = dict(message.traced)
            for index, packet in enumerate(message.packets):
                self.journal.append("answer")
                self.frames.put_nowait((datagram.parse(packet), traced.get(index, 0)))
        elif not isinstance(message, Heartbeat):
            self.said.append(message)

    def _tracker_heard(self, identity: bytes, message: Message) -> None:
        if isinstance(message, Join):
            self._tracker.send(identity, Joined(VERSION, "one", 0))
            return
        if isinstance(message, Confirm):
            self._tracker.send(identity, Confirmed(message.asked, "one", 0))
            return
        if isinstance(message, Several):
            for each in message.messages:
                self._tracker_heard(identity, each)
            return
        self.said.append(message)
        if isinstance(message, Learn) and self.tracker != "silent":
            self.journal.append("learn")
            self.acknowledge(message)

    def acknowledge(self, learn: Learn) -> None:
        ok = self.tracker == "ok"
        reason = "" if ok else "whitelist-full"
        self._tracker.send(b"dns_filter-1", Learned(learn.request, ok, reason, self.max_ttl if ok else 0))


Scenario = Callable[[World], Coroutine[None, None, None]]


@contextlib.asynccontextmanager
async def world(*settings: str) -> AsyncIterator[World]:
    run_dir = Path(tempfile.mkdtemp(prefix="ns-"))
    one = World(run_dir)
    try:
        await one.start(*settings)
        yield one
    finally:
        await one.stop()
        shutil.rmtree(run_dir)


def run(scenario: Scenario, answer: Respond, *settings: str) -> World:
    """Play a scenario with one upstream over UDP."""

    async def play() -> World:
        async with udp_server(answer) as (_, port):
            async with world(f'dns.upstreams=["udp://127.0.0.1:{port}"]', *settings) as one:
                await scenario(one)
            return one

    return asyncio.run(play())


def answering(*records: str, **options: object) -> Respond:
    return lambda asked: [respond(asked, *records, **options)]  # type: ignore[arg-type]
