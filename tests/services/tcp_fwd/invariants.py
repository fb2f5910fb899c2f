"""What holds of a connection after every event, whatever came before. Written down once: here.

Towards the client (RFC 9293 section 3.4): what has a length lies within [SND.UNA, SND.NXT), the rest is an
acknowledgement or a probe; SND.UNA only advances; what is acknowledged is never sent again; the octets of a sequence
number never change. The acknowledgement number and the right edge of our window only advance. A SACK tells of what has
been received and nothing else.

From the client: each octet is written once, in order, unchanged; never more waits for the host socket than the
capacity, and nothing out of order beyond the window, nor more than the flow's share; all that is held is counted.

What is unacknowledged has a timer, which is not over: it starts anew with each acknowledgement of something new (RFC
6298 section 5, (5.3)), and when the first unacknowledged octet is sent again; other segments do not put it off.

What is taken by header prediction does what it would do without it, and sets the same timers.

An end: the host socket's sending side is closed when everything up to the client's FIN is written; Finish comes once,
and after it nothing; a closed connection has no timer; before the far end has accepted nothing is sent but a refusal.
"""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Final

from netstack.packet import tcp
from netstack.packet.reason import Reason
from netstack.packet.seqnum import MASK, diff
from services.tcp_fwd.commands import Abort, Command, Connect, Drop, Emit, Finish, ShutdownWrite, Unreachable, Write
from services.tcp_fwd.connection import Connection
from services.tcp_fwd.limits import AHEAD, SHARE, Buffers
from services.tcp_fwd.receiving import BLOCK_COST, MAX_BLOCKS
from services.tcp_fwd.scoreboard import LOST, SACKED
from services.tcp_fwd.segment import Segment, parse
from services.tcp_fwd.send_window import LIMIT, Alarm
from services.tcp_fwd.states import NO_TIMEOUT, State


@dataclass
class Witness:
    """Watches what a connection says and does."""

    connection: Connection
    buffers: Buffers
    """Those of this connection alone."""
    iss: int
    irs: int
    client_octets: Callable[[int, int], bytes]
    """The client's octets from a position on, so many of them."""
    host_octets: Callable[[int, int], bytes]
    written: int = 0
    shut: bool = False
    aborted: bool = False
    finished: bool = False
    connected: bool = False
    now: float = 0.0
    """When the event was that is looked at."""
    una: int = 0
    highest_sent: int = 0
    """The end of what has been sent, relative to iss."""
    last_ack: int | None = None
    right_edge: int | None = None
    largest_window: int = 0xFFFF
    capacity: int = field(init=False)
    """The room of the flow where it has its share."""
    fin_at: int | None = None
    """Where the client's octets end, once it has said so."""
    seen: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.capacity = self.connection.receiver.capacity

    def watch(self, commands: list[Command], now: float) -> None:
        self.now = now
        for command in commands:
            assert not self.finished, "nothing comes after Finish"
            self.seen.append(type(command).__name__)
            match command:
                case Emit():
                    self._sent(parse(command.head + bytes(command.payload)))
                case Write(data=data):
                    assert not self.shut
                    assert data == self.client_octets(self.written, len(data))
                    self.written += len(data)
                case Connect():
                    assert not self.connected
                case ShutdownWrite():
                    assert not self.shut
                    assert self.connection.receiver.pending == 0
                    assert self.written == self.fin_at, "the far end is told of the end when it has everything"
                    self.shut = True
                case Finish(reason):
                    assert reason or self.aborted or self.written == self.fin_at, "an orderly end loses nothing"
                    self.finished = True
                case Drop(reason):
                    assert reason is Reason.OUT_OF_ORDER_LIMIT
                case Abort():
                    self.aborted = True
                case Unreachable():
                    pass
        self.check()

    def _sent(self, one) -> None:
        sender = self.connection.sender
        if one.flags & tcp.RST:
            return
        assert self.connected, "nothing but a refusal before the far end has accepted"
        assert not one.flags & (tcp.ECE | tcp.CWR | tcp.URG)
        assert one.flags & tcp.ACK
        end = (one.seq + one.length) & MASK
        if one.length:
            assert diff(one.seq, sender.snd_una) >= 0, "what is acknowledged is not sent again"
            assert diff(end, sender.snd_nxt) <= 0
            at = diff(one.seq, self.iss) - 1
            assert one.payload == self.host_octets(at, len(one.payload))
            if one.seq == sender.snd_una and at < self.highest_sent and not one.flags & tcp.SYN:
                assert sender.timer == self.now + sender.round_trip.rto, "what is sent again is waited for"
            self.highest_sent = max(self.highest_sent, diff(end, self.iss) - 1)
        else:
            assert diff(one.seq, sender.snd_nxt) in {0, -1}, "an acknowledgement, or a probe"
        for left, right in tcp.parse_options(one.options).sack:
            self._check_sack(left, right, one.ack)
        if self.last_ack is not None:
            assert diff(one.ack, self.last_ack) >= 0, "an acknowledgement is not taken back"
        self.last_ack = one.ack
        if one.flags & tcp.SYN:
            return  # its window is not scaled, and so may not say all of what was offered since
        edge = (one.ack + (one.window << self.connection.receiver.scale)) & MASK
        if self.right_edge is not None:
            assert diff(edge, self.right_edge) > -(1 << self.connection.receiver.scale), "a window is not taken back"
        self.right_edge = edge if self.right_edge is None or diff(edge, self.right_edge) > 0 else self.right_edge

    def _check_sack(self, left: int, right: int, ack: int) -> None:
        """What is reported is a block as it is held, or a duplicate (RFC 2883): some of what has been received."""
        assert diff(right, left) > 0
        if diff(right, ack) <= 0:
            return
        blocks = self.connection.receiver.blocks
        holding = [one for one in blocks if diff(left, one.seq) >= 0 and diff(one.end, right) >= 0]
        assert holding or diff(left, ack) < 0, "what was not received is not acknowledged"

    def check(self) -> None:
        connection = self.connection
        receiver, sender = connection.receiver, connection.sender
        position = diff(sender.snd_una, self.iss)
        assert position >= self.una, "SND.UNA only advances"
        if connection.state not in NO_TIMEOUT and sender.in_flight:
            self._check_timer(advanced=position > self.una)
        self.una = position
        assert 0 <= sender.in_flight <= LIMIT + 2
        assert 0 <= receiver.pending <= self.capacity
        assert 0 <= receiver.edge <= self.capacity
        self._check_blocks()
        self._check_runs()
        timeout = connection.next_timeout()  # the shell asks after each event, which may begin the probing of a window
        if connection.state in {State.CLOSED, State.VERDICT, State.CONNECTING}:
            assert timeout is None, "no timer is left"
        if self.finished:
            assert connection.state in {State.CLOSED, State.TIME_WAIT}
            assert not connection.room()
        assert min(connection.room(), 1 << 30) <= max(sender.snd_wnd, 0)

    def _check_timer(self, *, advanced: bool) -> None:
        sender = self.connection.sender
        assert sender.timer is not None, "what is unacknowledged has a timer"
        assert self.connection.next_timeout() is not None
        assert sender.timer > self.now, "what has run out is dealt with"
        if advanced and sender.alarm is not Alarm.REORDERING:
            lasts = sender.round_trip.probe_after if sender.alarm is Alarm.PROBE_TAIL else sender.round_trip.rto
            assert sender.timer == self.now + lasts, "an acknowledgement of something new starts it anew"

    def _check_blocks(self) -> None:
        receiver = self.connection.receiver
        assert len(receiver.blocks) <= MAX_BLOCKS
        held = sum(len(block.data) + BLOCK_COST for block in receiver.blocks)
        assert receiver.ahead == held == self.buffers.ahead == self.buffers.used
        assert held <= self.buffers.limit // AHEAD // SHARE
        before = 0
        for block in receiver.blocks:
            start = diff(block.seq, receiver.rcv_nxt)
            assert before < start, "there is a hole before each block"
            before = start + len(block.data)
            first = diff(block.seq, self.irs) - 1
            assert block.data == self.client_octets(first, len(block.data))
        assert before <= receiver.edge

    def _check_runs(self) -> None:
        sender = self.connection.sender
        position, absent = sender.snd_una, 0
        for index, run in enumerate(sender.runs):
            start = run.seq
            if index == 0 and diff(start, position) < 0:
                start = position  # trimmed when it is looked at
            assert start == position
            position = run.end
            if run.state & (SACKED | LOST):
                absent += (run.end - start) & MASK
        if sender.runs:
            assert position == sender.snd_nxt
        else:
            assert sender.snd_una == sender.snd_nxt
        assert absent == sender.board.absent
        assert 0 <= sender.inflation <= max(sender.in_flight, 0)
        assert sender.congestion.cwnd > 0


