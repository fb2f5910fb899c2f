"""A transfer both ways through the translator's connection, over a link of a given quality."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from netstack.packet import tcp, vnet
from netstack.packet.flow import Flow
from services.tcp_fwd.commands import Command, Emit, Finish, ShutdownWrite, Write
from services.tcp_fwd.connection import Connection
from services.tcp_fwd.limits import Buffers
from services.tcp_fwd.segment import Emitter, parse
from services.tcp_fwd.states import HOST_SENDS
from tests.sim.client import MSS, Client, cut
from tests.sim.link import Clock, Link, Quality

FLOW = Flow(tcp.PROTOCOL, bytes([10, 0, 0, 2]), 40000, bytes([198, 18, 0, 1]), 80)
BACK = Flow(tcp.PROTOCOL, FLOW.server, FLOW.server_port, FLOW.client, FLOW.client_port)


@cache
def octets(size: int, seed: int) -> bytes:
    return random.Random(seed).randbytes(size)


class Host:
    """The far end behind the translator's host socket: sends `download`, takes what is written, closes when told."""

    def __init__(self, clock: Clock, download: bytes, expected: bytes, rate: float | None = None) -> None:
        """rate is the octets a second that it takes; None means at once."""
        self.clock = clock
        self.download = memoryview(download)
        self.sent = 0
        self.expected = memoryview(expected)
        self.taken = 0
        self.garbled = False
        self.shut_at: float | None = None
        self.finished: Finish | None = None
        self.connection: Connection | None = None
        self.link: Link | None = None
        self._rate = rate
        self._free_at = 0.0
        self._timer: float | None = None

    def receive(self, frame: bytes) -> None:
        segment = parse(frame)
        now = self.clock.now
        if self.connection is None:
            if not segment.flags & tcp.SYN:
                return
            buffers = Buffers(256 << 20)
            self.connection = Connection(segment, Emitter(FLOW, MSS), iss=0xFFFFFFF0, now=now, buffers=buffers)
            self.do(self.connection.verdict(None))
            self.do(self.connection.socket_connected(now))
        else:
            self.do(self.connection.receive_segment(segment, now))
        self.settle()

    def do(self, commands: Sequence[Command]) -> None:
        for command in commands:
            if isinstance(command, Emit):
                self._emit(command)
            elif isinstance(command, Write):
                self._write(command.data)
            elif isinstance(command, ShutdownWrite):
                self.shut_at = self.clock.now
            elif isinstance(command, Finish):
                assert self.finished is None
                self.finished = command
                if self.shut_at is None and not command.reason:  # closing the socket tells the far end of the end, too
                    self.shut_at = self.clock.now

    def _emit(self, command: Emit) -> None:
        gso_size = vnet.parse(command.head)[3]
        frame = command.head + command.payload
        header = len(command.head) - vnet.VNET_LEN
        for one in cut(frame, gso_size):
            self.link.send(one, header + len(one.payload))

    def _write(self, data: memoryview) -> None:
        size = len(data)
        if self.expected[self.taken : self.taken + size] != data:
            self.garbled = True
        self.taken += size
        if self._rate is None:
            self.do(self.connection.socket_took(size))
            return
        self._free_at = max(self._free_at, self.clock.now) + size / self._rate
        self.clock.call_at(self._free_at, self._took, size)

    def _took(self, size: int) -> None:
        self.do(self.connection.socket_took(size))
        self.settle()

    def settle(self) -> None:
        connection, now = self.connection, self.clock.now
        self.do(connection.flush(now))
        while self.sent < len(self.download) and (room := connection.room(now)):
            data = self.download[self.sent : self.sent + min(room, connection.emitter.max_payload)]
            self.sent += len(data)
            self.do(connection.socket_data(data, now))
        if self.sent == len(self.download) and not connection.host_ended and connection.state in HOST_SENDS:
            self.do(connection.socket_ended(now))
        when = connection.next_timeout()
        if when is not None and (self._timer is None or when < self._timer):
            self._timer = when
            self.clock.call_at(when, self._fire, when)

    def _fire(self, when: float) -> None:
        if self._timer == when:
            self._timer = None
        wanted = self.connection.next_timeout()
        if wanted is not None and wanted <= self.clock.now:
            self.do(self.connection.handle_timeout(self.clock.now))
        self.settle()


@dataclass
class Outcome:
    arrived: bool
    client: Client
    host: Host
    down: Link
    up: Link

    def goodput(self, size: int) -> tuple[float, float]:
        """Octets a second of the download and of the upload, until the last had arrived."""
        return size / self.client.download_ended_at, size / (self.host.shut_at or 1e9)

    def __repr__(self) -> str:
        return (
            f"{self.host.connection} {self.host.taken} up, {self.client.received} down, at {self.host.clock.now:.1f} s"
        )


def transfer(
    quality: Quality, *, seed: int = 1, size: int = 300_000, window: int = 4 << 20, options: bool = True,
    rate: float | None = None, limit: float = 7200.0,
) -> Outcome:  # fmt: skip
    """Send `size` octets each way at the same time, and close."""
    clock = Clock()
    upload, download = octets(size, 1), octets(size, 2)
    client = Client(clock, Emitter(BACK, MSS), upload, download, window=window, options=options)
    host = Host(clock, download, upload, rate)
    down = Link(clock, quality, seed + 1, client.receive)
    up = Link(clock, quality, seed + 2, host.receive)
    host.link, client.send = down, up.send
    client.open()
    arrived = clock.run(lambda: client.done and host.shut_at is not None, limit=limit)
    return Outcome(arrived, client, host, down, up)
