"""Carrying packets between mappings and their host sockets: what UDP and echo have in common.

Subclasses say how a host socket is opened, and what its octets are to the client.
"""

import errno
import itertools
import logging
import secrets
import socket
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final

from netstack.packet import errqueue, icmp, udp
from netstack.packet.errqueue import SocketError
from netstack.packet.flow import endpoint
from netstack.packet.gateway import Gateway, own
from netstack.packet.icmp_error import IcmpError
from netstack.packet.reason import Reason
from netstack.packet.vnet import NO_OFFLOAD
from netstack.runtime.refusals import Refusals
from netstack.runtime.service import Runtime
from netstack.runtime.tunnel import Tunnel
from netstack.runtime.whitelist import Decision, Whitelist
from services.udp_fwd import fragmenting
from services.udp_fwd.addresses import Destinations
from services.udp_fwd.flows import GRAIN, Destination, Flows, Limits, Mapping, ShortWays, Sockaddr, State
from services.udp_fwd.lane import Frame
from services.udp_fwd.outgoing import Header, Outgoing
from services.udp_fwd.reply import Sender
from services.udp_fwd.sockets import ALREADY_TOLD, HostSocket, Received
from services.udp_fwd.train import Train

_REASON_OF: Final = {
    errno.EAGAIN: Reason.BUFFER_FULL,
    errno.ENOBUFS: Reason.BUFFER_FULL,
    errno.EHOSTUNREACH: Reason.HOST_UNREACHABLE,
    errno.ENETUNREACH: Reason.NET_UNREACHABLE,
}
_TABLE_FULL: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})

_LARGEST: Final = 65535  # octets of a packet

_log = logging.getLogger(__name__)


Endpoints = tuple[bytes, int, bytes, int]
"""Client address and port (or echo identifier), server address and port (0 for echo)."""

Parts = tuple[bytes, bytes | memoryview]
"""A frame in two parts, of which the second may be empty."""

OnEnded = Callable[[Mapping[HostSocket]], None]


class Links:
    """What both forwarders of a worker share."""

    def __init__(self, runtime: Runtime, tunnel: Tunnel, whitelist: Whitelist) -> None:
        tun = runtime.config.tun
        self.runtime = runtime
        self.tunnel = tunnel
        self.whitelist = whitelist
        self.refusals = Refusals()
        self.destinations = Destinations(tun.addresses)
        self.gateway = Gateway(tun.dns, tun.addresses)
        self.own = own(tun.addresses)
        self._packets = itertools.count(secrets.randbits(32))

    def cut(self, packet: bytes, mtu: int) -> list[bytes]:
        """Frames of at most mtu octets, for a client that is not the kernel behind the TUN."""
        return fragmenting.cut(packet, mtu, next(self._packets))

    def mtu(self, mapping: Mapping[HostSocket]) -> int:
        """Above how many octets a packet for this client must be cut."""
        if mapping.mtu:
            return mapping.mtu
        return _LARGEST if mapping.client in self.own else self.tunnel.mtu


