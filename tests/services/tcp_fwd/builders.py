"""Builders that put a connection in a state, and a client's segments that show only the fields that matter."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from netstack.packet import tcp
from netstack.packet.flow import Flow
from services.tcp_fwd.commands import Command, Emit, Write
from services.tcp_fwd.connection import Connection
from services.tcp_fwd.limits import Buffers
from services.tcp_fwd.segment import Emitter, Segment, parse

FLOW = Flow(tcp.PROTOCOL, bytes([10, 0, 0, 2]), 40000, bytes([198, 18, 0, 1]), 80)
KEY = FLOW.client + FLOW.server + (40000).to_bytes(2, "big") + (80).to_bytes(2, "big")
IRS = 1000  # the client's first sequence number
ISS = 5000  # ours
MSS = 1460

PATTERN = bytes((n * 7 + 1) & 0xFF for n in range(251)) * 10_000


def client_octets(position: int, size: int) -> bytes:
    """What a client that always sends the same sends from a position on."""
    start = position % 251
    return PATTERN[start : start + size]


def host_octets(position: int, size: int) -> bytes:
    """The same of a host."""
    start = (position + 100) % 251
    return PATTERN[start : start + size]


def segment(
    seq: int = IRS + 1, ack: int = ISS + 1, flags: int = tcp.ACK, window: int = 0xFFFF, data: bytes = b"",
    options: bytes = b"", key: bytes = KEY,
) -> Segment:  # fmt: skip
    return Segment(key, seq & 0xFFFFFFFF, ack & 0xFFFFFFFF, flags, window, options, memoryview(data))


def syn(**changes) -> Segment:
    options = tcp.emit_options(tcp.Options(mss=MSS, window_scale=0))
    return segment(**{"seq": IRS, "ack": 0, "flags": tcp.SYN, "options": options, **changes})


@dataclass
class Bench:
    """A connection on the bench: what it said is kept, with its frames taken apart."""

    connection: Connection
    now: float = 0.0
    written: bytearray = field(default_factory=bytearray)
    frames: list[Segment] = field(default_factory=list)
    others: list[Command] = field(default_factory=list)

    def do(self, commands: Sequence[Command]) -> "Bench":
        for command in commands:
            if isinstance(command, Emit):
                self.frames.append(parse(command.head + bytes(command.payload)))
            elif isinstance(command, Write):
                self.written += command.data
            else:
                self.others.append(command)
        return self

    def receive(self, one: Segment) -> "Bench":
        self.do(self.connection.receive_segment(one, self.now))
        return self.do(self.connection.flush(self.now))

    def host_sends(self, data: bytes) -> "Bench":
        return self.do(self.connection.socket_data(data, self.now))

    def host_sends_its_last(self, data: bytes) -> "Bench":
        return self.do(self.connection.socket_last_data(data, self.now))

    def host_ends(self) -> "Bench":
        return self.do(self.connection.socket_ended(self.now))

    def host_takes(self, octets: int) -> "Bench":
        self.do(self.connection.socket_took(octets))
        return self.do(self.connection.flush(self.now))

    def wait(self, seconds: float) -> "Bench":
        """Time passes; every timer that runs out on the way is handled at its time."""
        end = self.now + seconds
        while (due := self.connection.next_timeout()) is not None and due <= end:
            self.now = max(self.now, due)
            self.do(self.connection.handle_timeout(self.now))
            self.do(self.connection.flush(self.now))
        self.now = end
        return self

    def said(self) -> list[tuple[int, int, int, bytes]]:
        """What was sent since the last look: flags, seq relative to ISS, ack relative to IRS, data."""
        frames, self.frames = self.frames, []
        return [
            (one.flags, (one.seq - ISS) & 0xFFFFFFFF, (one.ack - IRS) & 0xFFFFFFFF, bytes(one.payload))
            for one in frames
        ]

    def did(self) -> list[Command]:
        others, self.others = self.others, []
        return others


def waiting(**changes) -> Bench:
    return Bench(Connection(syn(**changes), Emitter(FLOW, MSS), iss=ISS, now=0.0, buffers=Buffers(256 << 20)))


def connecting(**changes) -> Bench:
    bench = waiting(**changes)
    bench.do(bench.connection.verdict(None)).did()
    return bench


def syn_received(**changes) -> Bench:
    bench = connecting(**changes)
    bench.do(bench.connection.socket_connected(0.0)).said()
    return bench


def established(**changes) -> Bench:
    bench = syn_received(**changes).receive(segment())
    assert bench.said() == []
    return bench
