"""SEGMENT ARRIVES: what any segment of the client does in any state (RFC 9293 section 3.10.7). No I/O, no clock.

The order is the RFC's: the sequence number, then RST, SYN, ACK, the data, FIN. What nearly every segment is does not
come here: services.tcp_fwd.connection tries that first.
"""

from collections.abc import Sequence
from typing import Final

from netstack.packet import tcp
from netstack.packet.reason import Reason
from netstack.packet.seqnum import MASK, diff
from services.tcp_fwd.commands import Command, Drop, Emit, Write
from services.tcp_fwd.control_block import ControlBlock
from services.tcp_fwd.segment import Segment
from services.tcp_fwd.send_window import LIMIT
from services.tcp_fwd.states import AFTER_FIN, CLIENT_SENDS, State

PAWS_LASTS: Final = 24 * 86400.0  # seconds; RFC 7323 section 5.5: a timestamp older than that proves nothing


class Arrival(ControlBlock):
    """A connection as the client's segments see it."""

    __slots__ = ()

    def receive_other(self, segment: Segment, now: float) -> Sequence[Command]:
        """Any segment in any state, looked at in the order of RFC 9293 section 3.10.7."""
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
                segment = segment.stamped(*options.timestamps)
        if not self._in_window(segment, silent, now) or not segment.flags & tcp.ACK:
            return ()
        commands: list[Command] = []
        if self._receive_ack(segment, sack, commands, now):
            if self.state in CLIENT_SENDS and (segment.payload or segment.flags & tcp.FIN):
                self._receive_text(segment, commands, now)
            self._resend(commands, now)
        self._predict()
        return commands

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
                commands.append(self._send_fin(now))
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
            if receiver.refused:
                receiver.refused = False
                commands.append(Drop(Reason.OUT_OF_ORDER_LIMIT))
            if receiver.blocks and receiver.now_ack and not self._terms.sack:
                # Such a client counts the duplicates (RFC 5681 section 3.2).
                commands.append(self._output.acknowledgement(now))
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
