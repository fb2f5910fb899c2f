"""The shell of tcp_fwd: batches of segments from tun_io to connections, and what these emit back."""

import logging
import os
import resource
from functools import partial
from typing import Final

from netstack.packet import icmp_error, plain, tcp
from netstack.packet.errqueue import SocketError
from netstack.packet.flow import Flow
from netstack.packet.gateway import Gateway, own
from netstack.packet.icmp_error import IcmpError
from netstack.packet.reason import MalformedPacketError, Reason
from netstack.packet.seqnum import MASK
from netstack.packet.vnet import NO_OFFLOAD
from netstack.runtime.loop import Loop
from netstack.runtime.refusals import Refusals
from netstack.runtime.service import Runtime
from netstack.runtime.tunnel import Tunnel
from netstack.runtime.whitelist import Decision, Whitelist
from services.tcp_fwd import paths, unreachable
from services.tcp_fwd.connection import Connection
from services.tcp_fwd.limits import FLOOR, Buffers, Limits, Waiting
from services.tcp_fwd.namer import Namer
from services.tcp_fwd.poller import Poller
from services.tcp_fwd.segment import Emitter, Segment, flow_of, parse
from services.tcp_fwd.session import Session
from services.tcp_fwd.states import State
from services.tcp_fwd.timewait import TimeWait
from services.tcp_fwd.timing import Timing

_DNS_PORT: Final = 53
_HEADERS_V4: Final = 40  # octets of IP and TCP header, which the MSS leaves out (RFC 9293 section 3.7.1)
_HEADERS_V6: Final = 60
_HOUSEKEEPING: Final = 20.0  # seconds; below the replica's TOUCH_EVERY, so that leases in use never lapse
_MIN_HOUSEKEEPING: Final = 0.25  # seconds
_MAX_WAITING: Final = 1024  # SYNs that wait for their turn
_OPENED_AT_ONCE: Final = 64  # of them; then what is established gets its turn: some 10 ms
_RANDOM: Final = 256  # octets that are asked for at a time
_OWN: Final = -1  # in place of a trace id: the SYN came to our own queue, and tun_io is still to be told

NO_DNS: Final = (
    "no dns_filter runs on this host: clients are refused DNS over TCP here, and so long answers; start one beside: "
    "netstack up --stage dns_filter"
)
_LOOK_FOR_DNS: Final = 5.0  # seconds; whatever starts together with us is there by then

_log = logging.getLogger(__name__)


