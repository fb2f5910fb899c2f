"""A worker's side of the packets link: be in tun_io's roster, take batches of packets, give batches back.

Packets to the client are collected and leave together at the end of the turn of the loop, at most BATCH_PACKETS or
BATCH_OCTETS a message.
"""

import logging
import os
from collections.abc import Callable
from typing import Final

from netstack.packet.reason import Reason
from netstack.runtime.service import Runtime
from netstack.wire.messages import (
    VERSION,
    Bye,
    Closed,
    Drain,
    FromTun,
    Heartbeat,
    Hello,
    Message,
    ToTun,
    Traced,
    Welcome,
    WhoAreYou,
)

BATCH_PACKETS: Final = 64
BATCH_OCTETS: Final = 256 << 10
HEARTBEAT: Final = 0.5  # seconds
HIGH_WATER: Final = 64  # messages on each side of the link; at most 16 MiB with full batches

_log = logging.getLogger(__name__)


class Tunnel:
    """The link between one worker and tun_io."""

    def __init__(
        self,
        runtime: Runtime,
        on_batch: Callable[[list[bytes], dict[int, int]], None],
        *,
        flows: Callable[[], list[bytes]] = list,
        on_welcome: Callable[[], None] = lambda: None,
        on_room: Callable[[], None] = lambda: None,
        views: bool = False,
    ) -> None:
        """on_batch gets the packets (each with its vnet header) and the trace ids by index, mostly none.

        With views, large packets are memoryviews of the frame they came in (netstack.wire.batches).

        flows gives the keys of the flows this worker has, for a tun_io that restarted; on_room is called when a
        congested link has room again; on_welcome once tun_io has this worker in its roster.
        """
        self._runtime = runtime
        self._loop = runtime.loop
        self._clock = runtime.loop.time
        self._on_batch = on_batch
        self._flows = flows
        self._on_welcome = on_welcome
        self._on_room = on_room
        self._packets: list[bytes] = []
        self._octets = 0
        self._traced: Traced = []
        self._closed: list[bytes] = []
        self._draining = False
        self._flush_scheduled = False
        self._in_burst = False  # what is written then leaves when the burst is over, without another turn of the loop
        self._said_hello = 0.0
        self.mtu = runtime.config.tun.mtu
        self._peer = runtime.bus.peer(
            runtime.topology.packets,
            runtime.worker,
            self._received,
            high_water=HIGH_WATER,
            on_drained=self._burst_over,
            on_room=self._room,
        )
        self._peer.views = views
        runtime.every(HEARTBEAT, self._beat)
        runtime.on_stop.append(self._leave)
        self._hello()

    @property
    def congested(self) -> bool:
        """Whether tun_io is behind: read nothing more from host sockets until on_room."""
        return self._peer.congested

    def write(self, packet: bytes, trace_id: int = 0) -> None:
        """Send a packet, vnet header in front, to the client. It leaves at the end of this turn of the loop."""
        if trace_id:
            self._traced.append([len(self._packets), trace_id])
        self._packets.append(packet)
        self._octets += len(packet)
        if self._octets >= BATCH_OCTETS or len(self._packets) >= BATCH_PACKETS:
            self.flush()
        elif not self._flush_scheduled and not self._in_burst:
            self._flush_scheduled = True
            self._loop.call_soon(self._flush_soon)

    def forget(self, key: bytes) -> None:
        """A flow is over: tun_io need not remember who had it."""
        self._closed.append(key)

    def drain(self) -> None:
        """Ask for no new flows; the owner calls Runtime.stop when its last flow is over."""
        self._draining = True
        self._peer.send(Drain(self._runtime.worker))

    def flush(self) -> None:
        """Send what has been collected."""
        if not self._packets:
            return
        counters = self._runtime.counters
        counters.packets_out += len(self._packets)
        counters.octets_out += self._octets
        self._peer.send(ToTun(self._clock(), self._packets, self._traced))
        counters.queue = self._peer.waiting
        self._packets = []
        self._octets = 0
        if self._traced:
            self._traced = []

    def _burst_over(self) -> None:
        self._in_burst = False
        self.flush()

    def _flush_soon(self) -> None:
        self._flush_scheduled = False
        self.flush()

    def _received(self, message: Message) -> None:
        if isinstance(message, FromTun):
            packets = message.packets
            counters = self._runtime.counters
            counters.packets_in += len(packets)
            counters.octets_in += sum(map(len, packets))
            traced: dict[int, int] = {}
            if message.traced:
                traced = self._runtime.trace.received(message.traced, message.sent_at)
            self._in_burst = True
            self._on_batch(packets, traced)
        elif isinstance(message, WhoAreYou):
            # A tun_io that was away finds many heartbeats in its queue and asks after each; one answer will do.
            if self._clock() - self._said_hello >= HEARTBEAT / 2:
                self._hello()
        elif isinstance(message, Welcome):
            if message.version != VERSION:
                _log.error("tun_io speaks version %d, this process %d: not used", message.version, VERSION)
                self._runtime.counters.drop(Reason.WRONG_VERSION)
                return
            self.mtu = message.mtu
            if self._draining:
                self._peer.send(Drain(self._runtime.worker))
            self._on_welcome()

    def _hello(self) -> None:
        runtime = self._runtime
        self._said_hello = self._clock()
        self._peer.send(Hello(VERSION, runtime.stage, runtime.worker, os.getpid(), self._flows()))

    def _room(self) -> None:
        self._runtime.counters.queue = 0
        self._on_room()

    def _beat(self) -> None:
        if self._peer.congested:
            return
        if self._closed:
            self._peer.send(Closed(self._closed))
            self._closed = []
        self._peer.send(Heartbeat(self._runtime.worker))

    def _leave(self) -> None:
        self.flush()
        self._peer.send(Bye(self._runtime.worker))
