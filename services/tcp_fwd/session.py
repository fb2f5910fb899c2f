"""One connection and its host socket: carries out what the connection decides.

Writes of one burst leave in one sendmsg. The host socket's readiness comes in edges (services.tcp_fwd.poller): what an
edge announced stays true until a read or write finds the end of it, so that nothing is read only to be told that there
is nothing, and a socket whose client's window is closed costs nothing.
"""

import errno
import socket
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from netstack.packet.errqueue import SocketError
from netstack.packet.flow import Flow
from netstack.packet.frame import IP
from netstack.packet.reason import Reason
from netstack.packet.seqnum import MASK, diff
from netstack.wire.arena import HEADROOM, LARGE, Slot
from services.tcp_fwd import host as hosts
from services.tcp_fwd import unreachable
from services.tcp_fwd.commands import Abort, Command, Connect, Drop, Emit, Finish, ShutdownWrite, Unreachable, Write
from services.tcp_fwd.connection import Connection
from services.tcp_fwd.naming import Naming
from services.tcp_fwd.poller import CONNECTED, ENDED, FAILED, FIN, READABLE, WRITABLE
from services.tcp_fwd.segment import Segment
from services.tcp_fwd.states import State

if TYPE_CHECKING:
    from services.tcp_fwd.service import Forwarder

READS: Final = 4  # receive calls of up to 64 KiB in a row; then the other sockets get their turn
MAX_VECTOR: Final = 64  # buffers of one sendmsg; far below IOV_MAX
_IN_PROGRESS: Final = errno.EINPROGRESS
HALF_OPEN: Final = frozenset({State.VERDICT, State.CONNECTING, State.SYN_RECEIVED})


