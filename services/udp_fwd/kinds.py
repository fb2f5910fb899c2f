"""The two kinds of forwarder: UDP, and ICMP echo through ping sockets."""

import errno
import logging
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from netstack.packet import datagram, ipv4, plain, udp
from netstack.packet.errqueue import SocketError
from netstack.packet.icmp_error import MIN_MTU_V4
from netstack.packet.reason import Reason
from netstack.packet.vnet import VNET_LEN
from services.udp_fwd import echo, echo_lane, lane
from services.udp_fwd.echo_lane import V4_MESSAGE, V6_MESSAGE, EchoLanes
from services.udp_fwd.flows import GRAIN, Destination, Limits, Mapping, Sockaddr, State
from services.udp_fwd.forwarder import Forwarder, Links, OnEnded, Parts
from services.udp_fwd.lane import Lane, Lanes
from services.udp_fwd.outgoing import Header, Outgoing
from services.udp_fwd.sockets import HostSocket, Received

ECHO_IDLE: Final = 60.0  # seconds; RFC 5508 REQ-2: not less
ECHO_MAX_FLOWS: Final = 1024
DESTINATIONS_PER_FLOW: Final = 4  # on average; a mapping alone may have more

_HEADERS_V6: Final = 48  # octets of IPv6 and UDP; those of IPv4 are fewer
_QUOTE_V4: Final = 576  # octets; more is never quoted (netstack.packet.icmp)
_QUOTE_V6: Final = 1280
_QUOTE_ECHO: Final = 128  # headers and 8 octets at the least (RFC 792); many of these are kept
_USO_SINCE: Final = (6, 2)
"""The first Linux that takes a train of datagrams written to a TUN (VIRTIO_NET_HDR_GSO_UDP_L4)."""

_PING_GROUPS: Final = Path("/proc/sys/net/ipv4/ping_group_range")

_log = logging.getLogger(__name__)


class UdpForwarder(Forwarder):
    """One UDP socket per client address and port."""

    def __init__(self, links: Links, max_flows: int, on_ended: OnEnded) -> None:
        limits = links.runtime.config.udp
        timeouts = limits.idle_timeout, limits.stream_timeout
        self._lanes: Lanes[Destination[HostSocket]] = Lanes()
        super().__init__(links, Limits(*timeouts, max_flows, max_flows * DESTINATIONS_PER_FLOW), on_ended, self._lanes)
        self._trains = _kernel() >= _USO_SINCE
        self._boarding: list[Lane[Destination[HostSocket]]] = []

    def take_alike(self, frame: lane.Frame, now: float, *, own: bool) -> bool:
        """Take a frame the short way; False where it must go the long one. Those before it have left then.

        own says that it came through this worker's own queue of the TUN.
        """
        way = self._lanes.find(frame)
        if way is None:
            self._leave_all()
            return False
        destination = way.destination
        if (
            now - destination.last >= GRAIN
            or destination.state is not State.ALLOWED
            or destination.mapping.direct is not own
        ):
            self._leave_all()
            return False
        if not way.parts:
            if self._train is not None:
                self.depart()
            self._boarding.append(way)
        if not way.add(frame):
            self._leave(way)
            way.add(frame)
        return True

    def flush(self) -> None:
        """Send what was collected, and say which addresses are in use."""
        self._leave_all()
        super().flush()

    def _leave_all(self) -> None:
        if self._boarding:
            for way in self._boarding:
                self._leave(way)
            self._boarding.clear()

    def _leave(self, way: Lane[Destination[HostSocket]]) -> None:
        if not way.parts:
            return
        destination = way.destination
        destination.quotes[0] = way.quote
        size = way.size
        parts = way.take()
        host = self.host_of(destination.mapping, len(parts))
        if host is not None:
            self.send_joined(host, destination, parts, size, way.header)

    def take(self, sent: datagram.Datagram, frame: lane.Frame, trace_id: int, now: float) -> None:
        """The client sent a datagram, or a train of them, in this frame."""
        packet = sent.packet
        quote = packet[:_QUOTE_V4] if len(sent.server) == 4 else packet[:_QUOTE_V6]
        header = Header(sent.tos, sent.ttl - 1, self._dont_fragment(sent), sent.flow_label)
        endpoints = sent.client, sent.client_port, sent.server, sent.server_port
        destination = self.forward(endpoints, Outgoing(sent.payloads, header, quote, 0, trace_id), now)
        if destination is None or destination.state is not State.ALLOWED:
            return
        if plain.udp_endpoint(frame) and lane.can_be(frame):
            destination.lane = self._lanes.add(frame, destination, header)

    def protocol(self, _address: bytes) -> int:
        """Always 17."""
        return udp.PROTOCOL

    def open_socket(self, mapping: Mapping[HostSocket]) -> HostSocket:
        """Raises OSError."""
        host = super().open_socket(mapping)
        host.keep_port(mapping.port)
        return host

    def frames(self, mapping: Mapping[HostSocket], received: Received, now: float) -> Iterable[Parts]:
        """One frame for a datagram, and for a train where the kernel takes it."""
        octets, segment, arrived = received.octets, received.segment, received.arrived
        sender = self.sender(mapping, received.sender, now)
        if sender is None:
            return ()
        size = segment or len(octets)
        if (mapping.mtu or size > self._tunnel.mtu - _HEADERS_V6) and size > self._links.mtu(mapping) - _HEADERS_V6:
            mtu = self._links.mtu(mapping)
            each = [bytes(octets[at : at + size]) for at in range(0, len(octets), size)]
            return [(frame, b"") for one in each for frame in self._links.cut(sender.packet(one, arrived), mtu)]
        if not segment or self._trains:
            return ((sender.head(len(octets), segment, arrived), octets),)
        parts = [octets[at : at + segment] for at in range(0, len(octets), segment)]
        return [(sender.head(len(part), 0, arrived), part) for part in parts]

    def number(self, _sent: bytes) -> int | None:
        """UDP has no numbers: the last packet is quoted."""
        return 0

    def _dont_fragment(self, sent: datagram.Datagram) -> bool:
        """IPv4: as the client said. IPv6: a router never fragments, but what came in fragments must leave so."""
        packet = sent.packet
        if len(sent.server) == 4:
            return bool(packet[6] & ipv4.DF >> 8)
        return len(sent.payloads) > 1 or len(packet) <= self._tunnel.mtu


