"""Any sequence of segments, verdicts, socket events and timeouts keeps what tests.services.tcp_fwd.invariants says.

The client is sane half of the time: it continues what it has sent, and acknowledges what it may. Else it says anything.
"""

from typing import Final

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from netstack.packet import tcp
from netstack.packet.reason import Reason
from netstack.packet.seqnum import MASK, diff
from services.tcp_fwd.connection import Connection
from services.tcp_fwd.limits import Buffers
from services.tcp_fwd.segment import Emitter
from services.tcp_fwd.states import CLIENT_SENDS, HOST_SENDS, NO_TIMEOUT, State
from tests.services.tcp_fwd.builders import FLOW, MSS, client_octets, host_octets, segment
from tests.services.tcp_fwd.invariants import Witness, receive

IRS = 0xFFFFFF00  # both directions cross the end of the circle
ISS = 0xFFFFFE00
FIN_ACK = tcp.FIN | tcp.ACK
BEFORE_SYN_ACK = {State.VERDICT, State.CONNECTING}


RARELY: Final = 37
"""Of a number up to something larger: hypothesis prefers those at the ends. Early ends leave nothing to be tried."""


class ConnectionMachine(RuleBasedStateMachine):
    @initialize(
        options=st.builds(
            tcp.Options, mss=st.sampled_from([None, 64, 100, 1460]), window_scale=st.sampled_from([None, 0, 7]),
            sack_permitted=st.booleans(), timestamps=st.sampled_from([None, (50, 0)]), sack=st.just(()),
        ),
        window=st.sampled_from([0, 100, 0xFFFF]), room=st.sampled_from([1 << 28, 1 << 19, 1 << 17]),
        capacity=st.sampled_from([1 << 30, 1 << 16, 3000]), at_once=st.sampled_from([True, True, True, False]),
    )  # fmt: skip
    def open(self, options: tcp.Options, window: int, room: int, capacity: int, at_once) -> None:
        """at_once: the connection is established, as most of what may happen to one needs it to be."""
        self.now = 100.0
        self.stamped = options.timestamps is not None
        self.tsval = 50
        self.nxt = 0  # the client's octets that it has sent in order
        self.fin_at: int | None = None
        self.highest = 0  # the end of the octets that it has sent: no FIN is before them
        self.took = 0
        syn = segment(seq=IRS, ack=0, flags=tcp.SYN, window=window, options=tcp.emit_options(options))
        buffers = Buffers(room)
        self.connection = Connection(
            syn, Emitter(FLOW, MSS), iss=ISS, now=self.now, buffers=buffers, idle_timeout=600.0
        )  # fmt: skip
        self.witness = Witness(self.connection, buffers, ISS, IRS, client_octets, host_octets)
        self.share_changes(capacity)
        if at_once:
            self.do(self.connection.verdict(None))
            self.witness.connected = True
            self.do(self.connection.socket_connected(self.now))
            self.send(seq=0, ack=self.acknowledgeable(1.0), flags=tcp.ACK, window=0xFFFF, length=0)

    def do(self, commands) -> None:
        self.witness.watch(commands, self.now)
        if self.witness.finished:
            return
        self.witness.watch(self.connection.flush(self.now), self.now)

    def over(self) -> bool:
        return not hasattr(self, "witness") or self.witness.finished

    # --- the tracker and the host socket ------------------------------------------------------------------------------

    @precondition(lambda self: not self.over() and self.connection.state is State.VERDICT)
    @rule(refusal=st.sampled_from([None, None, None, Reason.NOT_WHITELISTED]), answer=st.booleans())
    def verdict(self, refusal, answer) -> None:
        self.do(self.connection.verdict(refusal, answer=answer))

    @precondition(lambda self: not self.over() and self.connection.state is State.CONNECTING)
    @rule()
    def socket_connected(self) -> None:
        self.witness.connected = True
        self.do(self.connection.socket_connected(self.now))

    @precondition(lambda self: not self.over() and self.connection.state is State.CONNECTING)
    @rule(reason=st.sampled_from([Reason.CONNECTION_REFUSED, Reason.NET_UNREACHABLE, Reason.CONNECT_TIMEOUT]))
    def socket_refused(self, reason) -> None:
        self.do(self.connection.socket_refused(reason))

    @precondition(lambda self: not self.over() and self.connection.state in HOST_SENDS)
    @rule(size=st.integers(1, 70000), idle=st.booleans(), last=st.sampled_from([False] * 9 + [True]))
    def socket_data(self, size, idle, last) -> None:
        room = self.connection.room(self.now if idle else None)
        size = min(size, room, self.connection.emitter.max_payload)
        if size > 0:
            at = (self.connection.sender.snd_nxt - ISS - 1) & MASK
            give = self.connection.socket_last_data if last else self.connection.socket_data
            self.do(give(host_octets(at, size), self.now))

    @precondition(lambda self: not self.over() and self.connection.state in HOST_SENDS)
    @rule(
        sizes=st.lists(st.integers(1, 5000), min_size=1, max_size=3), share=st.sampled_from([0.2, 0.6, 1.0]),
        pause=st.sampled_from([0.0, 0.01, 0.02]),
    )  # fmt: skip
    def data_and_its_acknowledgement(self, sizes, share, pause) -> None:
        for size in sizes:
            self.socket_data(size, idle=False, last=False)
        self.wait(pause)
        if not self.over():
            self.tsval = max(self.tsval, self.connection.receiver.ts_recent)
            self.send(seq=self.next(), ack=self.acknowledgeable(share), flags=tcp.ACK, window=0xFFFF, length=0)

    @precondition(lambda self: not self.over() and self.connection.state in HOST_SENDS)
    @rule(seconds=st.sampled_from([0.1, 3.0]), length=st.sampled_from([0, 10]))
    def window_closes_and_opens(self, seconds, length) -> None:
        """A closed window is probed; data may open it."""
        self.tsval = max(self.tsval, self.connection.receiver.ts_recent)
        self.send(seq=self.next(), ack=self.acknowledgeable(1.0), flags=tcp.ACK, window=0, length=0)
        self.wait(seconds)
        if not self.over():
            length = min(length, self.connection.receiver.edge) if self.connection.state in CLIENT_SENDS else 0
            self.send(seq=self.next(), ack=self.acknowledgeable(1.0), flags=tcp.ACK, window=0xFFFF, length=length)

    @precondition(lambda self: not self.over() and self.connection.state not in BEFORE_SYN_ACK)
    @rule()
    def socket_ended(self) -> None:
        if not self.connection.host_ended:
            self.do(self.connection.socket_ended(self.now))

    @precondition(lambda self: not self.over() and self.connection.receiver.pending)
    @rule(share=st.floats(0, 1))
    def socket_took(self, share) -> None:
        octets = round(self.connection.receiver.pending * share)
        self.took += octets
        self.do(self.connection.socket_took(octets))

    @precondition(lambda self: not self.over())
    @rule(reset=st.booleans(), chance=st.integers(0, 99))
    def ends_suddenly(self, reset, chance) -> None:
        if chance != RARELY:
            return
        end = self.connection.socket_reset if reset else self.connection.abort
        self.do(end(Reason.SOCKET_ERROR))

    @precondition(lambda self: not self.over())
    @rule(mtu=st.integers(0, 2000))
    def path_mtu(self, mtu) -> None:
        self.do(self.connection.path_mtu(mtu, self.now))

    # --- the client ---------------------------------------------------------------------------------------------------

    def send(self, *, seq: int, ack: int, flags: int, window: int, length: int, options: bytes = b"") -> None:
        """seq and length count octets of the client's stream, which are always the same."""
        if self.fin_at is not None:
            length = min(length, max(self.fin_at - seq, 0))
        self.highest = max(self.highest, seq + length)
        data = client_octets(seq, length)
        one = segment(seq=IRS + 1 + seq, ack=ack, flags=flags, window=window, data=data, options=options)
        if self.stamped:
            one = one.stamped(self.tsval, self.connection.sender.stamp(self.now - 0.05))
        self.witness.fin_at = self.fin_at
        self.do(receive(self.connection, one, self.now))

    def next(self) -> int:
        """The client's octets that were taken in order."""
        return (self.connection.receiver.rcv_nxt - IRS - 1) & MASK

    def acknowledgeable(self, share: float) -> int:
        sender = self.connection.sender
        return (sender.snd_una + round(sender.in_flight * share)) & MASK

    @precondition(lambda self: not self.over() and self.connection.state not in BEFORE_SYN_ACK)
    @rule(
        length=st.integers(0, 3000), share=st.sampled_from([0.0, 0.3, 1.0]), window=st.sampled_from([0, 500, 0xFFFF]),
        fin=st.integers(0, 40), later=st.sampled_from([0.0, 0.001, 0.02]),
    )  # fmt: skip
    def sane_segment(self, length, share, window, fin, later) -> None:
        self.wait(later)
        if self.over():
            return
        self.tsval = max(self.tsval, self.connection.receiver.ts_recent) + round(later * 1000)
        length = min(length, self.connection.receiver.edge)
        seq = (self.connection.receiver.rcv_nxt - IRS - 1) & MASK
        flags = tcp.ACK
        if self.connection.state in {State.CLOSE_WAIT, State.CLOSING, State.LAST_ACK, State.TIME_WAIT}:
            length = 0
        elif fin == RARELY and self.fin_at is None and seq + length >= self.highest:
            self.fin_at = seq + length
        if self.fin_at is not None and seq + length >= self.fin_at >= seq:
            flags |= tcp.FIN
        greeting = self.connection.state is State.SYN_RECEIVED and share < 1.0
        self.send(seq=seq, ack=self.acknowledgeable(share), flags=flags, window=window, length=length)
        if not greeting and not self.over():
            end = seq + length if self.fin_at is None else min(seq + length, self.fin_at)
            assert diff(self.next(), end) >= 0, "what comes in its turn, in the window and in time, is taken"

    @precondition(lambda self: not self.over() and self.connection.state in CLIENT_SENDS and self.stamped)
    @rule(behind=st.sampled_from([1, 2, 1000]))
    def segment_of_long_ago(self, behind) -> None:
        """RFC 7323 section 5.3: R1."""
        before, tsval = self.connection.receiver.rcv_nxt, self.tsval
        self.tsval = (self.connection.receiver.ts_recent - behind) & MASK
        self.send(seq=self.next(), ack=self.acknowledgeable(0.0), flags=tcp.ACK, window=0xFFFF, length=1)
        self.tsval = tsval
        assert self.connection.receiver.rcv_nxt == before

    @precondition(
        lambda self: (
            not self.over() and self.fin_at is None and self.connection.state in CLIENT_SENDS
            and self.connection.receiver.edge > 2 and not self.connection.receiver.blocks
        )
    )  # fmt: skip
    @rule(hole=st.integers(1, 1000), length=st.sampled_from([0, 0, 1, 1000]), chance=st.integers(34, 41))
    def fin_before_what_it_follows(self, hole, length, chance) -> None:
        """The FIN, whose segment came ahead, counts when the hole is filled, though it does not come again."""
        hole = min(hole, self.connection.receiver.edge - 1)
        length = min(length, self.connection.receiver.edge - hole)
        if chance != RARELY or self.next() + hole + length < self.highest:
            return
        start, window, ack = self.next(), 0xFFFF, self.acknowledgeable(1.0)
        self.tsval = max(self.tsval, self.connection.receiver.ts_recent) + 1
        self.fin_at = start + hole + length
        self.send(seq=start + hole, ack=ack, flags=FIN_ACK, window=window, length=length)
        self.send(seq=start, ack=ack, flags=tcp.ACK, window=window, length=hole)
        if self.over():
            return
        kept = length == 0 or self.next() > start + hole  # else there was no room for what came ahead
        if not kept:
            self.send(seq=start + hole, ack=ack, flags=tcp.ACK, window=window, length=length)
        assert self.connection.state not in CLIENT_SENDS
        assert self.witness.last_ack == (IRS + 2 + self.fin_at) & MASK

    @precondition(lambda self: not self.over())
    @rule(capacity=st.integers(1000, 1 << 21))
    def share_changes(self, capacity) -> None:
        """The shell lowers the room of a flow where many octets wait in all, and gives it back."""
        self.connection.receiver.capacity = min(capacity, self.witness.capacity)

    @precondition(lambda self: not self.over() and self.connection.state not in BEFORE_SYN_ACK)
    @rule(ahead=st.integers(-3000, 9000), length=st.integers(0, 3000), share=st.sampled_from([0.0, 1.0]))
    def data_out_of_order(self, ahead, length, share) -> None:
        self.tsval += 1
        seq = max(((self.connection.receiver.rcv_nxt - IRS - 1) & MASK) + ahead, 0)
        if self.connection.state not in {State.CLOSE_WAIT, State.CLOSING, State.LAST_ACK, State.TIME_WAIT}:
            self.send(seq=seq, ack=self.acknowledgeable(share), flags=tcp.ACK, window=0xFFFF, length=length)

    @precondition(
        lambda self: not self.over() and self.connection.state in CLIENT_SENDS and self.connection.receiver.edge > 0
    )
    @rule(beyond=st.sampled_from([1, 1, 0, -1, 2]), took=st.booleans())
    def data_to_the_edge(self, beyond, took) -> None:
        """What is beyond the window is not taken."""
        self.tsval = max(self.tsval, self.connection.receiver.ts_recent)
        start, edge = self.next(), self.connection.receiver.edge
        self.send(seq=start, ack=self.acknowledgeable(0.0), flags=tcp.ACK, window=0xFFFF, length=edge + beyond)
        if self.over():
            return
        assert self.next() <= start + edge + (self.fin_at is not None)
        if took and (pending := self.connection.receiver.pending):
            self.do(self.connection.socket_took(pending))

    @precondition(lambda self: not self.over() and self.connection.state not in BEFORE_SYN_ACK)
    @rule(beyond=st.integers(-1, 2), length=st.sampled_from([0, 0, 100]))
    def acknowledgement_about_the_end(self, beyond, length) -> None:
        """What was never sent is not acknowledged, and a segment that says so is dropped (RFC 5961 section 5.2)."""
        self.tsval = max(self.tsval, self.connection.receiver.ts_recent)
        sender, before = self.connection.sender, (self.connection.sender.snd_una, self.next())
        length = min(length, self.connection.receiver.edge) if self.connection.state in CLIENT_SENDS else 0
        self.send(seq=before[1], ack=(sender.snd_nxt + beyond) & MASK, flags=tcp.ACK, window=0xFFFF, length=length)
        if beyond > 0:
            assert (sender.snd_una, self.next()) == before

    @precondition(lambda self: not self.over() and self.connection.sender.in_flight > 100)
    @rule(share=st.floats(0.01, 0.99))
    def part_is_acknowledged_and_then_nothing(self, share) -> None:
        """As far as the retransmission timeout; what is sent again is looked at by the witness."""
        self.tsval = max(self.tsval, self.connection.receiver.ts_recent)
        ack = self.acknowledgeable(share)
        self.send(seq=self.next(), ack=ack, flags=tcp.ACK, window=0xFFFF, length=0)
        before = self.connection.sender.retransmissions
        while not self.over() and self.connection.sender.retransmissions == before:
            due = self.connection.next_timeout()
            assert due is not None
            self.fire(due)

    @precondition(lambda self: not self.over() and self.connection.sender.in_flight > 1)
    @rule(
        edges=st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=3),
        share=st.sampled_from([0.0, 0.1]), old=st.booleans(),
    )  # fmt: skip
    def selective_acknowledgement(self, edges, share, old) -> None:
        sender = self.connection.sender
        blocks = [tuple(sorted((self.acknowledgeable(left), self.acknowledgeable(right)))) for left, right in edges]
        if old:
            blocks.insert(0, ((sender.snd_una - 100) & MASK, sender.snd_una))
        self.send(
            seq=(self.connection.receiver.rcv_nxt - IRS - 1) & MASK, ack=self.acknowledgeable(share), flags=tcp.ACK,
            window=0xFFFF, length=0, options=tcp.emit_sack(blocks[:3]),
        )  # fmt: skip

    @precondition(lambda self: not self.over())
    @rule(
        seq=st.integers(-2000, 5000), ack=st.integers(-5000, 5000) | st.integers(-(1 << 31), 1 << 31),
        flags=st.sampled_from([tcp.ACK, 0]) | st.integers(0, 255),
        window=st.integers(0, 0xFFFF), length=st.integers(0, 100),
        stamp=st.integers(-5, 5), options=st.sampled_from([b"", b"\x01\x01\x05\x0a" + bytes(8), b"\x08"]),
    )  # fmt: skip
    def any_segment(self, seq, ack, flags, window, length, stamp, options) -> None:
        self.tsval += stamp
        number = max(((self.connection.receiver.rcv_nxt - IRS - 1) & MASK) + seq, 0)
        if flags & tcp.FIN:
            if self.fin_at is not None:
                flags &= ~tcp.FIN
            elif number + length >= max(self.highest, self.next()):
                self.fin_at = number + length
            else:
                flags &= ~tcp.FIN
        ack = (self.connection.sender.snd_una + ack) & MASK
        self.send(seq=number, ack=ack, flags=flags, window=window, length=length, options=options)

    # --- time ---------------------------------------------------------------------------------------------------------

    @precondition(lambda self: not self.over())
    @rule(seconds=st.sampled_from([0.001, 0.01, 0.06, 0.3, 2.0, 30.0, 400.0]))
    def wait(self, seconds) -> None:
        end = self.now + seconds
        fired = 0
        while not self.over() and (due := self.connection.next_timeout()) is not None and due <= end:
            self.fire(due)
            fired += 1
            assert fired < 300, "timers do not spin"
        self.now = end

    def fire(self, due: float) -> None:
        self.now = max(self.now, due)
        self.do(self.connection.handle_timeout(self.now))
        if not self.over():
            due = self.connection.next_timeout()
            assert due is None or due > self.now, "what has run out is dealt with"

    @precondition(lambda self: self.over())
    @rule()
    def after_the_end(self) -> None:
        """The shell has forgotten it; a timer that was under way does nothing."""
        if self.connection.state is State.CLOSED:
            assert self.connection.handle_timeout(self.now) == ()

    def do_what_it_should(self) -> None:
        """The far end takes everything; the client acknowledges all, and fills the first hole."""
        receiver = self.connection.receiver
        if receiver.pending:
            self.do(self.connection.socket_took(receiver.pending))
        if self.over() or self.connection.state in NO_TIMEOUT:
            return
        self.tsval = max(self.tsval, receiver.ts_recent) + 1
        start, length, flags = self.next(), 0, tcp.ACK
        if self.connection.state in CLIENT_SENDS:
            end = start + receiver.edge if self.fin_at is None else self.fin_at
            if receiver.blocks:
                end = min(end, (receiver.blocks[0].seq - IRS - 1) & MASK)
            length = max(min(end - start, receiver.edge, 5000), 0)
            if start + length == self.fin_at:
                flags |= tcp.FIN
            elif not receiver.blocks and self.fin_at is None:
                length = min(length, max(diff(self.connection.sender.wl1, receiver.rcv_nxt), 0))
        self.send(seq=start, ack=self.acknowledgeable(1.0), flags=flags, window=0xFFFF, length=length)

    @precondition(lambda self: not self.over() and self.connection.state not in BEFORE_SYN_ACK | NO_TIMEOUT)
    @rule(turns=st.integers(1, 5))
    def all_is_well_for_a_while(self, turns) -> None:
        """What is predicted is tried only where nothing is missing."""
        for _ in range(turns):
            if self.over() or self.connection.state in NO_TIMEOUT or (self.fin_at is not None and turns < 5):
                return
            self.do_what_it_should()

    def teardown(self) -> None:
        """A client that does all that it should gets everything through, whatever came before."""
        if self.over() or self.connection.state in BEFORE_SYN_ACK | NO_TIMEOUT:
            return
        for _ in range(60):
            self.do_what_it_should()
            if self.over() or self.connection.state in NO_TIMEOUT:
                return
        if self.connection.receiver.pending:
            self.do(self.connection.socket_took(self.connection.receiver.pending))
        assert self.connection.sender.in_flight == 0, "everything is acknowledged"
        # What a client sends after its FIN is never asked for.
        assert self.connection.receiver.blocks == [] or self.fin_at is not None, "every hole is filled"
        assert self.fin_at is None or self.next() <= self.fin_at or self.witness.shut

    @invariant()
    def holds(self) -> None:
        if hasattr(self, "witness"):
            self.witness.check()


TestConnectionMachine = ConnectionMachine.TestCase
# An example is fifty steps of a hundred milliseconds in all: no more than 100 of them at night either.
TestConnectionMachine.settings = settings(max_examples=min(settings().max_examples, 100), stateful_step_count=50)
