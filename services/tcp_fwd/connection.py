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
out of order. That is tried first (`receive_predicted`; Van Jacobson 1988); all else goes the RFC's way.
"""

from collections.abc import Sequence
from typing import Final

from netstack.packet import tcp
from netstack.packet.errqueue import SocketError
from netstack.packet.icmp_error import MIN_MTU_V4, MIN_MTU_V6
from netstack.packet.reason import Reason
from netstack.packet.seqnum import MASK
from services.tcp_fwd.arrival import Arrival
from services.tcp_fwd.commands import CONNECT, Command, Emit, Finish, Unreachable, Write
from services.tcp_fwd.control_block import DATA
from services.tcp_fwd.segment import Segment
from services.tcp_fwd.send_window import Alarm
from services.tcp_fwd.sending import MAX_RETRANSMISSIONS
from services.tcp_fwd.states import CLIENT_SENDS, HOST_SENDS, NO_TIMEOUT, SILENT, State
from services.tcp_fwd.unreachable import TELLS

# What follows is for the path of every segment: an attribute of an Enum, or of a module, costs more than a name here.
_ESTABLISHED: Final = State.ESTABLISHED
_CLOSE_WAIT: Final = State.CLOSE_WAIT
_ACK: Final = tcp.ACK
_DATA: Final = DATA
_PREDICTED: Final = tcp.FIN | tcp.SYN | tcp.RST | tcp.ACK  # PSH, URG, ECE and CWR mean nothing to us
_HALF: Final = 1 << 31


class Connection(Arrival):
    """What the shell calls, and may know: emitter, receiver, sender, state, host_ended and last_heard.

    What a segment does is inherited from Arrival, the variables from ControlBlock.
    """

    __slots__ = ()

    # --- what the tracker and the host socket say ---------------------------------------------------------------------

    def verdict(self, refusal: Reason | None, *, answer: bool = True) -> Sequence[Command]:
        """The tracker decided; refusal is None where the flow may go on. A refused SYN gets a RST, or silence."""
        if self.state is not State.VERDICT:
            return ()
        if refusal is None:
            self.state = State.CONNECTING
            return (CONNECT,)
        return self._refuse(refusal, answer=answer)

    def socket_connected(self, now: float) -> Sequence[Command]:
        """The far end accepted: now, and only now, the SYN is answered."""
        if self.state is not State.CONNECTING:
            return ()
        self.state = State.SYN_RECEIVED
        self.sender.take(b"", 1, now)
        return (self._output.syn_ack(now),)

    def socket_refused(self, reason: Reason, error: SocketError | None = None) -> Sequence[Command]:
        """connect() failed. Refused: RST; unreachable: the ICMP error; no answer: nothing, as the network gave none.

        error is what an ICMP error said of it, if one did; that is told on as it is. Then the flow is forgotten, so
        that a client that does not give up, and sends its SYN again, has it tried again, as a router would.
        """
        if self.state is not State.CONNECTING:
            return ()
        if error is not None or reason in TELLS:
            self.state = State.CLOSED
            return (Unreachable(reason, error), Finish(reason))
        return self._refuse(reason, answer=reason is not Reason.CONNECT_TIMEOUT)

    def socket_data(self, data: bytes | memoryview, now: float) -> Sequence[Command]:
        """The host socket gave octets, no more than `room` said and no more than the emitter's max_payload.

        They are not copied: they must stay as they are until sender.snd_una has passed them.
        """
        head = self.data_head(data, len(data), now)
        return (Emit(head, data),) if head else ()

    def data_head(self, data: bytes | memoryview, length: int, now: float) -> bytes:
        """The same event: what goes in front of the octets, of which there are `length`; empty where none may go."""
        state = self.state
        if state is not _ESTABLISHED and state is not _CLOSE_WAIT:
            return b""
        sender = self.sender
        receiver = self.receiver
        seq = sender.take(data, length, now)
        if not receiver.blocks and receiver.duplicate is None:  # a SACK wants an acknowledgement of its own
            receiver.now_ack = False
            receiver.unacked = 0
            receiver.ack_due_at = None
        if self._timestamps:
            return self.emitter.head(
                seq, receiver.rcv_nxt, _DATA, receiver.window(), length, sender.stamp(now), receiver.ts_recent
            )
        return self.emitter.head(seq, receiver.rcv_nxt, _DATA, receiver.window(), length)

    def socket_last_data(self, data: bytes | memoryview, now: float) -> Sequence[Command]:
        """The same, where these are the host socket's last octets: the FIN leaves with them."""
        self.host_ended = True
        if self.state not in HOST_SENDS:
            return ()
        seq = self.sender.take(data, len(data), now)
        self._fin_leaves(now)
        return (self._output.segment(seq, _DATA | tcp.FIN, now, data),)

    def socket_ended(self, now: float) -> Sequence[Command]:
        """The host socket gave its last octet: our FIN follows the data."""
        self.host_ended = True
        return (self._send_fin(now),) if self.state in HOST_SENDS else ()

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
        # (tcp_tso_should_defer), not a short train either while acknowledgements are on their way that make it longer.
        # But what waits is not in flight: a quarter of the window cost a sixth of the goodput at 1 % loss.
        emitter = self.emitter
        cwnd = sender.congestion.cwnd
        worth = cwnd >> 3
        if worth < 2 * emitter.gso_size:
            worth = emitter.gso_size if cwnd < 6 * emitter.gso_size else 2 * emitter.gso_size
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
        if self.receive_predicted(segment, now):
            return (Write(segment.payload),) if segment.payload else ()
        return self.receive_other(segment, now)

    def receive_predicted(self, segment: Segment, now: float) -> bool:
        """The same event, where it is the expected one: then its payload, if any, is to be written to the host socket.

        False where it is another one, of which nothing was taken: that is for `receive_other`.
        """
        if not self._predicted:
            return False
        receiver = self.receiver
        sender = self.sender
        seq, ack, window, tsval = segment.seq, segment.ack, segment.window, segment.tsval
        if (
            seq != receiver.rcv_nxt or segment.flags & _PREDICTED != _ACK
            or segment.options or not window or not sender.snd_wnd
        ):  # fmt: skip
            return False
        length = len(segment.payload)
        advanced = (ack - sender.snd_una) & MASK
        if length > receiver.edge or advanced > (sender.snd_nxt - sender.snd_una) & MASK or not (length or advanced):
            return False
        if self._timestamps:
            if tsval < 0 or (tsval - receiver.ts_recent) & MASK >= _HALF:
                return False
            if not receiver.unacked:  # else an earlier segment's is to be echoed (RFC 7323 section 4.3)
                receiver.ts_recent = tsval
        self.last_heard = now
        sender.wl1 = seq
        sender.snd_wnd = window << sender.scale
        if advanced:
            sender.advance(ack, now)
        if length:
            receiver.advance(length, now)
        return True

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

    def _refuse(self, reason: Reason, *, answer: bool) -> Sequence[Command]:
        self.state = State.CLOSED
        if not answer:
            return (Finish(reason),)
        return (self._output.refusal(), Finish(reason))
