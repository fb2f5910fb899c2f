"""The DNS filter as a process: queries from the TUN and from tcp_fwd in, answers out; in `mode = "dns"`, queries from
the sockets of `dns.listen`, without a TUN.
"""

import asyncio
import importlib
import logging
import resource
import signal
import socket
from collections.abc import Sequence
from functools import partial
from typing import Final

from netstack.packet import datagram, plain
from netstack.packet.datagram import Datagram
from netstack.packet.reason import MalformedPacketError, Reason
from netstack.runtime.listening import open_listeners, take_listeners
from netstack.runtime.service import Runtime
from netstack.runtime.tunnel import Tunnel
from services.dns_filter.leases import Leases
from services.dns_filter.listener import UdpListener
from services.dns_filter.lists.watch import Watcher
from services.dns_filter.policy import Policy
from services.dns_filter.queries import Client
from services.dns_filter.resolver import Resolver
from services.dns_filter.stream import StreamServer
from services.dns_filter.upstreams.pool import Pool, make_transports

_PORT: Final = 53

_DRAINED_AFTER: Final = 2
"""Looks in a row, half a second apart, at which nothing is in flight: what tun_io sent before it knew has arrived."""


_LISTS_WITHIN: Final = 6.0
"""Seconds until the process says that it is ready even if its lists are not, since a start waits for ten."""

_log = logging.getLogger(__name__)


async def start(runtime: Runtime, inherited: Sequence[int] = ()) -> None:
    """Open everything; `inherited` are descriptors of sockets of dns.listen. Raises OSError."""
    _raise_descriptor_limit()
    service = DnsFilter(runtime)
    await service.start(inherited)


