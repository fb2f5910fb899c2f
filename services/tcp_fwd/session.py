"""One connection and its host socket: carries out what the connection decides.

Writes of one burst leave in one sendmsg. The host socket is read when the loop says that it is readable, and stopped
while the client's window is closed; whether it was readable when it was stopped is remembered, so that no read ends in
EAGAIN.
"""

import errno
import socket
from collections import deque
from typing import TYPE_CHECKING, Final

from netstack.packet.flow import Flow
from netstack.packet.frame import IP
from netstack.packet.reason import Reason
from services.tcp_fwd import host as hosts
from services.tcp_fwd.commands import Abort, Command, Connect, Emit, Finish, ShutdownWrite, Unreachable, Write
from services.tcp_fwd.connection import HOST_SENDS, Connection, State

if TYPE_CHECKING:
    from services.tcp_fwd.service import Forwarder

READS: Final = 4  # receive calls of up to 64 KiB in a row; then the other sockets get their turn
MAX_VECTOR: Final = 64  # buffers of one sendmsg; far below IOV_MAX


class Session:
    """The shell around a Connection."""

    __slots__ = (
        "_connect_at", "_connecting", "_forwarder", "_host", "_out", "_out_octets", "_reading", "_stalled", "_writing",
        "connection", "flow", "key", "opened_at", "scheduled", "syn", "trace_id",
    )  # fmt: skip

    def __init__(self, forwarder: "Forwarder", key: bytes, flow: Flow, connection: Connection, syn: bytes) -> None:
        self._forwarder = forwarder
        self.key = key
        self.flow = flow
        self.connection = connection
        self.syn: bytes | None = syn
        """The frame that opened the flow, until it is answered: an ICMP error quotes it."""
        self.opened_at = forwarder.now()
        self.scheduled: float | None = None
        self.trace_id = 0
        self._host: socket.socket | None = None
        self._connect_at = 0.0
        self._connecting = False
        self._reading = False
        self._writing = False
        self._stalled = False
        self._out: deque[memoryview] = deque()
        self._out_octets = 0

    def next_timeout(self) -> float | None:
        """The earlier of the connection's timer and, while connecting, the connect timeout."""
        if self._connecting:
            return self.opened_at + self._forwarder.connect_timeout
        return self.connection.next_timeout()

    def handle_timeout(self, now: float) -> None:
        """A time given by next_timeout has come."""
        if self._connecting:
            self._failed_to_connect(Reason.CONNECT_TIMEOUT)
            return
        self.execute(self.connection.handle_timeout(now))
        self.settle()

    def execute(self, commands: list[Command]) -> None:
        """Carry out commands in order."""
        for command in commands:
            kind = type(command)
            if kind is Emit:
                self._forwarder.tunnel.write(command.frame, self.trace_id)  # type: ignore[union-attr]
            elif kind is Write:
                data: memoryview = command.data  # type: ignore[union-attr]
                self._out.append(memoryview(bytes(data)) if self._writing else data)
                self._out_octets += len(data)
            else:
                self._execute_rare(command)

    def _execute_rare(self, command: Command) -> None:
        match command:
            case Connect():
                self._connect()
            case ShutdownWrite():
                self._shutdown_write()
            case Abort():
                self._close_host(reset=True)
            case Unreachable(reason):
                if self.syn is not None:
                    self._forwarder.unreachable(self.syn[IP:], reason, self.trace_id)
            case Finish(reason):
                self._close_host(reset=False)
                self._forwarder.finished(self, reason)

    def settle(self) -> None:
        """A burst of events is over: write, acknowledge, read on if the window opened, and set the timer."""
        connection = self.connection
        if self._out and not self._writing:
            self._write_out()
        for command in connection.flush():
            self._forwarder.tunnel.write(command.frame, self.trace_id)  # type: ignore[union-attr]
        if self._stalled:
            self._unstall()
        elif not self._reading and not connection.host_ended and connection.state in HOST_SENDS:
            self._watch()
        if connection.state is not State.CLOSED:
            self._forwarder.schedule(self)

    # --- connecting ---------------------------------------------------------------------------------------------------

    def _connect(self) -> None:
        forwarder = self._forwarder
        self._connect_at = forwarder.now()
        try:
            if self.flow.server_port == forwarder.dns_port:
                self._host, code = hosts.connect_dns(self.flow, forwarder.dns_directory)
            else:
                self._host, code = hosts.connect(self.flow)
        except OSError as error:
            self._failed_to_connect(hosts.reason_of(error.errno or errno.EIO))
            return
        if code == 0:
            self._connected()
        elif code == errno.EINPROGRESS:
            self._connecting = True
            forwarder.loop.add_writer(self._host, self._connect_ended)
            forwarder.schedule(self)
        else:
            self._failed_to_connect(hosts.reason_of(code))

    def _connect_ended(self) -> None:
        assert self._host is not None
        self._forwarder.loop.remove_writer(self._host)
        self._connecting = False
        code = self._host.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            self._failed_to_connect(hosts.reason_of(code))
        else:
            self._connected()

    def _connected(self) -> None:
        forwarder = self._forwarder
        if self.trace_id:
            forwarder.hop(self, "connected", at=self._connect_at)
        self.execute(self.connection.socket_connected(forwarder.now()))
        self.syn = None
        self.trace_id = 0
        forwarder.schedule(self)

    def _failed_to_connect(self, reason: Reason) -> None:
        if self.trace_id:
            self._forwarder.hop(self, "connect failed", reason.value, at=self._connect_at)
        if self._connecting and self._host is not None:
            self._forwarder.loop.remove_writer(self._host)
        self._connecting = False
        self.execute(self.connection.socket_refused(reason))

    # --- host -> client -----------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        if self._host is not None:
            self._reading = True
            self._forwarder.loop.add_reader(self._host, self._readable)

    def _unwatch(self) -> None:
        if self._reading and self._host is not None:
            self._forwarder.loop.remove_reader(self._host)
        self._reading = False

    def _stall(self) -> None:
        self._stalled = True
        self._unwatch()

    def _unstall(self) -> None:
        """Readable when it was stopped, and the window has opened enough to be worth it: read at once."""
        connection = self.connection
        if self._forwarder.tunnel.congested:
            return
        worth = min(connection.emitter.max_payload, connection.sender.snd_wnd // 2)
        room = connection.room()
        if room > 0 and (room >= worth or not connection.sender.in_flight):
            self._stalled = False
            self._watch()
            self._read()

    def resume(self) -> None:
        """The link to tun_io has room again."""
        if self._stalled:
            self._unstall()
            self._forwarder.schedule(self)

    def _readable(self) -> None:
        self._read()
        self._forwarder.schedule(self)

    def _read(self) -> None:
        connection = self.connection
        forwarder = self._forwarder
        now = forwarder.now()
        for _ in range(READS):
            if self._host is None:
                return
            room = connection.room()
            if room == 0 or forwarder.tunnel.congested:
                self._stall()
                if room:
                    forwarder.hold(self)
                return
            want = min(room, connection.emitter.max_payload)
            try:
                data = self._host.recv(want)
            except BlockingIOError:
                return
            except OSError:
                self._unwatch()
                self.execute(connection.socket_reset(Reason.SOCKET_ERROR))
                return
            if not data:
                self._unwatch()
                self.execute(connection.socket_ended(now))
                return
            self.execute(connection.socket_data(data, now))
            if len(data) < want:
                return

    # --- client -> host -----------------------------------------------------------------------------------------------

    def _write_out(self) -> None:
        if self._host is None:
            return
        try:
            if len(self._out) == 1:
                taken = self._host.send(self._out[0])
            else:
                taken = self._host.sendmsg([self._out[index] for index in range(min(len(self._out), MAX_VECTOR))])
        except BlockingIOError:
            taken = 0
        except OSError:
            self.execute(self.connection.socket_reset(Reason.SOCKET_ERROR))
            return
        if taken:
            self._taken(taken)
        if self._out_octets and not self._writing and self._host is not None:
            # What must wait is copied: it is a view of a batch, which it would keep alive.
            self._out = deque(memoryview(bytes(data)) for data in self._out)
            self._writing = True
            self._forwarder.loop.add_writer(self._host, self._writable)

    def _taken(self, octets: int) -> None:
        self._out_octets -= octets
        out = self._out
        rest = octets
        while rest:
            first = out[0]
            if len(first) <= rest:
                rest -= len(first)
                out.popleft()
            else:
                out[0] = first[rest:]
                rest = 0
        self.execute(self.connection.socket_took(octets))

    def _writable(self) -> None:
        self._write_out()
        if not self._out_octets and self._writing and self._host is not None:
            self._writing = False
            self._forwarder.loop.remove_writer(self._host)
        self.settle()

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
        loop = self._forwarder.loop
        loop.remove_reader(self._host)
        loop.remove_writer(self._host)
        self._reading = self._writing = self._connecting = self._stalled = False
        hosts.close(self._host, reset=reset)
        self._host = None
        self._out.clear()
        self._out_octets = 0