class EchoForwarder(Forwarder):
    """One ping socket per client address and identifier."""

    def __init__(self, links: Links, on_ended: OnEnded) -> None:
        most_destinations = ECHO_MAX_FLOWS * DESTINATIONS_PER_FLOW
        limits = Limits(ECHO_IDLE, ECHO_IDLE, ECHO_MAX_FLOWS, most_destinations, keep_recent=True)
        self._lanes: EchoLanes[Destination[HostSocket]] = EchoLanes()
        super().__init__(links, limits, on_ended, self._lanes)
        self._warned = False
        self._asked: dict[Mapping[HostSocket], None] = {}
        self._unquoted: list[tuple[Destination[HostSocket], lane.Frame]] = []
        """What was sent the short way, to be kept for errors to quote once the replies are on their way."""

    def take_alike(self, frame: lane.Frame, now: float, *, own: bool) -> bool:
        """Take a frame the short way, and send it; False where it must go the long one.

        own says that it came through this worker's own queue of the TUN.
        """
        way = self._lanes.find(frame) if isinstance(frame, bytes) else None  # a large one is a view
        if way is None:
            return False
        destination = way.destination
        mapping = destination.mapping
        if (
            now - destination.last >= GRAIN
            or destination.state is not State.ALLOWED
            or mapping.direct is not own
            or mapping.socket is None
        ):
            return False
        if self._train is not None:
            self.depart()
        message = frame[way.message :]
        self._unquoted.append((destination, frame))
        self._asked[mapping] = None
        self.send_single(mapping.socket, destination, message, way.header)
        return True

    def take(self, sent: echo.Echo, frame: bytes, trace_id: int, now: float) -> None:
        """The client sent an echo request in this frame."""
        packet = sent.packet
        if len(sent.server) == 4:
            dont_fragment = bool(packet[6] & ipv4.DF >> 8)
        else:
            dont_fragment = len(packet) <= self._tunnel.mtu
        header = Header(sent.tos, sent.ttl - 1, dont_fragment, sent.flow_label)
        outgoing = Outgoing([sent.message], header, packet[:_QUOTE_ECHO], sent.sequence, trace_id)
        destination = self.forward((sent.client, sent.identifier, sent.server, 0), outgoing, now)
        if destination is None or destination.state is not State.ALLOWED:
            return
        self._asked[destination.mapping] = None
        if not destination.lane and plain.echo_endpoint(frame) and echo_lane.can_be(frame):
            destination.lane = self._lanes.add(frame, destination, header)

    def flush(self) -> None:
        """Send what was collected. A host nearby has answered by then: that saves a turn of the loop."""
        self.depart()
        if self._asked:
            asked, self._asked = self._asked, {}
            now = self._clock()
            for mapping in asked:
                host = mapping.socket
                if host is not None and not self._tunnel.congested:
                    received = host.receive_single()
                    if received is not None:
                        self.bring(mapping, received, now)
        if self._unquoted:
            self._keep_quotes()
        self.settle()

    def _keep_quotes(self) -> None:
        unquoted, self._unquoted = self._unquoted, []
        for destination, frame in unquoted:
            at = V4_MESSAGE if len(destination.address) == 4 else V6_MESSAGE
            number = frame[at + 6] << 8 | frame[at + 7]
            self.flows.sent_packet(destination, number, bytes(frame[VNET_LEN : VNET_LEN + _QUOTE_ECHO]))

    def not_sent(self, destination: Destination[HostSocket], number: int) -> None:
        """It is about what has only just been sent."""
        self._keep_quotes()
        super().not_sent(destination, number)

    def on_error(self, mapping: Mapping[HostSocket], error: SocketError, to: Sockaddr, sent: bytes) -> None:
        """It may be about that too."""
        self._keep_quotes()
        super().on_error(mapping, error, to, sent)

    def protocol(self, address: bytes) -> int:
        """1 or 58."""
        return echo.protocol(address)

    def open_socket(self, mapping: Mapping[HostSocket]) -> HostSocket:
        """Raises OSError."""
        host = super().open_socket(mapping)
        self._counters.notes.pop("echo", None)
        self._warned = False
        return host

    def no_socket(self, error: OSError) -> Reason:
        """Mostly because the sysctl does not allow this group."""
        if error.errno not in {errno.EACCES, errno.EPERM}:
            return super().no_socket(error)
        note = (
            f"ICMP echo is not forwarded: net.ipv4.ping_group_range ({_ping_groups()}) does not hold group "
            f"{os.getegid()} of this process; type: "
            'sysctl -w net.ipv4.ping_group_range="0 2147483647"'
        )
        self._counters.notes["echo"] = note
        if not self._warned:
            self._warned = True
            _log.warning("%s", note)
        return Reason.NO_PING_SOCKET

    def frames(self, mapping: Mapping[HostSocket], received: Received, now: float) -> Iterable[Parts]:
        """The reply under the client's identifier."""
        frame = self._reply(mapping, received, now)
        if not frame:
            return ()
        if self._is_too_long(mapping, frame):
            return [(each, b"") for each in self._links.cut(frame[VNET_LEN:], self._links.mtu(mapping))]
        return ((frame, b""),)

    def bring(self, mapping: Mapping[HostSocket], received: Received, now: float) -> None:
        """Bring the client what was received; the usual reply by the shortest way."""
        if mapping.trace_id or not received.arrived.ttl:
            super().bring(mapping, received, now)
        elif frame := self._reply(mapping, received, now):
            if self._is_too_long(mapping, frame):
                super().bring(mapping, received, now)
            else:
                self._tunnel.write(frame)

    def _reply(self, mapping: Mapping[HostSocket], received: Received, now: float) -> bytes:
        """The frame for the client; empty where there is none, which is counted."""
        sender = self.sender(mapping, received.sender, now)
        if sender is None:
            return b""
        octets = received.octets
        frame = echo.reply(sender, octets if isinstance(octets, bytes) else bytes(octets), received.arrived)
        if frame is None:
            self._counters.drop(Reason.MALFORMED_ICMP)
            return b""
        return frame

    def _is_too_long(self, mapping: Mapping[HostSocket], frame: bytes) -> bool:
        return len(frame) > VNET_LEN + MIN_MTU_V4 and len(frame) - VNET_LEN > self._links.mtu(mapping)

    def number(self, sent: bytes) -> int | None:
        """The sequence number."""
        return echo.sequence_of(sent)


def _kernel() -> tuple[int, int]:
    """The version of the running kernel; (0, 0) where it does not look like one."""
    parts = os.uname().release.split(".")
    try:
        return int(parts[0]), int(parts[1])
    except (IndexError, ValueError):
        return 0, 0


def _ping_groups() -> str:
    try:
        return " ".join(_PING_GROUPS.read_text().split())
    except OSError:
        return "not readable"
