"""One TCP connection of a client, as a state machine without I/O (RFC 9293).

Theory of operation. This is a translator, not a proxy: towards the client it speaks TCP itself, with the names of the
RFC; towards the world there is an ordinary socket that the shell owns. The client's SYN is answered only after a
verdict, and only after the host socket is connected, so that an application never sees a connection that does not
exist. Before that the connection is in one of two states of ours, VERDICT and CONNECTING, in which nothing is sent.

Each method is one event: something that happened, and when. It changes the state once and returns the commands that the
shell carries out, in order, before the next event. `flush` is called when a burst of events is over; an acknowledgement
that nothing carried leaves then. Both directions close alone: the client's FIN becomes a shutdown of the host socket's
sending side once everything before it is written, and the end of what the host sends becomes our FIN. A reset becomes a
reset, both ways.

Between events the shell asks `room` how much it may read from the host socket.
"""

from enum import Enum
from typing import Final

from netstack.packet import tcp
from netstack.packet.reason import Reason
from netstack.packet.seqnum import MASK, diff
from services.tcp_fwd.commands import Abort, Command, Connect, Emit, Finish, ShutdownWrite, Unreachable, Write
from services.tcp_fwd.receiving import WINDOW_SCALE, Receiver
from services.tcp_fwd.segment import Emitter, Segment
from services.tcp_fwd.sending import MAX_RETRANSMISSIONS, Sender

DELAYED_ACK: Final = 0.005
"""Seconds for an acknowledgement to wait for data that carries it.

RFC 9293 section 3.8.6.3 allows 0.5 and Linux takes 0.04, but only after a number of quick ones: a client with Nagle's
algorithm waits for it between two small writes. A near server's reply comes within this time, a far one's never would.
"""
ACK_EVERY: Final = 2  # full segments; RFC 9293 section 3.8.6.3: at least every second one


class State(Enum):
    """RFC 9293 section 3.3.2, and two before it: waiting for the tracker, and for the host socket."""

    VERDICT = "verdict"
    CONNECTING = "connecting"
    SYN_RECEIVED = "syn-received"
    ESTABLISHED = "established"
    FIN_WAIT_1 = "fin-wait-1"
    FIN_WAIT_2 = "fin-wait-2"
    CLOSE_WAIT = "close-wait"
    CLOSING = "closing"
    LAST_ACK = "last-ack"
    TIME_WAIT = "time-wait"
    CLOSED = "closed"


_CLIENT_SENDS: Final = frozenset({State.ESTABLISHED, State.FIN_WAIT_1, State.FIN_WAIT_2})
HOST_SENDS: Final = frozenset({State.ESTABLISHED, State.CLOSE_WAIT})
_SILENT: Final = frozenset({State.VERDICT, State.CONNECTING, State.SYN_RECEIVED, State.CLOSED})
_AFTER_FIN: Final = {
    State.ESTABLISHED: State.CLOSE_WAIT,
    State.FIN_WAIT_1: State.CLOSING,
    State.FIN_WAIT_2: State.TIME_WAIT,
}


