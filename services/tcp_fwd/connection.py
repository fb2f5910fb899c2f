"""One TCP connection of a client, as a state machine without I/O (RFC 9293).

Theory of operation. This is a translator, not a proxy: towards the client it speaks TCP itself, with the names of the
RFC; towards the world there is an ordinary socket that the shell owns. The client's SYN is answered only after a
verdict, and only after the host socket is connected, so that an application never sees a connection that does not
exist. Before that the connection is in one of two states of ours, VERDICT and CONNECTING, in which nothing is sent.

Each method is one event: something that happened, and when. It changes the state once and returns the commands that the
shell carries out, in order, before the next event. `flush` is called when a burst of events is over; an acknowledgement
that nothing carried leaves then. Both directions close alone: the client's FIN becomes a shutdown of the host socket's
sending side once everything before it is written, and the end of what the host sends becomes our FIN. A reset becomes a
reset, both ways. What each state makes of each event is a table: docs/tcp-states.md, checked by a test.

Between events the shell asks `room` how much it may read from the host socket.

Nearly every segment is the next data of an established connection or acknowledges some of ours, with nothing lost or
out of order. `receive_segment` tries that first (header prediction, Van Jacobson 1988); all else goes the RFC's way.
"""

from collections.abc import Sequence
from typing import Final

from netstack.packet import tcp
from netstack.packet.reason import Reason
from netstack.packet.seqnum import MASK, diff
from services.tcp_fwd import terms as negotiated
from services.tcp_fwd.challenge import Challenges
from services.tcp_fwd.commands import Abort, Command, Connect, Emit, Finish, ShutdownWrite, Unreachable, Write
from services.tcp_fwd.keepalive import IDLE_TIMEOUT, Keepalive
from services.tcp_fwd.output import Output
from services.tcp_fwd.receiving import ACK_EVERY, Receiver
from services.tcp_fwd.segment import Emitter, Segment
from services.tcp_fwd.sending import LIMIT, MAX_RETRANSMISSIONS, Alarm, Sender
from services.tcp_fwd.states import AFTER_FIN, CLIENT_SENDS, HOST_SENDS, NO_TIMEOUT, SILENT, State
from services.tcp_fwd.timewait import Record

MIN_MTU_V4: Final = 552  # octets; Linux's min_pmtu: a forged ICMP error must not make segments tiny
MIN_MTU_V6: Final = 1280  # RFC 8200 section 5
PAWS_LASTS: Final = 24 * 86400.0  # seconds; RFC 7323 section 5.5: a timestamp older than that proves nothing


# What follows is for the path of every segment: an attribute of an Enum, or of a module, costs more than a name here.
_ESTABLISHED: Final = State.ESTABLISHED
_CLOSE_WAIT: Final = State.CLOSE_WAIT
_ACK: Final = tcp.ACK
_DATA: Final = tcp.ACK | tcp.PSH
_PREDICTED: Final = tcp.FIN | tcp.SYN | tcp.RST | tcp.ACK  # PSH, URG, ECE and CWR mean nothing to us
_HALF: Final = 1 << 31
_new = tuple.__new__  # a NamedTuple without the call of a Python function that its own __new__ is


