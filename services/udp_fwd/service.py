"""udp_fwd: batches of the client's packets to the UDP and the echo forwarder; readiness, drain and gauges."""

import logging
import resource
from typing import Final

from netstack.packet import datagram, icmp_error, udp
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
            on_drained=self._leave_if_done,
        )  # fmt: skip
        whitelist = Whitelist(runtime, on_joined=lambda: self._joined("tracker"), on_revoked=self._revoked)
        links = Links(runtime, self._tunnel, whitelist)
        self._udp = UdpForwarder(links, self._room_for_flows(runtime.config.udp.max_flows), self._ended)
        self._echo = EchoForwarder(links, self._ended)
        self._forwarders += [self._udp, self._echo]
        runtime.every(_EXPIRE, self._expire)
        runtime.on_drain = self._tunnel.drain
        runtime.on_stop.append(self._close)
        runtime.before_sample = self._show

    def batch(self, packets: list[bytes], traced: dict[int, int]) -> None:
        """Take what the client sent, whatever it is."""
        now = self._clock()
        for index, octets in enumerate(packets):
            trace_id = traced.get(index, 0) if traced else 0
            try:
                self._packet(octets, trace_id, now)
            except MalformedPacketError as error:
                self._counters.drop(error.reason)
                self._runtime.trace.hop(trace_id, "dropped", at=now, service=0.0, detail=error.reason.value)
        for forwarder in self._forwarders:
            forwarder.flush()

    def _packet(self, octets: bytes, trace_id: int, now: float) -> None:
        try:
            sent = datagram.parse(octets)
        except MalformedPacketError as error:
            if error.reason is not Reason.UNKNOWN_PROTOCOL:
                raise
        else:
            self._udp.take(sent, trace_id, now)
            return
        try:
            request = echo.parse(octets)
        except MalformedPacketError as error:
            if error.reason is not Reason.UNKNOWN_PROTOCOL:
                raise
        else:
            self._echo.take(request, trace_id, now)
            return
        told = icmp_error.parse(octets)
        (self._udp if told.protocol == udp.PROTOCOL else self._echo).told(told)

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