class Session:
    """The shell around a Connection."""

    __slots__ = (
        "_at_end", "_at_fin", "_blocked", "_capacity", "_connecting", "_forwarder", "_host", "_lent", "_out",
        "_out_octets", "_readable", "_tended", "connect_at", "connection", "entry", "flow", "half_open", "held", "key",
        "name", "naming", "opened_at", "syn", "trace_id",
    )  # fmt: skip

    def __init__(self, forwarder: "Forwarder", key: bytes, flow: Flow, connection: Connection, syn: bytes) -> None:
        self._forwarder = forwarder
        self.key = key
        self.flow = flow
        self.connection = connection
        self.syn: bytes | None = syn
        """The frame that opened the flow, until it is answered: an ICMP error quotes it."""
        self.opened_at = forwarder.now()
        self.entry: list[Any] | None = None
        self.trace_id = 0
        self.half_open = True
        """The client has not acknowledged our SYN yet."""
        self.held = 0
        """Octets that wait, in both directions, as last counted."""
        self.naming: Naming | None = None
        """Until it is decided what the client's first octets are."""
        self.name: str | None = None
        """The server that they name (TLS server name, HTTP Host); None where they name none."""
        self._capacity = connection.receiver.capacity
        self._host: socket.SocketType | None = None
        self.connect_at = 0.0
        """When the host socket began to connect."""
        self._connecting = False
        self._tended = False
        self._readable = False  # an edge said so, and no read has found the end of it
        self._at_end = False  # no edge will come after this one
        self._at_fin = False  # nor will octets: a read that gives fewer than were asked for has given the last
        self._blocked = False  # the host socket takes nothing more until an edge says that it does
        self._out: deque[bytes | memoryview] = deque()
        self._out_octets = 0
        self._lent: deque[tuple[int, Slot]] = deque()  # (sequence number after it, where it lies), unacknowledged

    def next_timeout(self) -> float | None:
        """The connection's timer. While connecting there is none: see Timing.connecting."""
        return self.connection.next_timeout()

    def handle_timeout(self, now: float) -> None:
        """A time given by next_timeout has come."""
        self.execute(self.connection.handle_timeout(now))
        self.settle()

    def execute(self, commands: Sequence[Command]) -> None:
        """Carry out commands in order."""
        for command in commands:
            kind = type(command)
            if kind is Emit:
                self._emit(command)  # type: ignore[arg-type]
            elif kind is Write:
                self._write(command.data)  # type: ignore[union-attr]
            else:
                self._execute_rare(command)

    def receive(self, segment: Segment, now: float) -> None:
        """A segment of the client: nearly always the expected one, and then there is no command to carry out."""
        connection = self.connection
        if connection.receive_predicted(segment, now):
            if segment.payload:
                self._write(segment.payload)
        else:
            self.execute(connection.receive_other(segment, now))

    def _write(self, data: bytes | memoryview) -> None:
        """The host socket gets it in `settle`."""
        self._out.append(bytes(data) if self._blocked else data)
        self._out_octets += len(data)
        if self.naming is not None:
            self.naming.client_spoke(data)

    def _emit(self, command: Emit) -> None:
        if command.payload:
            self._forwarder.tunnel.write_parts(command.head, command.payload, self.trace_id)
        else:
            self._forwarder.tunnel.write(command.head, self.trace_id)

    def _execute_rare(self, command: Command) -> None:
        match command:
            case Connect():
                self._connect()
            case ShutdownWrite():
                self._shutdown_write()
            case Abort():
                self._close_host(reset=True)
            case Unreachable(reason, error):
                if self.syn is not None:
                    self._forwarder.unreachable(self.syn[IP:], reason, error, self.trace_id)
            case Drop(reason):
                self._forwarder.drop(reason)
            case Finish(reason):
                self._close_host(reset=False)
                while self._lent:
                    self._lent.popleft()[1].release()
                self._forwarder.finished(self, reason)

    def settle(self) -> None:
        """A burst of events is over: write, acknowledge, read on if the window opened, and set the timer."""
        connection = self.connection
        if self.half_open and connection.state not in HALF_OPEN:
            self.half_open = False
            self._forwarder.established(self)
        if self.naming is not None:
            self._forwarder.namer.look(self)
        if self._out and not self._blocked:
            self._write_out()
        receiver = connection.receiver
        sender = connection.sender
        held = receiver.pending + ((sender.snd_nxt - sender.snd_una) & MASK)
        if held != self.held or receiver.capacity < self._capacity:
            self._count_held(held)
        if receiver.now_ack:
            for command in connection.flush(self._forwarder.now()):
                self._emit(command)  # type: ignore[arg-type]
        if self._lent:
            self._acknowledged()
        if self._readable:
            self._read_on()
        if receiver.ack_due_at is not None:
            self._forwarder.timing.acknowledge_soon(self)
        timer = sender.timer
        entry = self.entry
        # Without a timer only keepalive is due, and that is in the heap; or a closed window is to be watched.
        if entry is None or (timer is not None and timer < entry[0]) or (timer is None and not sender.snd_wnd):
            self._forwarder.timing.schedule(self)

    def _acknowledged(self) -> None:
        """What the client has need not be kept for sending it again."""
        lent = self._lent
        una = self.connection.sender.snd_una
        while lent and diff(una, lent[0][0]) >= 0:
            lent.popleft()[1].release()

    def _count_held(self, held: int) -> None:
        """So many octets wait; where many do in all flows, take no more of the client than its share."""
        if self._host is None:
            return  # not yet connected, or over
        buffers = self._forwarder.buffers
        receiver = self.connection.receiver
        buffers.used += held - self.held
        self.held = held
        if buffers.used > buffers.limit >> 1 or receiver.capacity < self._capacity:
            receiver.capacity = min(self._capacity, buffers.share())

    def give_way(self, reason: Reason) -> None:
        """End without a word, as if the SYN had been lost: the client asks again."""
        self.connection.abort(reason)
        self._close_host(reset=True)
        self._forwarder.finished(self, reason)

    # --- connecting ---------------------------------------------------------------------------------------------------

    def _connect(self) -> None:
        forwarder = self._forwarder
        self.connect_at = forwarder.now()
        try:
            if self.flow.server_port == forwarder.dns_port:
                self._host, code = hosts.connect_dns(self.flow, forwarder.dns_directory)
            else:
                assert self.syn is not None
                self._host, code = hosts.connect(self.flow, self.syn[IP:])
        except OSError as error:
            self._failed_to_connect(hosts.reason_of(error.errno or errno.EIO))
            return
        if code == 0:
            self._connected()
            if self._host is not None:
                forwarder.poller.add(self._host.fileno(), self._event)
        elif code == _IN_PROGRESS:
            self._connecting = True
            forwarder.poller.add(self._host.fileno(), self._event)
            forwarder.timing.connecting(self)
        else:
            self._failed_to_connect(hosts.reason_of(code))

    def connect_timed_out(self) -> None:
        """The far end has not answered for tcp.connect_timeout seconds."""
        self._failed_to_connect(Reason.CONNECT_TIMEOUT)

    def tend(self, idle_timeout: float) -> None:
        """The connection has lasted for a while: a far end that falls silent is given up after idle_timeout."""
        if self._tended or self._connecting or self._host is None:
            return
        self._tended = True
        if self._host.family != socket.AF_UNIX:
            hosts.tend(self._host, idle_timeout)

    def _connect_ended(self, events: int) -> None:
        assert self._host is not None
        code = self._host.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) if events & FAILED else 0
        if not code and events & CONNECTED:
            self._stop_connecting()
            self._connected()
            return
        error = hosts.error_of(self._host)
        # An ICMP error that came while the SYN was being sent is in the queue, and the kernel goes on trying; the
        # client, which has sent one SYN, gets one answer.
        code = code or (error.errno if error is not None else 0)
        if code:
            self._failed_to_connect(hosts.reason_of(code), error)

    def _connected(self) -> None:
        forwarder = self._forwarder
        if self.trace_id:
            forwarder.hop(self, "connected", at=self.connect_at)
        self.execute(self.connection.socket_connected(forwarder.now()))
        if self.flow.server_port != forwarder.dns_port:
            self.naming = forwarder.namer.begin(self.trace_id)
        self.syn = None
        self.trace_id = 0
        forwarder.timing.schedule(self)

    def _failed_to_connect(self, reason: Reason, error: SocketError | None = None) -> None:
        if error is not None:
            reason = unreachable.reason_of(error, reason)
        if self.trace_id:
            self._forwarder.hop(self, "connect failed", reason.value, at=self.connect_at)
        self._stop_connecting()
        self.execute(self.connection.socket_refused(reason, error))

    def _stop_connecting(self) -> None:
        if self._connecting:
            self._connecting = False
            self._forwarder.timing.connect_ended(self)

    def _event(self, events: int) -> None:
        """What epoll says of the host socket."""
        if self._connecting:
            if events & WRITABLE:
                self._connect_ended(events)
            return
        if events & WRITABLE and self._blocked and not (self.naming is not None and self.naming.held):
            self._blocked = False
            self._write_out()
        if events & READABLE:
            self._readable = True
            if events & ENDED:
                self._at_end = True
                self._at_fin = events & ENDED == FIN
            self._read()
        self.settle()

    # --- host -> client -----------------------------------------------------------------------------------------------

    def _read_on(self) -> None:
        """Read what was left when the window closed, once it has opened enough to be worth it."""
        if self.connection.room() > 0:
            self._read()

    def resume(self) -> None:
        """The link to tun_io has room again, or it is this one's turn again."""
        if self._readable:
            self._read()
            self.settle()

    def _read(self) -> None:
        connection = self.connection
        tunnel = self._forwarder.tunnel
        now = self._forwarder.now()
        for _ in range(READS):
            host = self._host
            room = self._room(now)
            if host is None or room <= 0:
                return
            if tunnel.congested:
                self._forwarder.hold(self)
                return
            want = min(room, connection.emitter.max_payload)
            slot = tunnel.slot()
            try:
                if slot is None:
                    data = host.recv(want)
                    octets = len(data)
                else:
                    octets = host.recv_into(slot.payload, want)
            except BlockingIOError:
                self._readable = False
                octets = -1
            except OSError as error:
                self._readable = self._was_soft(error)
                octets = -1
            if octets <= 0:
                if slot is not None:
                    slot.release()
                if octets == 0:
                    self._readable = False
                    self.execute(connection.socket_ended(now))
                return
            if slot is None:
                self.execute(connection.socket_data(data, now))
            elif octets < LARGE:
                is_last = self._at_end and octets < want and (self._at_fin or _is_over(host))
                self._send_small(slot, octets, now, is_last=is_last)
            else:
                self._send_slot(slot, octets, now)
            if self.naming is not None:
                self._forwarder.namer.server_spoke(self)
            if not self._readable or (octets < want and not self._at_end):
                self._readable = False
                return
        self._forwarder.continue_later(self)

    def _was_soft(self, error: OSError) -> bool:
        """What a failed read means: True where it is to be tried again; else the connection is reset."""
        number = error.errno or errno.EIO
        if self._host is not None and hosts.was_soft(self._host, number):
            self._forwarder.continue_later(self)
            return True
        self.execute(self.connection.socket_reset(hosts.reason_of_end(number)))
        return False

    def _room(self, now: float | None = None) -> int:
        """How many octets may be read from the host socket now; where many wait in all flows, within its share."""
        connection = self.connection
        room = connection.room(now)
        buffers = self._forwarder.buffers
        if buffers.used > buffers.limit >> 1:
            room = min(room, buffers.share() - connection.sender.in_flight)
            if room < connection.emitter.gso_size:
                return 0
        return room

    def _send_small(self, slot: Slot, octets: int, now: float, *, is_last: bool) -> None:
        """Send what the host socket put into a slot, where keeping the slot for it would be a waste.

        is_last says that nothing follows.
        """
        start = slot.position + HEADROOM
        data = slot.memory[start : start + octets]
        slot.release()
        self._readable = not is_last
        connection = self.connection
        if is_last:
            self.execute(connection.socket_last_data(data, now))
        elif head := connection.data_head(data, octets, now):
            self._forwarder.tunnel.write_parts(head, data, self.trace_id)

    def _send_slot(self, slot: Slot, octets: int, now: float) -> None:
        """Send what the host socket put into a slot from there, and keep it until it is acknowledged."""
        connection = self.connection
        data = slot.payload[:octets]
        if head := connection.data_head(data, octets, now):
            self._forwarder.tunnel.write_slot(slot, head, octets, self.trace_id)
        self._lent.append((connection.sender.snd_nxt, slot))

    # --- client -> host -----------------------------------------------------------------------------------------------

    def _write_out(self) -> None:
        out = self._out
        if len(out) == 1 and self._host is not None:
            data = out[0]
            try:
                taken = self._host.send(data)
            except OSError:
                taken = 0  # it is found out below why
            if taken == len(data):
                out.clear()
                self._out_octets = 0
                if commands := self.connection.socket_took(taken):
                    self.execute(commands)
                return
            if taken:
                self._taken(taken)
        while out and self._host is not None:
            some = [out[0]] if len(out) == 1 else [out[index] for index in range(min(len(out), MAX_VECTOR))]
            offered = sum(map(len, some))
            try:
                taken = self._host.send(some[0]) if len(some) == 1 else self._host.sendmsg(some)
            except BlockingIOError:
                taken = 0
            except OSError as error:
                if hosts.was_soft(self._host, error.errno or errno.EIO):
                    continue
                self.execute(self.connection.socket_reset(hosts.reason_of_end(error.errno or errno.EIO)))
                return
            if taken:
                self._taken(taken)
            if taken < offered:
                # Only now will an edge say that there is room again. What waits is copied: it lies in memory that
                # tun_io is about to use again.
                self._out = deque(map(bytes, self._out))
                self._blocked = True
                return

    def hold(self) -> None:
        """Give the host socket nothing until `release`, as if it took nothing."""
        self._out = deque(map(bytes, self._out))
        self._blocked = True

    def release(self) -> None:
        """What waited since `hold` may go."""
        self._blocked = False
        self.settle()

    def _taken(self, octets: int) -> None:
        out = self._out
        if octets == self._out_octets:
            out.clear()
            rest = 0
        else:
            rest = octets
        self._out_octets -= octets
        while rest:
            first = out[0]
            if len(first) <= rest:
                rest -= len(first)
                out.popleft()
            else:
                out[0] = memoryview(first)[rest:]
                rest = 0
        self.execute(self.connection.socket_took(octets))

    def _shutdown_write(self) -> None:
        if self._host is None:
            return
        try:
            self._host.shutdown(socket.SHUT_WR)
        except OSError as error:
            # The far end has reset it: the next read says so.
            if error.errno != errno.ENOTCONN:
                raise

    def _close_host(self, *, reset: bool) -> None:
        if self._host is None:
            return
        self._forwarder.poller.remove(self._host.fileno())
        self._stop_connecting()
        self._readable = self._blocked = False
        hosts.close(self._host, reset=reset)
        self._host = None
        self.naming = None
        self._out.clear()
        self._out_octets = 0


def _is_over(host: socket.SocketType) -> bool:
    """Whether the far end has closed, and all that it sent was read."""
    try:
        return not host.recv(1, socket.MSG_PEEK)
    except OSError:
        return False
