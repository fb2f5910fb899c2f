"""The variables of one connection, and what every event may come to: sending again, and the ends. No I/O, no clock.

RFC 9293 section 3.3.1 calls it the transmission control block.
"""

from collections.abc import Sequence
from typing import Final

from netstack.packet import tcp
from netstack.packet.reason import Reason
from netstack.packet.seqnum import MASK, diff
from services.tcp_fwd import terms as negotiated
from services.tcp_fwd.challenge import Challenges
from services.tcp_fwd.commands import ABORT, FINISH, SHUTDOWN_WRITE, Command, Emit, Finish
from services.tcp_fwd.keepalive import IDLE_TIMEOUT, Keepalive
from services.tcp_fwd.limits import Buffers
from services.tcp_fwd.output import Output
from services.tcp_fwd.receiving import ACK_EVERY, Receiver
from services.tcp_fwd.segment import Emitter, Segment
from services.tcp_fwd.sending import Sender
from services.tcp_fwd.states import ENDED, State
from services.tcp_fwd.timewait import Record

DATA: Final = tcp.ACK | tcp.PSH
"""The flags of every segment with data."""

# For the path of every segment: an attribute of an Enum costs more than a name here.
_ESTABLISHED: Final = State.ESTABLISHED
_record: Final = tuple.__new__  # a NamedTuple without the call of a Python function that its own __new__ is


class ControlBlock:
    """What a connection is made of. Its own methods are for the events (arrival, connection), not for the shell."""

    __slots__ = (
        "_challenges", "_fin_at", "_fin_sent", "_fin_taken", "_irs", "_keepalive", "_output", "_predicted", "_shut",
        "_terms", "_timestamps", "emitter", "host_ended", "last_heard", "receiver", "sender", "state",
    )  # fmt: skip

    def __init__(
        self, syn: Segment, emitter: Emitter, *, iss: int, now: float, buffers: Buffers,
        idle_timeout: float = IDLE_TIMEOUT,
    ) -> None:  # fmt: skip
        """syn opens the connection; emitter has the MSS that our own side can take; iss must not be guessable.

        buffers has the room that all flows share. When the connection is over, receiver.forget() gives back its part.
        """
        mss = emitter.mss
        self._terms = terms = negotiated.accept(syn, mss, is_v6=emitter.is_v6)
        emitter.set_mss(terms.mss)
        self._timestamps = terms.tsval is not None
        if self._timestamps:
            emitter.use_timestamps()
        self._irs = syn.seq
        self.emitter = emitter
        self.state = State.VERDICT
        self.receiver = Receiver(syn.seq, scaled=terms.window_scale is not None, buffers=buffers)
        self.receiver.ts_recent = terms.tsval or 0
        self.receiver.ack_after = ACK_EVERY * emitter.gso_size
        self.sender = Sender(syn, iss, scale=terms.window_scale or 0, mss=emitter.gso_size, sack=terms.sack)
        if self._timestamps:
            self.sender.use_timestamps(iss)
        self.last_heard = now
        self.host_ended = False
        """The host socket has given its last octet."""
        self._fin_at: int | None = None  # the sequence number of the client's FIN, once seen
        self._fin_sent = False
        self._fin_taken = False  # the client's FIN was received in order
        self._shut = False
        self._predicted = False  # the next segment may well be one of those that are tried first
        self._output = Output(emitter, self.receiver, self.sender, terms, mss=mss)
        self._challenges = Challenges()
        self._keepalive = Keepalive(idle_timeout)

    def __repr__(self) -> str:
        return (
            f"<Connection {self.state.value} rcv_nxt={(self.receiver.rcv_nxt - self._irs) & MASK}"
            f" snd_una={(self.sender.snd_una - self.sender.iss) & MASK} in_flight={self.sender.in_flight}"
            f" snd_wnd={self.sender.snd_wnd} cwnd={self.sender.congestion.cwnd} pending={self.receiver.pending}>"
        )

    def remains(self) -> Record:
        """What TIME-WAIT needs."""
        receiver, sender = self.receiver, self.sender
        ts_recent = receiver.ts_recent if self._timestamps else None
        return _record(Record, (sender.snd_nxt, receiver.rcv_nxt, receiver.window(), ts_recent, sender.iss))

    def _predict(self) -> None:
        self._predicted = (
            self.state is _ESTABLISHED and self._fin_at is None and not self.receiver.blocks and self.sender.calm
            and self.sender.resent_end is None and diff(self.receiver.rcv_nxt, self.sender.wl1) >= 0
        )  # fmt: skip

    def _resend(self, commands: list[Command], now: float) -> None:
        """What is lost, as far as the congestion window allows."""
        sender = self.sender
        while (run := sender.resend(now, self.emitter.max_payload)) is not None:
            self._send_again(run.seq, run.octets, commands, now)

    def _send_again(self, seq: int, data: bytes | memoryview, commands: list[Command], now: float) -> None:
        if self.state is State.SYN_RECEIVED:
            commands.append(self._output.syn_ack(now))
        elif len(data):
            commands.append(self._output.segment(seq, DATA, now, data))
        else:
            commands.append(self._output.segment(seq, tcp.ACK | tcp.FIN, now))

    def _send_fin(self, now: float) -> Emit:
        """The host socket has given all; the state is one of HOST_SENDS."""
        return self._output.segment(self._fin_leaves(now), tcp.FIN | tcp.ACK, now)

    def _fin_leaves(self, now: float) -> int:
        """Take note that the FIN is being sent; gives its sequence number."""
        self.state = State.FIN_WAIT_1 if self.state is _ESTABLISHED else State.LAST_ACK
        self._fin_sent = True
        self._predicted = False
        return self.sender.take(b"", 1, now)

    def _all_written(self, commands: list[Command]) -> None:
        self._shut = True
        if not self._is_done():
            commands.append(SHUTDOWN_WRITE)
        self._finish_if_done(commands)

    def _finish_if_done(self, commands: list[Command]) -> None:
        """Both ends have closed: over, once the host socket has everything."""
        if self._is_done():
            commands.append(FINISH)

    def _is_done(self) -> bool:
        return self._shut and self.state in ENDED

    def _closed_by_client(self) -> Sequence[Command]:
        self.state = State.CLOSED
        return (ABORT, FINISH)

    def _abort(self, reason: Reason, *, tell_host: bool) -> Sequence[Command]:
        state, self.state = self.state, State.CLOSED
        self._predicted = False
        if state is State.CLOSED:
            # The client has closed and forgotten; only the host socket was still being written to.
            return () if self._shut or not self._fin_taken else (ABORT, Finish(reason))
        commands: list[Command] = [ABORT] if tell_host else []
        if state in {State.VERDICT, State.CONNECTING}:
            commands.append(self._output.refusal())
        elif state is not State.TIME_WAIT:
            commands.append(self._output.reset(self.last_heard))
        commands.append(Finish(reason))
        return commands
