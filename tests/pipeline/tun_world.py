"""A tun_io process whose TUN is a socket of packets, with workers that say only what the test makes them say."""

import asyncio
import itertools
import socket
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import ClassVar

import zmq

from netstack.packet import tcp
from netstack.packet.flow import Flow, tcp_key
from netstack.wire.arena import LARGE, SLOT, Arena
from netstack.wire.lending import Lending
from netstack.wire.messages import (
    VERSION,
    Astray,
    Bye,
    Closed,
    Drain,
    Fence,
    FromTun,
    Heartbeat,
    Hello,
    Message,
    Opened,
    Packets,
    ToTun,
    Traced,
    Welcome,
    WhoAreYou,
)
from netstack.wire.partner import Partner
from services.tcp_fwd.segment import Emitter
from tests.pipeline import world as worlds
from tests.pipeline.world import CLIENT, WITHIN, ServiceWorld

SERVER = bytes([198, 18, 0, 1])
BEAT = 0.5  # seconds
_NUMBERS = itertools.count()


class World(ServiceWorld):
    """One tun_io process, the client's end of its TUN, and its workers."""

    stage: ClassVar[str] = "tun_io"
    worker: ClassVar[str] = "tun_io-1"

    def __init__(self, run_dir: Path) -> None:
        super().__init__(run_dir)
        # Like a device it keeps the boundaries of packets; the test holds both ends, as the supervisor holds the TUN.
        self.client, self._tun = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.client.setblocking(False)
        self.spare: tuple[int, ...] = ()
        """Descriptors of the TUN's spare queues, to be handed over with it."""
        self._workers: list[Worker] = []
        self._strangers: list[zmq.Socket[bytes]] = []

    async def start(self, *settings: str, prefix: tuple[str, ...] = ()) -> None:
        """Start the process; it is ready when all three stages have joined."""
        ours, theirs = socket.socketpair()
        with ours, theirs:
            number = theirs.fileno()
            await self.launch(settings, "--tun-fd", str(number), prefix=prefix, descriptors=(number,))
            socket.send_fds(ours, [b"T"], [self._tun.fileno(), *self.spare])

    async def stop(self) -> None:
        for worker in self._workers:
            worker.beats = False
        for stranger in self._strangers:
            stranger.close(linger=0)
        try:
            await super().stop()
        finally:
            self.client.close()
            self._tun.close()

    async def join(
        self, name: str, *, version: int = VERSION, flows: tuple[bytes, ...] = (), shares: bool = True
    ) -> "Worker":
        """A worker joins; its stage is the first part of its name."""
        worker = Worker(self, name, version, flows)
        worker.shares = shares
        self._workers.append(worker)
        worker.hello()
        await self.until(lambda: worker.welcomed)
        return worker

    async def up(self) -> "tuple[Worker, Worker, Worker]":
        """One worker of each stage: dns_filter, tcp_fwd, udp_fwd."""
        dns = await self.join("dns_filter-1")
        tcp_worker = await self.join("tcp_fwd-1")
        udp_worker = await self.join("udp_fwd-1")
        await self.ready()
        return dns, tcp_worker, udp_worker

    async def send(self, *frames: bytes) -> None:
        for frame in frames:
            await asyncio.wait_for(asyncio.get_running_loop().sock_sendall(self.client, frame), WITHIN)

    async def written(self) -> bytes:
        """The next packet written to the TUN."""
        return await asyncio.wait_for(asyncio.get_running_loop().sock_recv(self.client, 1 << 17), WITHIN)

    def nothing_written(self) -> bool:
        try:
            self.client.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        return False

    def raw(self, name: str, *frames: bytes) -> None:
        """Send what need be no message."""
        dealer = self._events.socket(zmq.DEALER)
        dealer.identity = name.encode()
        dealer.connect(self.topology.packets)
        for octets in frames:
            dealer.send(octets)
        self._strangers.append(dealer)  # one that closed now would take with it what tun_io has not read yet