class Forwarder:
    """The flows of one worker."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self.loop = runtime.loop
        self.now = runtime.loop.time
        self.dns_port = _DNS_PORT
        self.dns_directory = runtime.topology.dns
        self._dns_missing = False
        self._idle_timeout = runtime.config.tcp.idle_timeout
        tcp_config = runtime.config.tcp
        self._limits = Limits(tcp_config.max_flows, tcp_config.max_flows_per_client, tcp_config.max_half_open)
        self._waiting = Waiting(_MAX_WAITING)
        self._serving = False
        self.buffers = Buffers(tcp_config.max_buffered)
        self._counters = runtime.counters
        self.drop = runtime.counters.drop
        self._sessions: dict[bytes, Session] = {}
        self._time_wait = TimeWait(tcp_config.max_flows)
        self._random = b""
        self._refusals = Refusals()
        self._paths = paths.Paths(own(runtime.config.tun.addresses))
        self._gateway = Gateway(runtime.config.tun.dns, runtime.config.tun.addresses)
        self._held: set[Session] = set()
        self._later: list[Session] = []
        self._greeted: set[str] = set()
        self.tunnel = Tunnel(
            runtime, self._on_batch, flows=lambda: list(self._sessions), on_welcome=partial(self._greet, "tun_io"),
            on_room=self._on_room, on_drained=self._stop_if_drained, views=True, on_own=self._on_own,
        )  # fmt: skip
        assert isinstance(runtime.loop, Loop), "services run on it"
        self.timing = Timing(runtime.loop.direct.alarm, self.now, tcp_config.connect_timeout)
        self.poller = Poller(runtime.loop.direct, self.tunnel.burst_begins, self.tunnel.burst_ends)
        self.whitelist = Whitelist(runtime, on_joined=partial(self._greet, "tracker"), on_revoked=self._on_revoked)
        runtime.on_drain = self.tunnel.drain
        self.namer = Namer(runtime, self.whitelist)
        runtime.on_stop.append(self._stop)
        runtime.before_sample = self._before_sample
        if runtime.topology.connect:
            runtime.every(_LOOK_FOR_DNS, self._look_for_dns)
        runtime.every(min(_HOUSEKEEPING, max(self._idle_timeout / 4, _MIN_HOUSEKEEPING)), self._housekeeping)

    def _greet(self, who: str) -> None:
        self._greeted.add(who)
        if len(self._greeted) == 2:
            self._runtime.ready()

    # --- from the client ----------------------------------------------------------------------------------------------

    def _on_batch(self, packets: list[bytes | memoryview], traced: dict[int, int]) -> None:
        now = self.now()
        touched: dict[Session, None] = {}
        full = self.buffers.full
        for index, packet in enumerate(packets):
            try:
                segment = parse(packet)
            except MalformedPacketError as error:
                self._no_segment(packet, error.reason, now)
                continue
            session = self._sessions.get(segment.key)
            if session is None:
                session = self._unknown(segment, packet, traced.get(index, 0), now)
                if session is None:
                    if segment.key not in self._waiting:
                        self.tunnel.forget(segment.key)  # else tun_io would take it for ours for ever
                    continue
                self.tunnel.taken(segment.key)
            if full and segment.payload and session.held > FLOOR:
                self._counters.drop(Reason.BUFFER_FULL)
                continue  # it was not acknowledged: it is sent again
            session.receive(segment, now)
            touched[session] = None
        for session in touched:
            session.settle()

    def _on_own(self, packets: list[bytes | memoryview]) -> None:
        """What came to our own queue of the TUN. What tun_io would have looked at first is given to it."""
        now = self.now()
        sessions = self._sessions
        full = self.buffers.full
        touched: dict[Session, None] = {}
        for packet in packets:
            session = None
            is_plain = plain.is_tcp(packet)
            if is_plain:
                try:
                    segment = parse(packet)
                except MalformedPacketError as error:
                    self._counters.drop(error.reason)
                    continue
                session = sessions.get(segment.key)
            if session is None:
                if not is_plain or not self._takes(segment, packet, now):
                    self.tunnel.pass_on(packet)
                    continue
                session = self._unknown(segment, packet, _OWN, now)
                if session is None:
                    continue
                self.tunnel.opened(segment.key)
            if full and segment.payload and session.held > FLOOR:
                self._counters.drop(Reason.BUFFER_FULL)
                continue  # it was not acknowledged: it is sent again
            session.receive(segment, now)
            touched[session] = None
        for session in touched:
            session.settle()

    def _takes(self, segment: Segment, packet: bytes | memoryview, now: float) -> bool:
        """Whether a segment of no flow of ours may be dealt with without asking tun_io whose it is."""
        if self._time_wait.get(segment, now) is not None:
            return True
        opens = segment.flags & (tcp.SYN | tcp.ACK | tcp.RST) == tcp.SYN
        return opens and not self.tunnel.draining and not self._runtime.trace.active and plain.may_open(packet)

    def _no_segment(self, octets: bytes | memoryview, reason: Reason, now: float) -> None:
        """What was no TCP segment: counted, unless it is an ICMP error that is our concern."""
        try:
            if reason is not Reason.UNKNOWN_PROTOCOL:
                self._counters.drop(reason)
            else:
                self._told(icmp_error.parse(bytes(octets)), now)
        except MalformedPacketError as error:
            self._counters.drop(error.reason)

    def _told(self, error: IcmpError, now: float) -> None:
        """The client's side said something of a segment: its path's MTU matters, all else passes (RFC 5927 6)."""
        session = self._sessions.get(error.key)
        if session is None or not paths.is_under_way(error, session.connection.sender):
            self._counters.drop(Reason.FLOW_UNKNOWN)
            return
        connection = session.connection
        mtu = error._replace(length=min(error.length, connection.emitter.mss + _HEADERS_V4)).mtu  # of one in its train
        if not mtu:
            self._counters.drop(Reason.PROTOCOL_ICMP)
            return
        self._paths.learn(session.flow.client, mtu, now)
        session.execute(connection.path_mtu(mtu, now))
        session.settle()

    def _unknown(self, segment: Segment, packet: bytes | memoryview, trace_id: int, now: float) -> Session | None:
        """A segment of no flow of ours: open one for a SYN, answer anything else as RFC 9293 section 3.10.7.1 says."""
        opens = segment.flags & (tcp.SYN | tcp.ACK | tcp.RST) == tcp.SYN
        if opens and self._time_wait.admits(segment, now):
            if self._limits.pressed or len(self._waiting):
                self._wait(segment, packet, trace_id)
                return None
            return self._open(segment, packet, trace_id, now)
        if segment.flags & tcp.RST:
            self._waiting.discard(segment.key)
            return None
        emitter = self._emitter(flow_of(segment.key))
        record = self._time_wait.get(segment, now)
        if record is not None:
            frame = record.acknowledgement(emitter, now)
        elif segment.flags & tcp.ACK:
            frame = emitter.emit(segment.ack, 0, tcp.RST, 0)
        else:
            frame = emitter.emit(0, (segment.seq + segment.length) & MASK, tcp.RST | tcp.ACK, 0)
        if record is None:
            self._counters.drop(Reason.FLOW_UNKNOWN)
        self.tunnel.write(frame)
        return None

    def _wait(self, syn: Segment, packet: bytes | memoryview, trace_id: int) -> None:
        """Let a SYN wait for its turn."""
        dropped = self._waiting.add(flow_of(syn.key).client, syn.key, bytes(packet), trace_id)
        if dropped is not None:
            self._counters.drop(Reason.HALF_OPEN_LIMIT)
            key, trace_id = dropped
            if trace_id != _OWN:
                self.tunnel.forget(key)
        if not self._serving:
            self._serving = True
            self.loop.call_soon(self._serve)

    def _serve(self) -> None:
        now = self.now()
        for _ in range(min(_OPENED_AT_ONCE, len(self._waiting))):
            frame, trace_id = self._waiting.take()
            syn = parse(frame)
            session = self._open(syn, frame, trace_id, now)
            if session is not None:
                if trace_id == _OWN:
                    self.tunnel.opened(syn.key)
                else:
                    self.tunnel.taken(syn.key)
                session.settle()
            elif trace_id != _OWN:
                self.tunnel.forget(syn.key)
        self._serving = len(self._waiting) > 0
        if self._serving:
            self.loop.call_soon(self._serve)

    def _open(self, syn: Segment, packet: bytes | memoryview, trace_id: int, now: float) -> Session | None:
        trace_id = max(trace_id, 0)
        flow = flow_of(syn.key)
        emitter = self._emitter(flow)
        refusal = Reason.BUFFER_FULL if self.buffers.full else self._limits.refusal(flow.client)
        if refusal is not None:
            self._counters.drop(refusal)
            self.tunnel.write(emitter.emit(0, (syn.seq + 1) & MASK, tcp.RST | tcp.ACK, 0))
            return None
        gives_way = self._limits.gives_way()
        if gives_way is not None:
            self._sessions[gives_way].give_way(Reason.HALF_OPEN_LIMIT)
        connection = Connection(
            syn, emitter, iss=self._iss(), now=now, buffers=self.buffers, idle_timeout=self._idle_timeout
        )  # fmt: skip
        mtu = self._paths.mtu(flow.client, now)
        if mtu:
            connection.path_mtu(mtu, now)
        session = Session(self, syn.key, flow, connection, bytes(packet))
        session.trace_id = trace_id
        self._sessions[syn.key] = session
        self._limits.opened(flow.client, syn.key)
        if flow.server_port == _DNS_PORT:
            session.execute(connection.verdict(None))
        else:
            self.whitelist.check(
                flow.client, flow.server, flow.server_port, tcp.PROTOCOL, trace_id, partial(self._decided, syn.key)
            )
        return session if syn.key in self._sessions else None

    def _iss(self) -> int:
        """An initial sequence number that nobody can guess (RFC 6528)."""
        random = self._random or os.urandom(_RANDOM)
        self._random = random[4:]
        return random[0] << 24 | random[1] << 16 | random[2] << 8 | random[3]

    def _emitter(self, flow: Flow) -> Emitter:
        headers = _HEADERS_V4 if len(flow.client) == 4 else _HEADERS_V6
        return Emitter(flow, self.tunnel.mtu - headers)

    def _decided(self, key: bytes, decision: Decision) -> None:
        session = self._sessions.get(key)
        if session is None:
            return  # it gave way meanwhile; the key alone was kept, so that a flood costs no more than that
        if session.trace_id:
            event = "allowed" if decision.allowed else "refused"
            self.hop(session, event, decision.reason, at=session.opened_at)
        if decision.allowed:
            self.whitelist.use(session.flow.server)
            session.execute(session.connection.verdict(None))
            return
        answer = self._refusals.should_answer(session.flow.server, self.now())
        reason = Reason.of_refusal(decision.reason) if answer else Reason.REFUSED_TOO_OFTEN
        session.execute(session.connection.verdict(reason, answer=answer))

    def _look_for_dns(self) -> None:
        """DNS over TCP stays within a host; where tun_io is on another one, dns_filter may well be there alone."""
        is_missing = not (self.dns_directory.is_dir() and any(self.dns_directory.iterdir()))
        if is_missing == self._dns_missing:
            return
        self._dns_missing = is_missing
        if is_missing:
            _log.warning(NO_DNS)
            self._counters.notes["dns"] = NO_DNS
        else:
            _log.info("a dns_filter is here: DNS over TCP works")
            del self._counters.notes["dns"]

    # --- for the sessions ---------------------------------------------------------------------------------------------

    def established(self, session: Session) -> None:
        """The client has acknowledged our SYN."""
        self._limits.established(session.flow.client, session.key)

    def hold(self, session: Session) -> None:
        """The session may read on when the link to tun_io has room."""
        self._held.add(session)

    def continue_later(self, session: Session) -> None:
        """The session has had its turn, and there is more to read."""
        if not self._later:
            self.loop.call_soon(self._continue)
        self._later.append(session)

    def _continue(self) -> None:
        later, self._later = self._later, []
        for session in later:
            session.resume()

    def unreachable(self, syn: bytes, reason: Reason, error: SocketError | None, trace_id: int) -> None:
        """Answer a client's SYN with the ICMP error that the network gave, or this host's own."""
        client = syn[12:16] if syn[0] >> 4 == 4 else syn[8:24]
        told = unreachable.packet(syn, reason, error, self._gateway.towards(client))
        if told is not None:
            self.tunnel.write(NO_OFFLOAD + told, trace_id)

    def finished(self, session: Session, reason: Reason | None) -> None:
        """The connection is over."""
        if self._sessions.get(session.key) is not session:
            return
        del self._sessions[session.key]
        self._limits.closed(session.flow.client, session.key)
        self.timing.forget(session)
        self.buffers.used -= session.held
        session.held = 0
        session.connection.receiver.forget()
        self._held.discard(session)
        self.tunnel.forget(session.key)
        connection = session.connection
        if connection.state is State.TIME_WAIT:
            self._time_wait.add(session.key, connection.remains(), self.now())
        if reason is not None:
            self._counters.drop(reason)
            _log.debug("%s: %s", session.flow, reason)
        if self.tunnel.drained:
            self._stop_if_drained()

    def hop(self, session: Session, event: str, detail: str = "", *, at: float) -> None:
        """Trace what became of the SYN of a session."""
        self._runtime.trace.hop(session.trace_id, event, at=at, detail=f"{session.flow} {detail}".rstrip())

    # --- time, and the end --------------------------------------------------------------------------------------------

    def _on_room(self) -> None:
        held, self._held = self._held, set()
        for session in held:
            session.resume()

    def _on_revoked(self, addresses: list[bytes]) -> None:
        gone = set(addresses)
        for session in [one for one in self._sessions.values() if one.flow.server in gone]:
            session.execute(session.connection.abort(Reason.REVOKED))

    def _housekeeping(self) -> None:
        now = self.now()
        for server in {session.flow.server for session in self._sessions.values()}:
            self.whitelist.use(server)
        for session in list(self._sessions.values()):
            if now - session.connection.last_heard > self._idle_timeout:
                session.execute(session.connection.abort(Reason.IDLE_TIMEOUT))
            else:
                session.tend(self._idle_timeout)
        self._time_wait.expire(now)

    def _before_sample(self) -> None:
        self._counters.gauges["flows"] = len(self._sessions)
        self._counters.gauges["half_open"] = len(self._limits.half_open)
        self._counters.gauges["buffered"] = self.buffers.used
        self._counters.gauges["time_wait"] = len(self._time_wait)
        self._counters.gauges["leases"] = len(self.whitelist.replica)

    def _stop_if_drained(self) -> None:
        if not self._sessions:
            self._runtime.stop()

    def _stop(self) -> None:
        self._waiting = Waiting(1)  # those in it are not opened any more
        for session in list(self._sessions.values()):
            session.execute(session.connection.abort(Reason.WORKER_LOST))


async def start(runtime: Runtime) -> None:
    """Open the links; a descriptor per flow needs more than the usual 1024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard < runtime.config.tcp.max_flows + 64:
        _log.warning("at most %d of tcp.max_flows = %d flows: the limit of open files is %d (soft %d)",
                     hard - 64, runtime.config.tcp.max_flows, hard, soft)  # fmt: skip
    Forwarder(runtime)