_SENDER: Final = ("snd_una", "snd_nxt", "snd_wnd", "calm", "inflation", "retransmissions", "timer", "alarm")
_RECEIVER: Final = ("rcv_nxt", "edge", "pending", "ts_recent", "now_ack", "ack_due_at", "unacked", "duplicate", "ahead")


def receive(connection: Connection, segment: Segment, now: float) -> list[Command]:
    """Give a connection a segment. If nothing new is acknowledged, the probe of the tail is not put off."""
    sender = connection.sender
    una, timer, alarm = sender.snd_una, sender.timer, sender.alarm
    commands = _as_without_prediction(connection, segment, now)
    if sender.snd_una == una and alarm is sender.alarm is Alarm.PROBE_TAIL and timer is not None:
        assert sender.timer == timer
    return commands


def _plain(command: Command) -> object:
    match command:
        case Write(data=data):
            return "write", data
        case Emit(head=head, payload=payload):
            return "emit", head, payload
    return command


def _as_without_prediction(connection: Connection, segment: Segment, now: float) -> list[Command]:
    """Give an equal one the segment too, which may not predict: both must do the same."""
    if not connection._predicted:
        return list(connection.receive_segment(segment, now))
    unchanging = connection.emitter, connection._terms, *connection.sender.runs
    slow = deepcopy(connection, {id(one): one for one in unchanging})
    slow._predicted = False
    expected = list(slow.receive_segment(segment, now))
    commands = list(connection.receive_segment(segment, now))
    assert list(map(_plain, commands)) == list(map(_plain, expected))
    assert connection.state is slow.state
    assert connection.last_heard == slow.last_heard
    for name in _RECEIVER:
        assert getattr(connection.receiver, name) == getattr(slow.receiver, name), name
    assert [block.data for block in connection.receiver.blocks] == [block.data for block in slow.receiver.blocks]
    for name in _SENDER:
        assert getattr(connection.sender, name) == getattr(slow.sender, name), name
    assert connection.sender.congestion.cwnd == slow.sender.congestion.cwnd
    assert connection.sender.round_trip.rto == slow.sender.round_trip.rto
    return commands