class Connection:
    """The variables of RFC 9293 section 3.3.1, and what the shell must know."""

    __slots__ = (
        "_challenges", "_fin_at", "_fin_sent", "_fin_taken", "_irs", "_keepalive", "_output", "_predicted", "_shut",
        "_terms", "_timestamps", "emitter", "host_ended", "last_heard", "receiver", "sender", "state",
    )  # fmt: skip

    def __init__(
        self, syn: Segment, emitter: Emitter, *, iss: int, now: float, idle_timeout: float = IDLE_TIMEOUT
    ) -> None:
        """syn opens the connection; emitter has the MSS that our own side can take; iss must not be guessable."""
        mss = emitter.mss
        self._terms = terms = negotiated.accept(syn, mss, is_v6=emitter.is_v6)
        emitter.set_mss(terms.mss)
        self._timestamps = terms.tsval is not None
        if self._timestamps:
            emitter.use_timestamps()
        self._irs = syn.seq
        self.emitter = emitter
        self.state = State.VERDICT
        self.receiver = Receiver(syn.seq, scaled=terms.window_scale is not None)
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
        return Record(sender.snd_nxt, receiver.rcv_nxt, receiver.window(), ts_recent, sender.iss)

    # --- what the tracker and the host socket say ---------------------------------------------------------------------

    def verdict(self, refusal: Reason | None, *, answer: bool = True) -> Sequence[Command]:
        """The tracker decided; refusal is None where the flow may go on. A refused SYN gets a RST, or silence."""
        if self.state is not State.VERDICT:
            return ()
        if refusal is None:
            self.state = State.CONNECTING
            return (Connect(),)
        return self._refuse(refusal, answer=answer)

    def socket_connected(self, now: float) -> Sequence[Command]:
        """The far end accepted: now, and only now, the SYN is answered."""
        if self.state is not State.CONNECTING:
            return ()
        self.state = State.SYN_RECEIVED
        self.sender.take(b"", 1, now)
        return (self._output.syn_ack(now),)

    def socket_refused(self, reason: Reason) -> Sequence[Command]:
        """connect() failed. Refused: RST; unreachable: the ICMP error; no answer: nothing, as the network gave none."""
        if self.state is not State.CONNECTING:
            return ()
        if reason in {Reason.HOST_UNREACHABLE, Reason.NET_UNREACHABLE, Reason.ADMIN_PROHIBITED}:
            self.state = State.CLOSED
            return (Unreachable(reason), Finish(reason))
        return self._refuse(reason, answer=reason is not Reason.CONNECT_TIMEOUT)

    def socket_data(self, data: bytes | memoryview, now: float) -> Sequence[Command]:
        """The host socket gave octets, no more than `room` said and no more than the emitter's max_payload.

        They are not copied: they must stay as they are until sender.snd_una has passed them.
        """
        state = self.state
        if state is not _ESTABLISHED and state is not _CLOSE_WAIT:
            return ()
        sender = self.sender
        receiver = self.receiver
        length = len(data)
        seq = sender.take(data, length, now)
        if not receiver.blocks and receiver.duplicate is None:  # a SACK wants an acknowledgement of its own
            receiver.now_ack = False
            receiver.unacked = 0
            receiver.ack_due_at = None
        if self._timestamps:
            head = self.emitter.head(
                seq, receiver.rcv_nxt, _DATA, receiver.window(), length, sender.stamp(now), self.receiver.ts_recent
            )
        else:
            head = self.emitter.head(seq, receiver.rcv_nxt, _DATA, receiver.window(), length)
        return (_new(Emit, (head, data)),)

    def socket_ended(self, now: float) -> Sequence[Command]:
        """The host socket gave its last octet: our FIN follows the data."""
        self.host_ended = True
        if self.state is State.ESTABLISHED:
            self.state = State.FIN_WAIT_1
        elif self.state is State.CLOSE_WAIT:
            self.state = State.LAST_ACK
        else:
            return ()
        self._fin_sent = True
        self._predicted = False
        seq = self.sender.take(b"", 1, now)
        return (self._output.segment(seq, tcp.FIN | tcp.ACK, now),)

    def socket_reset(self, reason: Reason) -> Sequence[Command]:
        """The host socket failed: the client sees a reset, as it would from the far end itself."""
        return self._abort(reason, tell_host=False)

    def socket_took(self, octets: int) -> Sequence[Command]:
        """The host socket took this many of the octets written."""
        receiver = self.receiver
        receiver.pending -= octets
        if self._fin_taken:
            if receiver.pending or self._shut:
                return ()
            commands: list[Command] = []
            self._all_written(commands)
            return commands
        if receiver.reopened and self.state in CLIENT_SENDS:
            self.receiver.now_ack = True
        return ()

    def room(self, now: float | None = None) -> int:
        """How many octets may be read from the host socket now; 0 where nothing may be.

        Given the time, a congestion window that was not used for long shrinks first.
        """
        state = self.state
        if (state is not _ESTABLISHED and state is not _CLOSE_WAIT) or self.host_ended:
            return 0
        sender = self.sender
        if sender.snd_una == sender.snd_nxt:
            if now is not None:
                sender.rest(now)
            return sender.room()
        room = sender.room()
        if room <= 0:
            return 0
        # RFC 9293 section 3.8.6.2.1: not a small segment into a window that is nearly full; and as Linux has it
        # (tcp_tso_win_divisor), not a short train either while acknowledgements are on their way that make it longer.
        emitter = self.emitter
        worth = sender.congestion.cwnd >> 2
        if worth < emitter.gso_size:
            worth = emitter.gso_size
        elif worth > emitter.max_payload:
            worth = emitter.max_payload
        return room if room >= worth or room >= sender.snd_wnd >> 1 else 0

    def abort(self, reason: Reason) -> Sequence[Command]:
        """End the connection from our side (revoked, idle, process ending): a reset to both ends."""
        return self._abort(reason, tell_host=True)

    def path_mtu(self, mtu: int, now: float) -> Sequence[Command]:
        """A router says that the path to the client takes no packets of more than mtu octets (RFC 1191, RFC 8201).

        The caller has seen that the packet quoted is one of this flow whose sequence number is unacknowledged.
        """
        least, headers = (MIN_MTU_V6, 60) if self.emitter.is_v6 else (MIN_MTU_V4, 40)
        mss = max(mtu, least) - headers
        if mss >= self.emitter.mss or self.state is State.CLOSED:
            return ()
        self.emitter.set_mss(mss)
        self.sender.set_mss(self.emitter.gso_size)
        commands: list[Command] = []
        self._resend(commands, now)
        self._predict()
        return commands

    # --- what the client says -----------------------------------------------------------------------------------------

    def receive_segment(self, segment: Segment, now: float) -> Sequence[Command]:
        """A segment of the client that belongs to this connection (RFC 9293 section 3.10.7)."""
        if not self._predicted:
            return self._receive(segment, now)
        _, seq, ack, flags, window, options, payload, tsval, _ = segment
        receiver = self.receiver
        sender = self.sender
        if seq != receiver.rcv_nxt or flags & _PREDICTED != _ACK or options or not window:
            return self._receive(segment, now)
        length = len(payload)
        advanced = (ack - sender.snd_una) & MASK
        if length > receiver.edge or advanced > (sender.snd_nxt - sender.snd_una) & MASK or not (length or advanced):
            return self._receive(segment, now)
        if self._timestamps:
            if tsval < 0 or (tsval - receiver.ts_recent) & MASK >= _HALF:
                return self._receive(segment, now)
            if not receiver.unacked:  # else an earlier segment's is to be echoed (RFC 7323 section 4.3)
                receiver.ts_recent = tsval
        self.last_heard = now
        sender.wl1 = seq
        sender.snd_wnd = window << sender.scale
        if advanced:
            sender.advance(ack, now)
            if not length:
                return ()
        receiver.advance(length, now)
        return (_new(Write, (payload,)),)

    def _receive(self, segment: Segment, now: float) -> Sequence[Command]:
        """Any segment in any state."""
        silent = now - self.last_heard
        self.last_heard = now
        state = self.state
        if state is State.VERDICT or state is State.CONNECTING:
            return self._before_syn_ack(segment)
        if state is State.CLOSED:
            return ()
        if segment.flags & (tcp.SYN | tcp.RST):
            return self._syn_or_rst(segment, now)
        sack: tuple[tuple[int, int], ...] = ()
        if segment.options:
            options = tcp.parse_options(segment.options)
            sack = options.sack
            if options.timestamps:
                segment = segment._replace(tsval=options.timestamps[0], tsecr=options.timestamps[1])
        if not self._in_window(segment, silent, now) or not segment.flags & tcp.ACK:
            return ()
        commands: list[Command] = []
        if self._receive_ack(segment, sack, commands, now):
            if self.state in CLIENT_SENDS and (segment.payload or segment.flags & tcp.FIN):
                self._receive_text(segment, commands, now)
            self._resend(commands, now)
        self._predict()
        return commands

    def _predict(self) -> None:
        self._predicted = (
            self.state is _ESTABLISHED and self._fin_at is None and not self.receiver.blocks and self.sender.calm
        )  # fmt: skip

    def _before_syn_ack(self, segment: Segment) -> Sequence[Command]:
        # The SYN sent again is passed over; a reset must be the client's own (it knows no sequence number of ours).
        if segment.flags & tcp.RST:
            return self._closed_by_client() if segment.seq == (self._irs + 1) & MASK else ()
        if segment.flags & tcp.SYN and segment.seq != self._irs:
            return self._closed_by_client()
        return ()

    def _syn_or_rst(self, segment: Segment, now: float) -> Sequence[Command]:
        receiver = self.receiver
        if segment.flags & tcp.RST:
            # RFC 5961 section 3.2: exactly the next octet, or a challenge.
            if segment.seq == receiver.rcv_nxt and self.state is not State.TIME_WAIT:  # RFC 1337
                return self._closed_by_client()
            if receiver.acceptable(segment.seq, 0):
                self._challenge(now)
            return ()
        if self.state is State.SYN_RECEIVED and segment.seq == self._irs:
            return (self._output.syn_ack(now),)
        self._challenge(now)  # RFC 5961 section 4.2: whatever the sequence number
        return ()

    def _challenge(self, now: float) -> None:
        if self._challenges.allow(now):
            self.receiver.now_ack = True

    def _in_window(self, segment: Segment, silent: float, now: float) -> bool:
        """The tests of RFC 7323 section 5.3 and RFC 9293 section 3.10.7.4; what fails them may want an answer."""
        receiver = self.receiver
        length = segment.length
        if self._timestamps and segment.tsval < 0:
            return False  # RFC 7323 section 3.2
        late = self._timestamps and diff(segment.tsval, receiver.ts_recent) < 0 and silent < PAWS_LASTS
        if late or not receiver.acceptable(segment.seq, length):
            receiver.old(segment.seq, len(segment.payload))
            if length:
                receiver.now_ack = True  # a probe of a closed window, or what came again: both wait for it
            else:
                self._challenge(now)
            return False
        if self._timestamps and diff(segment.seq, receiver.rcv_nxt - receiver.unacked) <= 0:
            receiver.ts_recent = segment.tsval
        return True

    def _receive_ack(
        self, segment: Segment, sack: tuple[tuple[int, int], ...], commands: list[Command], now: float
    ) -> bool:
        """Take SEG.ACK; False where the segment is to be dropped."""
        sender = self.sender
        if self.state is State.SYN_RECEIVED:
            if segment.ack != sender.snd_nxt:
                commands.append(Emit(self.emitter.emit(segment.ack, 0, tcp.RST, 0)))
                return False
            sender.receive_ack(segment, (), now)
            sender.open(segment.window)
            self.state = State.ESTABLISHED
            if self.host_ended:
                commands.extend(self.socket_ended(now))
            return True
        if not sender.acceptable(segment.ack):
            # RFC 5961 section 5.2: not of what was never sent, nor older than all that can be on the way.
            if -LIMIT <= diff(segment.ack, sender.snd_una) < 0:
                return True  # an old one, with perhaps new data
            self._challenge(now)
            return False
        sender.receive_ack(segment, sack, now)
        if self._fin_sent and segment.ack == sender.snd_nxt:
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
        if segment.payload:
            commands.extend(Write(data) for data in receiver.receive(segment.seq, segment.payload, now))
            if receiver.blocks and not self._terms.sack:
                commands.extend(self.flush(now))  # such a client counts the duplicates (RFC 5681 section 3.2)
        if segment.flags & tcp.FIN:
            self._fin_at = (segment.seq + len(segment.payload)) & MASK
            receiver.now_ack = True
        if self._fin_at == receiver.rcv_nxt:
            self._receive_fin(commands)

    def _receive_fin(self, commands: list[Command]) -> None:
        self.receiver.advance_over_fin()
        self._fin_taken = True
        self.receiver.now_ack = True
        self.state = AFTER_FIN[self.state]
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

    def flush(self, now: float) -> Sequence[Command]:
        """A burst of events is over: send the acknowledgement that nothing carried."""
        if not self.receiver.now_ack or self.state in SILENT:
            return ()
        return (self._output.acknowledgement(now),)

    def next_timeout(self) -> float | None:
        """When handle_timeout wants to be called; idle time is the shell's."""
        due = self.receiver.ack_due_at
        timer = self.sender.timer
        if self.state in NO_TIMEOUT:
            return None
        if timer is None:
            sender = self.sender
            if not sender.snd_wnd and self.state in HOST_SENDS and not self.host_ended:
                sender.watch_window(self.last_heard)
                timer = sender.timer
            elif due is None:
                return self._keepalive.due(self.last_heard)
        return timer if due is None or (timer is not None and timer < due) else due

    def handle_timeout(self, now: float) -> Sequence[Command]:
        """A timer ran out: the delayed acknowledgement, one of the sender's, or keepalive."""
        if self.state in NO_TIMEOUT:
            return ()
        if self.receiver.ack_due_at is not None and now >= self.receiver.ack_due_at:
            self.receiver.now_ack = True
        sender = self.sender
        commands: list[Command] = []
        if sender.timer is None:
            if self.receiver.ack_due_at is None and now >= self._keepalive.due(self.last_heard):
                return self._keep_alive(now)
        elif now >= sender.timer:
            if sender.retransmissions >= MAX_RETRANSMISSIONS:
                return self._abort(Reason.IDLE_TIMEOUT, tell_host=True)
            if sender.alarm is Alarm.PROBE_WINDOW:
                # RFC 9293 section 3.8.6.1. An octet before the window makes the client say what its window is.
                commands.append(self._output.segment((sender.snd_nxt - 1) & MASK, tcp.ACK, now))
            probe = sender.handle_timeout(now)
            if probe is not None:
                self._send_again(probe.seq, probe.octets, commands, now)
            self._resend(commands, now)
            self._predict()
        return commands

    def _keep_alive(self, now: float) -> Sequence[Command]:
        if not self._keepalive.probe(self.last_heard, now):
            return self._abort(Reason.IDLE_TIMEOUT, tell_host=True)
        return (self._output.segment((self.sender.snd_nxt - 1) & MASK, tcp.ACK, now),)

    # --- sending ------------------------------------------------------------------------------------------------------

    def _resend(self, commands: list[Command], now: float) -> None:
        """What is lost, as far as the congestion window allows."""
        sender = self.sender
        while (run := sender.resend(now, self.emitter.max_payload)) is not None:
            self._send_again(run.seq, run.octets, commands, now)

    def _send_again(self, seq: int, data: bytes | memoryview, commands: list[Command], now: float) -> None:
        if self.state is State.SYN_RECEIVED:
            commands.append(self._output.syn_ack(now))
        elif len(data):
            commands.append(self._output.segment(seq, _DATA, now, data))
        else:
            commands.append(self._output.segment(seq, tcp.ACK | tcp.FIN, now))

    def _refuse(self, reason: Reason, *, answer: bool) -> Sequence[Command]:
        self.state = State.CLOSED
        if not answer:
            return (Finish(reason),)
        return (self._output.refusal(), Finish(reason))

    def _closed_by_client(self) -> Sequence[Command]:
        self.state = State.CLOSED
        return (Abort(), Finish(None))

    def _abort(self, reason: Reason, *, tell_host: bool) -> Sequence[Command]:
        state, self.state = self.state, State.CLOSED
        self._predicted = False
        if state is State.CLOSED:
            # The client has closed and forgotten; only the host socket was still being written to.
            return () if self._shut or not self._fin_taken else (Abort(), Finish(reason))
        commands: list[Command] = [Abort()] if tell_host else []
        if state in {State.VERDICT, State.CONNECTING}:
            commands.append(self._output.refusal())
        elif state is not State.TIME_WAIT:
            commands.append(self._output.reset(self.last_heard))
        commands.append(Finish(reason))
        return commands