class Worker:
    """A worker's end of the packets link."""

    def __init__(self, one: World, name: str, version: int, flows: tuple[bytes, ...]) -> None:
        self.name = name
        self.stage = name.rpartition("-")[0]
        self.pid = 1
        self._version = version
        self.flows = list(flows)
        self.beats = True
        self.welcomed = 0
        self.batches: list[FromTun] = []
        """What has come from the TUN; what lay in shared memory was copied out of it."""
        self.fences: list[tuple[int, int]] = []
        """Those that came back, each with the number of packets that came before it."""
        self.references: list[list[int]] = []
        self.shares = True
        self.keeps = False
        """What is lent to it is not given back."""
        self._directory = one.topology.directory
        self._arena = Arena(self._directory / f"arena-{name}-{next(_NUMBERS)}", 16)
        self._lending = Lending(1000)
        self._partner: Partner | None = None
        self.arena = ""
        """The name of tun_io's."""
        self.peer = one._bus.peer(one.topology.packets, name, self._heard)
        self._loop = asyncio.get_running_loop()
        self._loop.call_later(BEAT, self._beat)

    @property
    def packets(self) -> list[bytes]:
        """What has come from the TUN, in order."""
        return [packet for batch in self.batches for packet in batch.packets]

    def hello(self) -> None:
        arena = self._arena.path.name if self.shares else ""
        self.peer.send(Hello(self._version, self.stage, self.name, self.pid, self.flows, arena))

    def write(self, *packets: bytes, traced: Traced | None = None) -> None:
        self._say([self._lend(packet) or packet for packet in packets], traced or [])

    def _lend(self, packet: bytes) -> list[int] | None:
        slot = self._arena.take() if self.shares and LARGE <= len(packet) <= SLOT else None
        if slot is None:
            return None
        slot.view[: len(packet)] = packet
        self._lending.lend(slot)
        return [slot.position, len(packet)]

    def _say(self, packets: Packets, traced: Traced) -> None:
        lending = self._lending
        self.peer.send(ToTun(self._loop.time(), packets, traced, lending.lent, 0 if self.keeps else lending.borrowed))

    @property
    def lent(self) -> int:
        """Slots of its own that tun_io has not given back."""
        return self._lending.outstanding

    def refer(self, *references: list[int]) -> None:
        """Have packets written that lie, or do not lie, in its arena."""
        self._say(list(references), [])

    def look(self, reference: list[int]) -> bytes:
        """What lies there now."""
        return bytes(self._partner.packet(reference))

    def close_flows(self, *keys: bytes) -> None:
        self.peer.send(Closed(list(keys)))

    def open_flows(self, *keys: bytes) -> None:
        """It took them from a queue of its own."""
        self.peer.send(Opened(list(keys)))

    def pass_on(self, *frames: bytes) -> None:
        """They came to a queue of its own, and are not its to deal with."""
        self.peer.send(Astray(list(frames)))

    def stop_reading(self) -> None:
        self._loop.remove_reader(self.peer.socket.fd)
        self.peer._drain = lambda: None

    def read_on(self) -> None:
        del self.peer._drain
        self._loop.add_reader(self.peer.socket.fd, self.peer._drain)
        self.peer._scheduled = False
        self.peer._recheck()

    def drain(self) -> None:
        self.peer.send(Drain(self.name))

    def bye(self) -> None:
        self.beats = False
        self.peer.send(Bye(self.name))

    def die(self) -> None:
        """The process is gone without a word."""
        self.beats = False
        self.peer.close()

    def _heard(self, message: Message) -> None:
        if isinstance(message, FromTun):
            lent = [packet for packet in message.packets if type(packet) is list]
            self.references += lent
            whole = [bytes(self._partner.packet(one)) if type(one) is list else one for one in message.packets]
            self._lending.borrowed = message.lent
            self._lending.returned(message.returned)
            if whole:
                self.batches.append(message._replace(packets=whole))
            if lent and not self.keeps:
                self._say([], [])
        elif isinstance(message, Welcome):
            self.arena = message.arena
            self._partner = Partner(self._directory, message.arena) if message.arena else None
            self.welcomed += 1
        elif isinstance(message, WhoAreYou) and self.beats:
            self.hello()
        elif isinstance(message, Fence):
            self.fences.append((message.number, len(self.packets)))

    def _beat(self) -> None:
        if self.beats:
            self.peer.send(Heartbeat(self.name))
            self._loop.call_later(BEAT, self._beat)


def run(scenario: Callable[[World], Coroutine[None, None, None]], *settings: str) -> None:
    worlds.play(World, scenario, *settings)


def segment(flags: int, client_port: int = 40000, data: bytes = b"") -> bytes:
    """A frame of the client's TCP, to port 80 of SERVER."""
    return Emitter(Flow(tcp.PROTOCOL, SERVER, 80, CLIENT, client_port), 1460).emit(1000, 2000, flags, 0xFFFF, data)


def key(client_port: int = 40000) -> bytes:
    """Of the flow of that segment."""
    return tcp_key(CLIENT, client_port, SERVER, 80)
