"""Whole transfers through the translator's connection over links that lose, reorder, duplicate and delay."""

import hashlib
import random

import pytest

from netstack.packet import tcp
from netstack.packet.flow import Flow
from services.tcp_fwd.commands import Command, Emit, Finish, ShutdownWrite, Write
from services.tcp_fwd.connection import Connection
from services.tcp_fwd.segment import Emitter, parse
from tests.sim.client import MSS, Client
from tests.sim.link import Clock, Link, Quality

FLOW = Flow(tcp.PROTOCOL, bytes([10, 0, 0, 2]), 40000, bytes([198, 18, 0, 1]), 80)
BACK = Flow(tcp.PROTOCOL, FLOW.server, FLOW.server_port, FLOW.client, FLOW.client_port)
OCTETS = 300_000
HOST_RATE = 5e6  # octets a second that the far end takes


class Host:
    """The far end behind the translator's host socket: sends `download`, takes what is written, closes when told."""

    def __init__(self, clock: Clock, download: bytes) -> None:
        self.clock = clock
        self.download = memoryview(download)
        self.taken = bytearray()
        self.shut = False
        self.finished: Finish | None = None
        self.connection: Connection | None = None
        self.to_client = lambda frame: None
        self._queued = 0
        self._timer = None

    def receive(self, frame: bytes) -> None:
        segment = parse(frame)
        if self.connection is None:
            if not segment.flags & tcp.SYN:
                return
            self.connection = Connection(segment, Emitter(FLOW, MSS), iss=0xFFFFFFF0, now=self.clock.now)
            self.do(self.connection.verdict(None))
            self.do(self.connection.socket_connected(self.clock.now))
        else:
            self.do(self.connection.receive_segment(segment, self.clock.now))
        self.settle()

    def do(self, commands: list[Command]) -> None:
        for command in commands:
            if isinstance(command, Emit):
                self.to_client(command.frame)
            elif isinstance(command, Write):
                self.taken += command.data
                self._queued += len(command.data)
                size = len(command.data)
                self.clock.call_at(self.clock.now + self._queued / HOST_RATE, lambda size=size: self._took(size))
            elif isinstance(command, ShutdownWrite):
                self.shut = True
            elif isinstance(command, Finish):
                assert self.finished is None
                self.finished = command

    def settle(self) -> None:
        connection = self.connection
        self.do(connection.flush())
        while self.download and (room := connection.room()):
            data, self.download = self.download[:room][:64240], self.download[min(room, 64240) :]
            self.do(connection.socket_data(bytes(data), self.clock.now))
        if not self.download and not connection.host_ended and connection.state.value in {"established", "close-wait"}:
            self.do(connection.socket_ended(self.clock.now))
        self._arm()

    def _took(self, size: int) -> None:
        self._queued -= size
        self.do(self.connection.socket_took(size))
        self.settle()

    def _arm(self) -> None:
        when = self.connection.next_timeout()
        if when is not None and (self._timer is None or when < self._timer):
            self._timer = when
            self.clock.call_at(when, lambda: self._fire(when))

    def _fire(self, when: float) -> None:
        if self._timer == when:
            self._timer = None
        wanted = self.connection.next_timeout()
        if wanted is not None and wanted <= self.clock.now:
            self.do(self.connection.handle_timeout(self.clock.now))
        self.settle()


def transfer(quality: Quality, seed: int, *, window: int = 256 << 10):
    clock = Clock()
    octets = random.Random(seed).randbytes(OCTETS)
    client = Client(clock, Emitter(BACK, MSS), upload=octets, window=window)
    host = Host(clock, download=octets[::-1])
    down = Link(clock, quality, seed + 1, client.receive)
    up = Link(clock, quality, seed + 2, host.receive)
    host.to_client, client.send = down.send, up.send
    client.open()
    arrived = clock.run(lambda: client.done and host.shut, limit=600.0)
    return arrived, client, host, octets


@pytest.mark.parametrize("delay", [0.001, 0.04], ids=["near", "far"])
@pytest.mark.parametrize(
    "quality",
    [
        {},
        {"reorder": 0.02},
        {"duplicate": 0.05},
        {"loss": 0.01},
        {"loss": 0.05, "reorder": 0.02, "duplicate": 0.02},
    ],
    ids=["a good link", "reordering", "duplicates", "loss of 1 %", "everything at once"],
)
def test_both_directions_arrive_whole(quality, delay):
    arrived, client, host, octets = transfer(Quality(delay=delay, **quality), seed=7)
    assert not client.reset
    assert arrived, f"stuck: {host.connection} {len(host.taken)} up, {len(client.downloaded)} down"
    assert hashlib.sha256(host.taken).digest() == hashlib.sha256(octets).digest()
    assert hashlib.sha256(client.downloaded).digest() == hashlib.sha256(octets[::-1]).digest()


def test_a_client_with_a_small_window_gets_everything():
    arrived, client, host, octets = transfer(Quality(delay=0.002, loss=0.01), seed=3, window=4096)
    assert arrived, f"stuck: {host.connection}"
    assert client.downloaded == octets[::-1]


def test_no_timer_is_left_when_it_is_over():
    _, _, host, _ = transfer(Quality(), seed=1)
    host.clock.run(lambda: False, limit=700.0)
    assert host.finished is not None
    assert host.connection.next_timeout() is None
