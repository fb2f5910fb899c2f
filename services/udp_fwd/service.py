"""udp_fwd: batches of the client's packets to the UDP and the echo forwarder; readiness, drain and gauges."""

import logging
import resource
from typing import Final

from netstack.packet import datagram, icmp_error, plain, udp
from netstack.packet.flow import endpoint_key
from netstack.packet.reason import MalformedPacketError, Reason
from netstack.runtime.service import Runtime
from netstack.runtime.tunnel import Tunnel
from netstack.runtime.whitelist import Whitelist
from services.udp_fwd import echo
from services.udp_fwd.flows import Mapping
from services.udp_fwd.forwarder import Forwarder, Links
from services.udp_fwd.kinds import ECHO_MAX_FLOWS, EchoForwarder, UdpForwarder
from services.udp_fwd.sockets import HostSocket

_OTHER_DESCRIPTORS: Final = 64  # links, the loop, standard streams
_DNS_PORT: Final = 53
_EXPIRE: Final = 1.0  # seconds between looks at idle mappings

_log = logging.getLogger(__name__)


async def start(runtime: Runtime) -> None:
    """Join tun_io and the tracker; ready once both know us."""
    UdpService(runtime)


class UdpService:
    """One worker."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._counters = runtime.counters
        self._clock = runtime.loop.time
        self._missing = {"tun_io", "tracker"}
        self._forwarders: list[Forwarder] = []
        self._tunnel = Tunnel(
            runtime, self.batch,
            flows=self._flows, on_welcome=lambda: self._joined("tun_io"), on_room=self._resume,
            on_drained=self._leave_if_done, views=True, on_own=self._own,
        )  # fmt: skip
        whitelist = Whitelist(runtime, on_joined=lambda: self._joined("tracker"), on_revoked=self._revoked)
        links = Links(runtime, self._tunnel, whitelist)
        self._udp = UdpForwarder(links, self._room_for_flows(runtime.config.udp.max_flows), self._ended)
        self._echo = EchoForwarder(links, self._ended)
        self._forwarders += [self._echo, self._udp]  # the reply to an echo may be there at once
        quic = runtime.config.quic
        self._not_ours = frozenset({_DNS_PORT, *(quic.ports if quic.block else ())})
        self._fenced: list[bytes | memoryview] = []
        runtime.every(_EXPIRE, self._expire)
        runtime.on_drain = self._tunnel.drain
        runtime.on_stop.append(self._close)
        runtime.before_sample = self._show

    def batch(self, packets: list[bytes], traced: dict[int, int]) -> None:
        """Take what the client sent and tun_io gave us, whatever it is."""
        now = self._clock()
        for index, frame in enumerate(packets):
            trace_id = traced.get(index, 0) if traced else 0
            if trace_id or not self._take_alike(frame, now, own=False):
                self._packet(bytes(frame), trace_id, now, own=False)
        self._flush()

    def _own(self, packets: list[bytes | memoryview]) -> None:
        """Take what came to our own queue of the TUN of endpoints that are ours; the rest goes to tun_io.

        That is also how an endpoint becomes ours: tun_io alone says whose it is. Older packets of it are on their way
        through tun_io then, and so are those from before the kernel chose our queue: they come first.
        """
        now = self._clock()
        for index, frame in enumerate(packets):
            if self._take_alike(frame, now, own=True):
                continue
            mapping = self._mapping_of(frame)
            if mapping is None:
                self._tunnel.pass_on(frame)
            elif mapping.direct:
                self._packet(bytes(frame), 0, now, own=True)
            else:
                self._fenced = list(map(bytes, packets[index:]))
                self._tunnel.fence(self._after_fence)
                break
        self._flush()

    def _take_alike(self, frame: bytes | memoryview, now: float, *, own: bool) -> bool:
        """The short way of what is like the one before; False where there is none."""
        if plain.is_icmp(frame):
            return self._echo.take_alike(frame, now, own=own)
        return self._udp.take_alike(frame, now, own=own)

    def _after_fence(self) -> None:
        """All that is older is here. What else has come to our queue meanwhile is still in it."""
        frames, self._fenced = self._fenced, []
        for frame in frames:
            mapping = self._mapping_of(frame)
            if mapping is not None:
                mapping.direct = True
        self._own(frames)

    def _mapping_of(self, frame: bytes | memoryview) -> Mapping[HostSocket] | None:
        """Whose packet it is, where it is a plain one of a mapping of ours."""
        key = plain.udp_endpoint(frame)
        if key:
            return None if plain.udp_port(frame) in self._not_ours else self._udp.flows.live(key)
        key = plain.echo_endpoint(frame)
        return self._echo.flows.live(key) if key else None

    def _flush(self) -> None:
        for forwarder in self._forwarders:
            forwarder.flush()

    def _packet(self, frame: bytes, trace_id: int, now: float, *, own: bool) -> None:
        try:
            self._parse(frame, trace_id, now, own=own)
        except MalformedPacketError as error:
            self._counters.drop(error.reason)
            self._runtime.trace.hop(trace_id, "dropped", at=now, service=0.0, detail=error.reason.value)

    def _parse(self, frame: bytes, trace_id: int, now: float, *, own: bool) -> None:
        if not plain.echo_endpoint(frame) and self._parse_udp(frame, trace_id, now, own=own):
            return
        try:
            request = echo.parse(frame)
        except MalformedPacketError as error:
            if error.reason is not Reason.UNKNOWN_PROTOCOL:
                raise
        else:
            self._take_echo(request, frame, trace_id, now, own=own)
            return
        told = icmp_error.parse(frame)
        (self._udp if told.protocol == udp.PROTOCOL else self._echo).told(told)

    def _parse_udp(self, frame: bytes, trace_id: int, now: float, *, own: bool) -> bool:
        try:
            sent = datagram.parse(frame)
        except MalformedPacketError as error:
            if error.reason is not Reason.UNKNOWN_PROTOCOL:
                raise
            return False
        if own:
            self._udp.take(sent, frame, trace_id, now)
            return True
        key = endpoint_key(sent.client, sent.client_port)
        mapping = self._udp.flows.live(key)
        self._comes_from_tun_io(mapping)
        self._udp.take(sent, frame, trace_id, now)
        if mapping is None:
            self._was_given(key)
        return True

    def _take_echo(self, request: echo.Echo, frame: bytes, trace_id: int, now: float, *, own: bool) -> None:
        key = endpoint_key(request.client, request.identifier)
        mapping = self._echo.flows.live(key)
        if not own:
            self._comes_from_tun_io(mapping)
        self._echo.take(request, frame, trace_id, now)
        if not own and mapping is None:
            self._was_given(key)

    def _was_given(self, key: bytes) -> None:
        """tun_io takes an endpoint for ours since it gave us a packet of it: so it is, or else it is to forget that."""
        if any(key in forwarder.flows for forwarder in self._forwarders):
            self._tunnel.taken(key)
        else:
            self._tunnel.forget(key)

    def _comes_from_tun_io(self, mapping: Mapping[HostSocket] | None) -> None:
        """The kernel chose another queue, or it is no plain packet: what is in ours is older."""
        if mapping is not None and mapping.direct:
            self._tunnel.read_own()
            mapping.direct = False

    def _flows(self) -> list[bytes]:
        return [key for forwarder in self._forwarders for key in forwarder.flows.live_keys()]

    def _joined(self, whom: str) -> None:
        self._missing.discard(whom)
        if not self._missing:
            self._runtime.ready()

    def _resume(self) -> None:
        for forwarder in self._forwarders:
            forwarder.resume()

    def _revoked(self, addresses: list[bytes]) -> None:
        for forwarder in self._forwarders:
            forwarder.revoke(addresses)

    def _expire(self) -> None:
        for forwarder in self._forwarders:
            forwarder.expire()

    def _ended(self, mapping: Mapping[HostSocket]) -> None:
        # An echo identifier may be a port of the same client: one key for both, which stays while either lives.
        if not any(mapping.key in forwarder.flows for forwarder in self._forwarders):
            self._tunnel.forget(mapping.key)
        self._leave_if_done()

    def _leave_if_done(self) -> None:
        if self._tunnel.drained and not any(len(forwarder.flows) for forwarder in self._forwarders):
            self._runtime.stop()

    def _close(self) -> None:
        for forwarder in self._forwarders:
            forwarder.close()

    def _show(self) -> None:
        gauges = self._counters.gauges
        gauges["flows"] = len(self._udp.flows)
        gauges["echo_flows"] = len(self._echo.flows)
        gauges["waiting"] = self._udp.flows.waiting + self._echo.flows.waiting

    def _room_for_flows(self, max_flows: int) -> int:
        """Each mapping needs a descriptor, of which a process has 1,024 unless it asks for more."""
        others = ECHO_MAX_FLOWS + _OTHER_DESCRIPTORS
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = max_flows + others
        allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        if soft != resource.RLIM_INFINITY and soft < allowed:
            resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
        if allowed == wanted:
            return max_flows
        room = max(1, allowed - others)
        note = f"{room} UDP flows at most: udp.max_flows needs {wanted} descriptors, raise LimitNOFILE (ulimit -Hn)"
        self._counters.notes["descriptors"] = note
        _log.warning("%s", note)
        return room