class Connection:
    """The variables of RFC 9293 section 3.3.1, and what the shell must know."""

    __slots__ = (
        "_ack_due_at", "_fin_sent", "_fin_taken", "_irs", "_iss", "_now_ack", "_options", "_shut",
        "_unacked", "emitter", "host_ended", "last_heard", "receiver", "sender", "state",
    )  # fmt: skip

    def __init__(self, syn: Segment, emitter: Emitter, *, iss: int, now: float) -> None:
        """syn opens the connection; emitter has the MSS that our own side can take; iss must not be guessable."""
        options = tcp.parse_options(syn.options)
        ours = emitter.gso_size
        theirs = options.mss or (tcp.DEFAULT_MSS_V6 if emitter.is_v6 else tcp.DEFAULT_MSS_V4)
        emitter.set_mss(max(min(ours, theirs), 64))
        scaled = options.window_scale is not None
        self._options = tcp.emit_options(tcp.Options(mss=ours, window_scale=WINDOW_SCALE if scaled else None))
        self._irs = syn.seq
        self._iss = iss
        self.emitter = emitter
        self.state = State.VERDICT
        self.receiver = Receiver(syn.seq, scaled=scaled)
        self.sender = Sender(iss, scale=options.window_scale or 0, window=syn.window, irs=syn.seq)
        self.last_heard = now
        self.host_ended = False
        """The host socket has given its last octet."""
        self._fin_sent = False
        self._fin_taken = False  # the client's FIN was received in order
        self._shut = False
        self._now_ack = False
        self._unacked = 0  # octets received since the last acknowledgement left
        self._ack_due_at: float | None = None

    def __repr__(self) -> str:
        return (
            f"<Connection {self.state.value} rcv_nxt={(self.receiver.rcv_nxt - self._irs) & MASK}"
            f" snd_una={(self.sender.snd_una - self._iss) & MASK} snd_nxt={(self.sender.snd_nxt - self._iss) & MASK}"
            f" snd_wnd={self.sender.snd_wnd} pending={self.receiver.pending}>"
        )

    # --- what the tracker and the host socket say ---------------------------------------------------------------------

    def verdict(self, refusal: Reason | None, *, answer: bool = True) -> list[Command]:
        """The tracker decided; refusal is None where the flow may go on. A refused SYN gets a RST, or silence."""
        if self.state is not State.VERDICT:
            return []
        if refusal is None:
            self.state = State.CONNECTING
            return [Connect()]
        return self._refuse(refusal, answer=answer)

    def socket_connected(self, now: float) -> list[Command]:
        """The far end accepted: now, and only now, the SYN is answered."""
        if self.state is not State.CONNECTING:
            return []
        self.state = State.SYN_RECEIVED
        self.sender.take(b"", 1, now)
        return [self._syn_ack()]

    def socket_refused(self, reason: Reason) -> list[Command]:
        """connect() failed. Refused: RST; unreachable: the ICMP error; no answer: nothing, as the network gave none."""
        if self.state is not State.CONNECTING:
            return []
        if reason in {Reason.HOST_UNREACHABLE, Reason.NET_UNREACHABLE, Reason.ADMIN_PROHIBITED}:
            self.state = State.CLOSED
            return [Unreachable(reason), Finish(reason)]
        return self._refuse(reason, answer=reason is not Reason.CONNECT_TIMEOUT)

    def socket_data(self, data: bytes | memoryview, now: float) -> list[Command]:
        """The host socket gave octets, no more than `room` said."""
        if self.state not in HOST_SENDS:
            return []
        return [self._send(data, tcp.ACK | tcp.PSH, now)]

    def socket_ended(self, now: float) -> list[Command]:
        """The host socket gave its last octet: our FIN follows the data."""
        self.host_ended = True
        if self.state is State.ESTABLISHED:
            self.state = State.FIN_WAIT_1
        elif self.state is State.CLOSE_WAIT:
            self.state = State.LAST_ACK
        else:
            return []
        self._fin_sent = True
        seq = self.sender.take(b"", 1, now)
        return [self._emit(seq, tcp.FIN | tcp.ACK)]

    def socket_reset(self, reason: Reason) -> list[Command]:
        """The host socket failed: the client sees a reset, as it would from the far end itself."""
        return self._abort(reason, tell_host=False)

    def socket_took(self, octets: int) -> list[Command]:
        """The host socket took this many of the octets written."""
        receiver = self.receiver
        receiver.pending -= octets
        if self._fin_taken and receiver.pending == 0 and not self._shut:
            commands: list[Command] = []
            self._all_written(commands)
            return commands
        if receiver.reopened and self.state in _CLIENT_SENDS:
            self._now_ack = True
        return []

    def room(self) -> int:
        """How many octets may be read from the host socket now; 0 where nothing may be."""
        if self.state not in HOST_SENDS or self.host_ended:
            return 0
        room = self.sender.room()
        # RFC 9293 section 3.8.6.2.1: not a small segment into a window that is nearly full.
        if room < self.emitter.gso_size and self.sender.in_flight:
            return 0
        return max(room, 0)

    def abort(self, reason: Reason) -> list[Command]:
        """End the connection from our side (revoked, idle, process ending): a reset to both ends."""
        return self._abort(reason, tell_host=True)

    # --- what the client says -----------------------------------------------------------------------------------------

    def receive_segment(self, segment: Segment, now: float) -> list[Command]:
        """A segment of the client that belongs to this connection (RFC 9293 section 3.10.7)."""
        self.last_heard = now
        state = self.state
        if state is State.VERDICT or state is State.CONNECTING:
            return self._before_syn_ack(segment)
        if state is State.CLOSED:
            return []
        flags = segment.flags
        if flags & (tcp.SYN | tcp.RST):
            return self._syn_or_rst(segment)
        if not self.receiver.acceptable(segment.seq, segment.length):
            self._now_ack = True
            return []
        if not flags & tcp.ACK:
            return []
        commands: list[Command] = []
        if not self._receive_ack(segment, commands, now):
            return commands
        if self.state in _CLIENT_SENDS and (segment.payload or flags & tcp.FIN):
            self._receive_text(segment, commands, now)
        return commands

    def _before_syn_ack(self, segment: Segment) -> list[Command]:
        # The SYN sent again is passed over; a reset must be the client's own (it knows no sequence number of ours).
        if segment.flags & tcp.RST and segment.seq == (self._irs + 1) & MASK:
            return self._closed_by_client()
        if segment.flags & tcp.SYN and segment.seq != self._irs:
            return self._closed_by_client()
        return []

    def _syn_or_rst(self, segment: Segment) -> list[Command]:
        receiver = self.receiver
        if segment.flags & tcp.RST:
            # RFC 5961 section 3.2: exactly the next octet, or a challenge.
            if segment.seq == receiver.rcv_nxt:
                return self._closed_by_client()
            if receiver.acceptable(segment.seq, 0):
                self._now_ack = True
            return []
        if self.state is State.SYN_RECEIVED and segment.seq == self._irs:
            return [self._syn_ack()]
        self._now_ack = True  # RFC 5961 section 4.2: a challenge ACK, whatever the sequence number
        return []

    def _receive_ack(self, segment: Segment, commands: list[Command], now: float) -> bool:
        """Take SEG.ACK; False where the segment is to be dropped."""
        sender = self.sender
        if not sender.acceptable(segment.ack):
            if self.state is State.SYN_RECEIVED:
                commands.append(Emit(self.emitter.emit(segment.ack, 0, tcp.RST, 0)))
                return False
            behind = diff(segment.ack, sender.snd_una)
            if behind > 0:
                self._now_ack = True  # it acknowledges what was never sent
                return False
            return True  # an old one, with perhaps new data
        pure = not segment.payload and not segment.flags & tcp.FIN
        if sender.receive_ack(segment.seq, segment.ack, segment.window, pure=pure, now=now):
            self._retransmit(commands)
        if self.state is State.SYN_RECEIVED:
            self.state = State.ESTABLISHED
            sender.snd_wnd = segment.window << sender.scale
        elif self._fin_sent and segment.ack == sender.snd_nxt:
            self._fin_acknowledged(commands)
        return True

    def _fin_acknowledged(self, commands: list[Command]) -> None:
        if self.state is State.FIN_WAIT_1:
            self.state = State.FIN_WAIT_2
        elif self.state is State.CLOSING:
            self.state = State.TIME_WAIT
            self._finish_if_done(commands)
        elif self.state is State.LAST_ACK:
            self.state = State.CLOSED
            self._finish_if_done(commands)

    def _receive_text(self, segment: Segment, commands: list[Command], now: float) -> None:
        receiver = self.receiver
        ready = receiver.receive(segment.seq, segment.payload)
        for data in ready:
            self._unacked += len(data)
            commands.append(Write(data))
        if not ready or self._unacked >= ACK_EVERY * self.emitter.gso_size:
            self._now_ack = True  # out of order: a duplicate acknowledgement at once (RFC 5681 section 4.2)
        elif self._ack_due_at is None:
            self._ack_due_at = now + DELAYED_ACK
        if segment.flags & tcp.FIN and (segment.seq + len(segment.payload)) & MASK == receiver.rcv_nxt:
            self._receive_fin(commands)

    def _receive_fin(self, commands: list[Command]) -> None:
        self.receiver.advance_over_fin()
        self._fin_taken = True
        self._now_ack = True
        self.state = _AFTER_FIN[self.state]
        if self.receiver.pending == 0:
            self._all_written(commands)

    def _all_written(self, commands: list[Command]) -> None:
        self._shut = True
        commands.append(ShutdownWrite())
        self._finish_if_done(commands)

    def _finish_if_done(self, commands: list[Command]) -> None:
        """Both ends have closed: over, once the host socket has everything."""
        if self._shut and self.state in {State.TIME_WAIT, State.CLOSED}:
            commands.append(Finish(None))

    # --- time ---------------------------------------------------------------------------------------------------------

    def flush(self) -> list[Command]:
        """A burst of events is over: send the acknowledgement that nothing carried."""
        if not self._now_ack or self.state in _SILENT:
            return []
        return [self._emit(self.sender.snd_nxt, tcp.ACK)]

    def next_timeout(self) -> float | None:
        """When handle_timeout wants to be called; idle time is the shell's."""
        if self.state is State.CLOSED:
            return None
        due = self._ack_due_at
        timer = self.sender.timer
        if timer is None:
            if self.state in HOST_SENDS and not self.host_ended and self.sender.room() <= 0:
                # Nothing is in flight, and the window is closed.
                self.sender.watch_window(self.last_heard)
                timer = self.sender.timer
            if timer is None:
                return due
        return timer if due is None or timer < due else due

    def handle_timeout(self, now: float) -> list[Command]:
        """A timer ran out: the delayed acknowledgement, a retransmission, or a probe of a closed window."""
        commands: list[Command] = []
        if self._ack_due_at is not None and now >= self._ack_due_at:
            self._now_ack = True
        sender = self.sender
        if sender.timer is not None and now >= sender.timer:
            if sender.oldest() is None and sender.snd_wnd > 0:
                sender.timer = None
                return commands
            if sender.retransmissions >= MAX_RETRANSMISSIONS:
                return self._abort(Reason.IDLE_TIMEOUT, tell_host=True)
            sender.back_off(now)
            if sender.oldest() is None:
                # RFC 9293 section 3.8.6.1. An octet before the window makes the client say what its window is.
                commands.append(self._emit((sender.snd_nxt - 1) & MASK, tcp.ACK))
            else:
                self._retransmit(commands)
        return commands

    # --- sending ------------------------------------------------------------------------------------------------------

    def _send(self, data: bytes | memoryview, flags: int, now: float) -> Emit:
        self._acknowledged()
        seq = self.sender.take(data, len(data), now)
        receiver = self.receiver
        return Emit(self.emitter.head(seq, receiver.rcv_nxt, flags, receiver.window(), len(data)), data)

    def _emit(self, seq: int, flags: int, data: bytes | memoryview = b"") -> Emit:
        self._acknowledged()
        receiver = self.receiver
        return Emit(self.emitter.head(seq, receiver.rcv_nxt, flags, receiver.window(), len(data)), data)

    def _acknowledged(self) -> None:
        self._now_ack = False
        self._unacked = 0
        self._ack_due_at = None

    def _syn_ack(self) -> Emit:
        receiver = self.receiver
        receiver.window()
        window = min(receiver.offered, 0xFFFF)  # not scaled in a SYN
        flags = tcp.SYN | tcp.ACK
        return Emit(self.emitter.emit(self._iss, receiver.rcv_nxt, flags, window, options=self._options))

    def _retransmit(self, commands: list[Command]) -> None:
        oldest = self.sender.oldest()
        if oldest is None:
            return
        if self.state is State.SYN_RECEIVED:
            commands.append(self._syn_ack())
            return
        seq, data = oldest
        if data:
            commands.append(self._emit(seq, tcp.ACK | tcp.PSH, data))
        else:
            commands.append(self._emit(seq, tcp.ACK | tcp.FIN))

    def _refuse(self, reason: Reason, *, answer: bool) -> list[Command]:
        self.state = State.CLOSED
        if not answer:
            return [Finish(reason)]
        # RFC 9293 section 3.10.7.1: a segment without ACK is reset with SEQ=0 and ACK=SEG.SEQ+SEG.LEN.
        reset = self.emitter.emit(0, self.receiver.rcv_nxt, tcp.RST | tcp.ACK, 0)
        return [Emit(reset), Finish(reason)]

    def _closed_by_client(self) -> list[Command]:
        self.state = State.CLOSED
        return [Abort(), Finish(None)]

    def _abort(self, reason: Reason, *, tell_host: bool) -> list[Command]:
        state, self.state = self.state, State.CLOSED
        if state is State.CLOSED:
            # The client has closed and forgotten; only the host socket was still being written to.
            return [] if self._shut or not self._fin_taken else [Abort(), Finish(reason)]
        commands: list[Command] = [Abort()] if tell_host else []
        if state in {State.VERDICT, State.CONNECTING}:
            commands.append(Emit(self.emitter.emit(0, self.receiver.rcv_nxt, tcp.RST | tcp.ACK, 0)))
        elif state is not State.TIME_WAIT:
            reset = self.emitter.emit(self.sender.snd_nxt, self.receiver.rcv_nxt, tcp.RST | tcp.ACK, 0)
            commands.append(Emit(reset))
        commands.append(Finish(reason))
        return commands