class Forwarder:
    """All mappings of one kind, with their sockets."""

    def __init__(self, links: Links, limits: Limits, on_ended: OnEnded, lanes: ShortWays) -> None:
        """on_ended is called for each mapping that is over."""
        self._links = links
        self._on_ended = on_ended
        self._runtime = links.runtime
        self._counters = links.runtime.counters
        self._tunnel = links.tunnel
        self._clock = links.runtime.loop.time
        self._broadcast = links.destinations.broadcast
        self._train: Train[HostSocket] | None = None
        self._towards: Destination[HostSocket] | None = None
        """Where something is being sent to at this moment."""
        self._paused: list[Mapping[HostSocket]] = []
        self.flows: Flows[HostSocket] = Flows(limits, lanes)

    def protocol(self, address: bytes) -> int:
        """The IP protocol towards this address."""
        raise NotImplementedError

    def forward(
        self, endpoints: Endpoints, outgoing: Outgoing, now: float
    ) -> Destination[HostSocket] | None:  # fmt: skip
        """The client sent a packet; where it goes, if anywhere. Call `flush` after the last one of a batch."""
        client, port, server, server_port = endpoints
        if (server[0] in _SUSPECT or server in self._broadcast) and self._refused_at_sight(server, outgoing):
            return None
        if outgoing.header.ttl < 1:
            self._drop(Reason.TTL_EXCEEDED, outgoing)
            self._tell(errqueue.time_exceeded(outgoing.packet, self._links.gateway.towards(client)), outgoing.packet)
            return None
        destination = self.flows.arrive(client, port, server, server_port, now)
        if destination.state is State.ALLOWED:
            self._board(destination, outgoing)
        else:
            self._wait(destination, outgoing)
        return destination

    def flush(self) -> None:
        """Send what was collected, and say which addresses are in use."""
        self.depart()
        self.settle()

    def settle(self) -> None:
        """After anything that may have ended mappings or used addresses: see to the consequences."""
        flows = self.flows
        for address in flows.take_used():
            self._links.whitelist.use(address)
        for mapping in flows.take_ended():
            if mapping.ended is Reason.FLOW_TABLE_FULL or mapping.ended is Reason.CLIENT_LIMIT:
                self._counters.drop(mapping.ended)
            if mapping.socket is not None:
                mapping.socket.close()
                mapping.socket = None
            self._on_ended(mapping)
        if flows.lost:
            self._counters.drop(Reason.FLOW_TABLE_FULL, flows.lost)
            flows.lost = 0

    def expire(self) -> None:
        """End what was idle for too long; call it each second."""
        self.flows.expire(self._clock())
        self.settle()

    def revoke(self, addresses: list[bytes]) -> None:
        """These addresses may no longer be reached."""
        for outgoing in self.flows.revoke(addresses):
            self._drop(Reason.REVOKED, outgoing)
        self.settle()

    def resume(self) -> None:
        """The tunnel has room again: read on."""
        paused, self._paused = self._paused, []
        for mapping in paused:
            if mapping.socket is not None:
                mapping.socket.watch(partial(self.readable, mapping))

    def told(self, error: IcmpError) -> None:
        """The client's side says something of a packet that was sent to it.

        Too big: what follows is cut. Nobody listens: the host socket closes, so that this host says the same to a
        server that goes on sending; a socket cannot pass the error itself on.
        """
        mapping = self.flows.heard_from(error.client, error.port, error.server)
        if mapping is None:
            self._counters.drop(Reason.FLOW_UNKNOWN)
        elif error.mtu:
            mapping.mtu = min(error.mtu, mapping.mtu or self._tunnel.mtu)
        elif error.is_port_unreachable:
            self.flows.close(mapping, error.server, error.server_port)
        else:
            self._counters.drop(Reason.PROTOCOL_ICMP)

    def close(self) -> None:
        """Close every socket."""
        for mapping in self.flows.mappings():
            if mapping.socket is not None:
                mapping.socket.close()
                mapping.socket = None

    def open_socket(self, mapping: Mapping[HostSocket]) -> HostSocket:
        """Raises OSError."""
        version = 4 if len(mapping.client) == 4 else 6
        return HostSocket(self._runtime.loop, version, self.protocol(mapping.client), partial(self.on_error, mapping))

    def no_socket(self, error: OSError) -> Reason:
        """Why there is no socket."""
        if error.errno in _TABLE_FULL:
            return Reason.FLOW_TABLE_FULL
        return Reason.SOCKET_ERROR

    def frames(self, mapping: Mapping[HostSocket], received: Received, now: float) -> Iterable[Parts]:
        """What came in, as frames for the client; none where it is not from an address that was sent to."""
        raise NotImplementedError

    def sender(self, mapping: Mapping[HostSocket], sockaddr: Sockaddr, now: float) -> Sender | None:
        """Whom to name to the client; None where it is nobody that was sent to, which is counted."""
        sender = mapping.senders.get(sockaddr)
        if sender is None or now - sender.last >= GRAIN:
            sender = self.flows.heard(mapping, sockaddr, packed(sockaddr[0]), now)
            if sender is None:
                self._counters.drop(Reason.FLOW_UNKNOWN)
        return sender

    def number(self, sent: bytes) -> int | None:
        """The number (see Outgoing) of the packet that an error is about, of which `sent` is the start."""
        raise NotImplementedError

    def _refused_at_sight(self, server: bytes, outgoing: Outgoing) -> bool:
        reason = self._links.destinations.refusal(server)
        if reason is None:
            return False
        self._drop(reason, outgoing)
        return True

    def _wait(self, destination: Destination[HostSocket], outgoing: Outgoing) -> None:
        if not self.flows.hold(destination, outgoing):
            self._drop(Reason.BUFFER_FULL, outgoing)
        if destination.state is not State.NEW:
            return
        self.flows.asked(destination)
        self._ask(destination, outgoing.trace_id)

    def _ask(self, destination: Destination[HostSocket], trace_id: int) -> None:
        began = time.monotonic()
        self._links.whitelist.check(
            destination.mapping.client, destination.address, destination.port, self.protocol(destination.address),
            trace_id, partial(self._decided, destination),
        )  # fmt: skip
        if trace_id and destination.state is State.ASKED:
            where = endpoint(destination.address, destination.port)
            self._runtime.trace.hop(trace_id, "asked tracker", at=began, detail=where)

    def _decided(self, destination: Destination[HostSocket], decision: Decision) -> None:
        now = self._clock()
        if decision.allowed:
            for outgoing in self.flows.allow(destination, now):
                self._board(destination, outgoing)
            self.depart()
        else:
            reason = Reason.of_refusal(decision.reason)
            for outgoing in self.flows.refuse(destination):
                self._refuse(destination.address, outgoing, reason, now)
        self.settle()

    def _refuse(self, address: bytes, outgoing: Outgoing, reason: Reason, now: float) -> None:
        if not self._links.refusals.should_answer(address, now):
            reason = Reason.REFUSED_TOO_OFTEN
        self._drop(reason, outgoing, event="refused")
        if reason is not Reason.REFUSED_TOO_OFTEN:
            self._tell(icmp.admin_prohibited(outgoing.packet), outgoing.packet)

    def _board(self, destination: Destination[HostSocket], outgoing: Outgoing) -> None:
        train = self._train
        if train is not None:
            if not outgoing.trace_id and train.couple(destination, outgoing):
                self.flows.sent(destination, outgoing)
                return
            self.depart()
        self._train = Train(destination, outgoing)
        self.flows.sent(destination, outgoing)
        if outgoing.trace_id:
            began = time.monotonic()
            destination.mapping.trace_id = outgoing.trace_id
            octets = self._train.octets
            self.depart()
            where = endpoint(destination.address, destination.port)
            self._runtime.trace.hop(outgoing.trace_id, "sent", at=began, detail=f"{where} {octets} octets")

    def depart(self) -> None:
        """Send what was collected."""
        train, self._train = self._train, None
        if train is None:
            return
        host = self.host_of(train.destination.mapping, len(train.payloads))
        if host is None:
            return
        self._towards = train.destination
        number = host.send(train.destination.sockaddr, train.payloads, train.header)
        self._towards = None
        if number:
            self.not_sent(train.destination, number)

    def send_joined(
        self, host: HostSocket, destination: Destination[HostSocket], parts: list[Frame], size: int, header: Header
    ) -> None:  # fmt: skip
        """Send what a lane collected (HostSocket.send_joined)."""
        self._towards = destination
        number = host.send_joined(destination.sockaddr, parts, size, header)
        self._towards = None
        if number:
            self.not_sent(destination, number)

    def send_single(
        self, host: HostSocket, destination: Destination[HostSocket], payload: Frame, header: Header
    ) -> None:  # fmt: skip
        """Send one packet."""
        self._towards = destination
        number = host.send_single(destination.sockaddr, payload, header)
        self._towards = None
        if number:
            self.not_sent(destination, number)

    def host_of(self, mapping: Mapping[HostSocket], datagrams: int) -> HostSocket | None:
        """The socket through which so many are to leave; None where there can be none, and that is counted."""
        if mapping.socket is None and mapping.ended is not None:
            self._counters.drop(mapping.ended, datagrams)
            return None
        return mapping.socket or self._open(mapping)

    def _open(self, mapping: Mapping[HostSocket]) -> HostSocket | None:
        try:
            host = mapping.socket = self.open_socket(mapping)
        except OSError as error:
            self._counters.drop(self.no_socket(error))
            _log.debug("no socket: %s", error)
            self.flows.end(mapping, Reason.SOCKET_ERROR)
            return None
        host.watch(partial(self.readable, mapping))
        return host

    def not_sent(self, destination: Destination[HostSocket], number: int) -> None:
        """The packet sent last to this destination was refused with this errno."""
        self._counters.drop(_REASON_OF.get(number, Reason.SOCKET_ERROR))
        quote = destination.last_quote()
        if number == ALREADY_TOLD or quote is None:
            return
        told = errqueue.unreachable(quote, number, self._links.gateway.towards(destination.mapping.client))
        if told is not None:
            self._tell(told, quote)

    def readable(self, mapping: Mapping[HostSocket]) -> None:
        """Bring the client what has come in, or an error."""
        host = mapping.socket
        if host is None:
            return
        if self._tunnel.congested:
            host.unwatch()
            self._paused.append(mapping)
            return
        burst = host.receive()
        if not burst:
            host.drain_errors()
            return
        now = self._clock()
        for received in burst:
            self.bring(mapping, received, now)
        self.settle()

    def bring(self, mapping: Mapping[HostSocket], received: Received, now: float) -> None:
        """Bring the client what was received; call `settle` after the last one."""
        if not received.arrived.ttl:  # a router's rule; it cannot be told to the server from here
            self._counters.drop(Reason.TTL_EXCEEDED)
            return
        for head, payload in self.frames(mapping, received, now):
            if mapping.trace_id:
                self._answered(mapping, (head, payload), received)
            else:
                self._tunnel.write_parts(head, payload)

    def _answered(self, mapping: Mapping[HostSocket], frame: Parts, received: Received) -> None:
        trace_id, mapping.trace_id = mapping.trace_id, 0
        self._tunnel.write_parts(*frame, trace_id)
        detail = f"{received.sender[0]} port {received.sender[1]}, {len(received.octets)} octets"
        self._runtime.trace.hop(trace_id, "answered", at=time.monotonic(), detail=detail)

    def on_error(self, mapping: Mapping[HostSocket], error: SocketError, to: Sockaddr, sent: bytes) -> None:
        """The error queue says something of a packet that was sent, or is being sent."""
        if error.origin == errqueue.ORIGIN_LOCAL and self._towards is not None:
            # The kernel refused what is being sent; for a socket without a peer it gives no port (ip_local_error).
            quote = self._towards.last_quote()
        else:
            quote = self.flows.quote(mapping, packed(to[0]), to[1], self.number(sent))
        if quote is None:
            self._counters.drop(Reason.FLOW_UNKNOWN)
            return
        told = errqueue.packet(error, quote, self._links.gateway.towards(mapping.client))
        if told is not None:
            self._tell(told, quote)

    def _tell(self, packet: bytes, about: bytes) -> None:
        """Send an ICMP error, unless about a packet that none may be sent about."""
        # Only UDP and echo requests come here, so where the transport header begins does not matter to the rule.
        if icmp.may_answer(about, udp.PROTOCOL, 0):
            self._tunnel.write(NO_OFFLOAD + packet)

    def _drop(self, reason: Reason, outgoing: Outgoing, event: str = "dropped") -> None:
        self._counters.drop(reason)
        if outgoing.trace_id:
            self._runtime.trace.hop(outgoing.trace_id, event, at=time.monotonic(), detail=reason.value)


_SUSPECT: Final = frozenset({0, *range(224, 256)})
"""First octets of the addresses that Destinations looks at more closely."""


def packed(text: str) -> bytes:
    """An address as the socket module gives it, with an IPv6 scope perhaps."""
    if ":" in text:
        return socket.inet_pton(socket.AF_INET6, text.partition("%")[0])
    return socket.inet_pton(socket.AF_INET, text)