class DnsFilter:
    """Where packets and connections meet the resolver."""

    def __init__(self, runtime: Runtime) -> None:
        """Raises OSError where dns.tls_ca cannot be read."""
        self._runtime = runtime
        self._counters = runtime.counters
        self._welcome = False
        self._joined = False
        self._listed = False
        self._idle_looks = 0
        policy = self._policy = Policy(runtime.config)
        transports = make_transports(runtime.config, partial(self._counters.drop, Reason.UPSTREAM_MISMATCH))
        self._pool = Pool(transports, policy, self._upstreams_changed)
        self._leases = Leases(runtime, self._on_joined)
        self._resolver = Resolver(runtime, policy, self._pool, self._leases)
        self._lists = Watcher(runtime.config, runtime.topology.directory / "lists", self._addresses_of, policy.use)
        self._stream = StreamServer(self._resolver.receive, self._counters.drop)
        self._listeners: list[UdpListener] = []
        self._tunnel: Tunnel | None = None
        if runtime.config.mode == "dns":
            self._welcome = True  # there is no tun_io
        else:
            self._tunnel = Tunnel(runtime, self._on_batch, on_welcome=self._on_welcome, on_own=self._on_own)
        runtime.before_sample = self._measure
        runtime.on_drain = self._drain

    async def start(self, inherited: Sequence[int]) -> None:
        """Listen."""
        self._runtime.on_stop.append(self._lists.close)
        self._runtime.loop.add_signal_handler(signal.SIGHUP, self._lists.hurry)
        self._runtime.on_stop.append(self._pool.close)
        self._runtime.on_stop.append(self._close)
        if self._tunnel is not None:
            await self._stream.listen_at(self._runtime.topology.dns / self._runtime.worker)
            await self._load_lists()
            return
        sockets = take_listeners(inherited) if inherited else open_listeners(self._runtime.config.dns.listen)
        await self._load_lists()  # meanwhile what is asked waits in the sockets
        for sock in sockets:
            if sock.type == socket.SOCK_STREAM:
                await self._stream.listen_on(sock)
            else:
                self._listeners.append(UdpListener(sock, self._resolver.receive, self._counters))

    def _close(self) -> None:
        self._stream.close()
        for listener in self._listeners:
            listener.close()

    async def _load_lists(self) -> None:
        """Be ready once they are in use. Until then no query is taken (Policy.is_loaded); its client asks again."""
        loading = self._runtime.spawn(self._lists.start())
        await asyncio.wait([loading], timeout=_LISTS_WITHIN)
        if not loading.done():
            _log.warning("the lists are not in use yet; names are answered once they are")
        self._listed = True
        self._ready()
        await asyncio.wait([loading])
        self._runtime.spawn(self._lists.watch())

    def _on_welcome(self) -> None:
        self._welcome = True
        self._ready()

    def _on_joined(self) -> None:
        self._joined = True
        self._ready()

    def _ready(self) -> None:
        if self._welcome and self._joined and self._listed:
            self._welcome = self._joined = False
            self._runtime.ready()
            self._runtime.spawn(self._prepare())

    async def _prepare(self) -> None:
        """What the first query would otherwise wait for."""
        await self._pool.prepare()
        await asyncio.to_thread(importlib.import_module, "services.dns_filter.rewrite")

    def _on_batch(self, packets: list[bytes], traced: dict[int, int]) -> None:
        for index, packet in enumerate(packets):
            self._packet(packet, traced.get(index, 0) if traced else 0)

    def _on_own(self, packets: list[bytes | memoryview]) -> None:
        """What came to our own queue of the TUN. What is no plain query, or to be traced, is given to tun_io."""
        assert self._tunnel is not None
        tracing = self._runtime.trace.active
        for packet in packets:
            if not tracing and plain.udp_endpoint(packet) and plain.udp_port(packet) == _PORT:
                self._packet(bytes(packet), 0)
            else:
                self._tunnel.pass_on(packet)

    def _packet(self, packet: bytes, trace_id: int) -> None:
        assert self._tunnel is not None
        try:
            received = datagram.parse(packet)
        except MalformedPacketError as error:
            self._counters.drop(error.reason)
            return
        if self._tunnel.congested:
            # Answers wait for room already; the client asks again.
            self._counters.drop(Reason.BUFFER_FULL, len(received.payloads))
            return
        reply = partial(self._send, received, trace_id)
        client = Client(received.client, received.client_port, udp=True, reply=reply, trace_id=trace_id)
        for payload in received.payloads:
            self._resolver.receive(payload, client)

    def _send(self, received: Datagram, trace_id: int, message: bytes) -> None:
        """Answer from the address that was asked, whatever it was."""
        assert self._tunnel is not None
        packet = datagram.emit(received.server, received.server_port, received.client, received.client_port, message)
        self._tunnel.write(packet, trace_id)

    async def _addresses_of(self, host: str) -> list[str]:
        from services.dns_filter.lists.hosts import addresses  # noqa: PLC0415 - only where a list has a URL

        return await addresses(self._pool, host)

    def _upstreams_changed(self, note: str) -> None:
        if note:
            self._counters.notes["upstreams"] = note
        else:
            self._counters.notes.pop("upstreams", None)

    def _measure(self) -> None:
        if self._lists.note:
            self._counters.notes["lists"] = self._lists.note
        else:
            self._counters.notes.pop("lists", None)
        self._counters.gauges.update(
            queries=self._resolver.queries,
            in_flight=self._resolver.in_flight,
            cache_hits=self._resolver.cache_hits,
            cache_entries=self._resolver.cached,
            refreshed=self._resolver.refreshed,
            stale_answers=self._resolver.stale_answers,
            connections=len(self._stream.connections),
            listed=self._lists.names,
        )
        if audited := self._resolver.audited + self._policy.let_through:
            self._counters.gauges["audit"] = audited

    def _drain(self) -> None:
        if self._tunnel is not None:
            self._tunnel.drain()
        for listener in self._listeners:
            listener.stop_listening()
        self._stream.stop_listening()
        self._runtime.every(0.5, self._stop_if_drained)

    def _stop_if_drained(self) -> None:
        busy = self._resolver.in_flight or self._stream.connections
        self._idle_looks = 0 if busy else self._idle_looks + 1
        if self._idle_looks >= _DRAINED_AFTER:
            self._runtime.stop()


def _raise_descriptor_limit() -> None:
    """Each question to a UDP upstream has a socket of its own; the soft limit is 1024 nearly everywhere."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
