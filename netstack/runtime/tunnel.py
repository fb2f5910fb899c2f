"""A worker's side of the packets link: be in tun_io's roster, take batches of packets, give batches back.

Packets to the client are collected and leave together at the end of the turn of the loop, at most BATCH_PACKETS or
BATCH_OCTETS a message. Large ones lie in shared memory, in both directions (netstack.wire.arena): who has the packet of
a host socket to write takes a slot, has the socket fill it behind the headroom, and gives it to write_slot.

A worker that says what to do with them has the packets of its flows from a queue of the TUN of its own
(netstack.runtime.queue), and writes there; tun_io and the link are then for what goes astray.
"""

import errno
import logging
import os
import secrets
from collections.abc import Callable
from itertools import count
from typing import Any, Final

from netstack.packet.reason import Reason
from netstack.runtime.queue import Queue, framed
from netstack.runtime.service import Runtime
from netstack.wire.arena import HEADROOM, LARGE, Arena, Slot
from netstack.wire.lending import Lending
from netstack.wire.messages import (
    VERSION,
    Astray,
    Bye,
    Closed,
    Drain,
    Fence,
    FromTun,
    Heartbeat,
    Hello,
    Message,
    Opened,
    Packets,
    ToTun,
    Traced,
    Welcome,
    WhoAreYou,
)
from netstack.wire.partner import ArenaError, Partner

BATCH_PACKETS: Final = 64
BATCH_OCTETS: Final = 256 << 10  # of the packets that are in the message itself
HEARTBEAT: Final = 0.5  # seconds
HIGH_WATER: Final = 64  # messages on each side of the link; at most 16 MiB with full batches
TELL_WITHIN: Final = 0.05
"""Seconds until tun_io hears of a flow that a worker took from its own queue. Those that last less cost no message."""

FENCE_WITHIN: Final = 0.25
"""Seconds after which no answer is waited for any longer: there is no tun_io that could have older packets."""

RETURN_AT: Final = 32  # slots that were dealt with: give them back at once, though there is nothing else to say

_write: Final = os.write  # a name that never changes is not looked up
_writev: Final = os.writev

_log = logging.getLogger(__name__)


class Tunnel:
    """The link between one worker and tun_io."""

    def __init__(
        self,
        runtime: Runtime,
        on_batch: Callable[[list[Any], dict[int, int]], None],
        *,
        flows: Callable[[], list[bytes]] = list,
        on_welcome: Callable[[], None] = lambda: None,
        on_room: Callable[[], None] = lambda: None,
        on_drained: Callable[[], None] = lambda: None,
        views: bool = False,
        on_own: Callable[[list[bytes | memoryview]], None] | None = None,
    ) -> None:
        """on_batch gets the packets (each with its vnet header) and the trace ids by index, mostly none.

        With views, large packets are memoryviews that hold only until on_batch returns; else all are bytes.
        on_own gets what comes to this worker's own queue of the TUN, with views: packets of its flows, new ones, and
        others, to be given to `pass_on`. Without it no queue is asked for.

        flows gives the keys of the flows this worker has, for a tun_io that restarted; on_room is called when a
        congested link has room again; on_welcome once tun_io has this worker in its roster; on_drained when no new flow
        can come any more.
        """
        self._runtime = runtime
        self._counters = runtime.counters
        self._loop = runtime.loop
        self._clock = runtime.loop.time
        self._on_batch = on_batch
        self._flows = flows
        self._on_welcome = on_welcome
        self._on_room = on_room
        self._on_drained = on_drained
        self._views = views
        self._packets: Packets = []
        self._octets = 0  # of those that lie in the message
        self._slots: list[Slot] = []  # of those that do not
        self._slot_octets = 0
        self._traced: Traced = []
        self._closed: dict[bytes, None] = {}
        self._said_closed: dict[bytes, None] = {}
        """What was said to be over last, a heartbeat ago at most: tun_io may have given us more before it heard."""
        self._opened: dict[bytes, None] = {}
        self._astray: list[bytes] = []
        self.draining = False
        """No new flows are wanted."""
        self.drained = False
        """tun_io has said that it gives this worker no new flows: what was on its way came before that."""
        self._flush_scheduled = False
        self._in_burst = False  # what is written then leaves when the burst is over, without another turn of the loop
        self._said_hello = 0.0
        self.mtu = runtime.config.tun.mtu
        self._far = runtime.trace.far
        self._queue: Queue | None = None
        if on_own is not None and not runtime.topology.connect:
            self._queue = Queue(runtime.loop, runtime.topology.queues, runtime.worker, self._own_packets)
        self._on_own = on_own
        self._fence = 0
        self._on_fenced: Callable[[], None] | None = None
        self._arena_numbers = count()
        self._arena = self._make_arena()
        self._partner: Partner | None = None
        self._partner_name = ""
        self._sharing = False  # tun_io has our arena mapped, and we have its own
        self._lending = Lending(secrets.randbits(62))
        self._peer = runtime.bus.peer(
            runtime.topology.packets,
            runtime.worker,
            self._received,
            high_water=HIGH_WATER,
            on_drained=self.burst_ends,
            on_room=self._room,
        )
        runtime.every(HEARTBEAT, self._beat)
        runtime.on_stop.append(self._leave)
        self._hello()

    @property
    def congested(self) -> bool:
        """Whether tun_io is behind: read nothing more from host sockets until on_room."""
        return not self._queue and self._peer.congested

    def write(self, packet: bytes, trace_id: int = 0) -> None:
        """Send a packet, vnet header in front, to the client. It leaves at the end of the loop's turn at the latest.

        What is traced goes through tun_io, so that a trace shows the way of all packets.
        """
        if self._queue and not trace_id:
            self._write_own(packet)
        elif len(packet) < LARGE or not self._write_large(packet, trace_id):
            self._collect(packet, trace_id)

    def write_parts(self, head: bytes, payload: bytes | memoryview, trace_id: int = 0) -> None:
        """Send a packet whose payload is apart; where that is large, the two are not joined if that can be."""
        if len(payload) < LARGE:
            self.write(b"".join((head, payload)), trace_id)
        elif self._queue and not trace_id:
            try:
                octets = _writev(self._queue.descriptor, (head, payload))
            except OSError as error:
                self._not_written(error)
            else:
                counters = self._counters
                counters.packets_out += 1
                counters.octets_out += octets
        else:
            self.write(b"".join((head, payload)), trace_id)

    def _write_own(self, packet: bytes | memoryview) -> None:
        try:
            octets = _write(self._queue.descriptor, packet)  # type: ignore[union-attr]
        except OSError as error:
            self._not_written(error)
        else:
            counters = self._counters
            counters.packets_out += 1
            counters.octets_out += octets

    def _not_written(self, error: OSError) -> None:
        # The kernel refuses what is no packet (EINVAL), and everything while the device is down (EIO).
        self._counters.drop(Reason.TUN_FULL if error.errno == errno.EAGAIN else Reason.MALFORMED_IP)

    def opened(self, key: bytes) -> None:
        """A flow came to this worker's own queue, and is its own from now on."""
        if not self._opened:
            self._loop.call_later(TELL_WITHIN, self._tell_opened)
        self._opened[key] = None

    def _tell_opened(self) -> None:
        if self._peer.congested:
            self._loop.call_later(TELL_WITHIN, self._tell_opened)
        elif self._opened:
            if self._closed:  # of what was there before, under the same key as may be
                self._tell_closed()
            self._peer.send(Opened(list(self._opened)))
            self._opened = {}

    def taken(self, key: bytes) -> None:
        """A flow that tun_io gave to this worker has begun: what is still to be said of one before it is not meant."""
        if key in self._closed:
            del self._closed[key]
        elif key in self._said_closed:
            self._peer.send(Opened([key]))

    def fence(self, on_fenced: Callable[[], None]) -> None:
        """Read the own queue no further until tun_io has sent what it got before; then call on_fenced, and read on.

        What was passed on goes in front, and is back by then. One fence at a time.
        """
        assert self._queue is not None, "packets of an own queue"
        self._queue.pause()
        self._pass_on_all()
        self._fence += 1
        self._on_fenced = on_fenced
        self._peer.send(Fence(self._fence))
        self._loop.call_later(FENCE_WITHIN, self._fenced, self._fence)

    def _fenced(self, number: int) -> None:
        if number != self._fence or self._on_fenced is None or self._queue is None:
            return
        on_fenced, self._on_fenced = self._on_fenced, None
        self._in_burst = True
        on_fenced()
        self.burst_ends()
        self._pass_on_all()
        if self._on_fenced is None:
            self._queue.resume()

    def read_own(self) -> None:
        """Deal with what the own queue holds at this moment, before anything that came later in another way."""
        if self._queue:
            self._queue.empty()

    def pass_on(self, packet: bytes | memoryview) -> None:
        """A packet of the own queue is not this worker's to deal with: tun_io gets it."""
        self._astray.append(bytes(packet))

    def _own_packets(self, packets: list[bytes | memoryview]) -> None:
        counters = self._counters
        counters.packets_in += len(packets)
        for packet in packets:
            counters.octets_in += len(packet)
        self._in_burst = True
        self._on_own(packets)  # type: ignore[misc]
        self.burst_ends()
        self._pass_on_all()

    def _pass_on_all(self) -> None:
        if self._astray:
            astray, self._astray = self._astray, []
            if self._peer.congested:
                self._counters.drop(Reason.QUEUE_FULL, len(astray))
            else:
                self._peer.send(Astray(astray))

    def _collect(self, packet: bytes, trace_id: int) -> None:
        if trace_id:
            self._traced.append([len(self._packets), trace_id])
        self._packets.append(packet)
        self._octets += len(packet)
        if self._octets >= BATCH_OCTETS or len(self._packets) >= BATCH_PACKETS:
            self.flush()
        elif not self._flush_scheduled and not self._in_burst:
            self._flush_scheduled = True
            self._loop.call_soon(self._flush_soon)

    def slot(self) -> Slot | None:
        """Room for a packet to the client, held once: the payload behind the headroom; None where all is taken."""
        return self._arena.take() if self._arena is not None and (self._sharing or self._queue) else None

    def write_slot(self, slot: Slot, head: bytes, octets: int, trace_id: int = 0) -> None:
        """Send what lies in a slot: so many octets of payload, and this head, which is put in front of them.

        The caller goes on holding the slot, for as long as it may have to send it again.
        """
        if self._queue and not trace_id:
            if self._arena is not None and self._arena.owns(slot):
                self._write_own(framed(slot, head, octets))
            else:
                self.write_parts(head, slot.payload[:octets])
            return
        if not self._sharing or self._arena is None or not self._arena.owns(slot):
            self._collect(b"".join((head, slot.payload[:octets])), trace_id)
            return
        start = HEADROOM - len(head)
        slot.view[start:HEADROOM] = head
        if trace_id:
            self._traced.append([len(self._packets), trace_id])
        self._packets.append([slot.position + start, len(head) + octets])
        slot.hold()
        self._slots.append(slot)
        self._slot_octets += len(head) + octets
        if len(self._packets) >= BATCH_PACKETS:
            self.flush()
        elif not self._flush_scheduled and not self._in_burst:
            self._flush_scheduled = True
            self._loop.call_soon(self._flush_soon)

    def forget(self, key: bytes) -> None:
        """A flow is over, or tun_io's first packet of one was refused: it need not remember who has it."""
        if key in self._opened:
            del self._opened[key]
        else:
            self._closed[key] = None

    def _tell_closed(self) -> None:
        self._said_closed, self._closed = self._closed, {}
        self._peer.send(Closed(list(self._said_closed)))

    def drain(self) -> None:
        """Ask for no new flows; the owner calls Runtime.stop when `drained` is true and its last flow is over."""
        self.draining = True
        self._peer.send(Drain(self._runtime.worker))

    def flush(self) -> None:
        """Send what has been collected."""
        if not self._packets:
            return
        counters = self._counters
        counters.packets_out += len(self._packets)
        counters.octets_out += self._octets + self._slot_octets
        lending = self._lending
        for slot in self._slots:
            lending.lend(slot)
        self._say(self._packets, self._traced)
        counters.queue = self._peer.waiting
        self._packets = []
        self._octets = 0
        if self._slots:
            self._slots = []
            self._slot_octets = 0
        if self._traced:
            self._traced = []

    def _say(self, packets: Packets, traced: Traced) -> None:
        lending = self._lending
        lending.reported = lending.borrowed
        now = self._clock() if self._far is None else self._far.theirs(self._clock())
        self._peer.send(ToTun(now, packets, traced, lending.lent, lending.borrowed))

    def _write_large(self, packet: bytes, trace_id: int) -> bool:
        slot = self.slot()
        if slot is None or len(packet) > len(slot.payload):
            return False
        slot.payload[: len(packet)] = packet
        self.write_slot(slot, b"", len(packet), trace_id)
        slot.release()
        return True

    def _make_arena(self) -> Arena | None:
        if self._runtime.topology.connect:
            return None  # another host cannot map it
        name = f"arena-{self._runtime.worker}-{os.getpid()}-{next(self._arena_numbers)}"
        try:
            return Arena(self._runtime.topology.directory / name)
        except OSError as error:
            _log.warning("no shared memory for large packets, which makes them slow: %s", error)
            return None

    def burst_begins(self) -> None:
        """Events are about to be dealt with, many at once: what is written leaves when burst_ends is called."""
        self._in_burst = True

    def burst_ends(self) -> None:
        """Send what was written since burst_begins."""
        self._in_burst = False
        self.flush()
        if self._lending.borrowed - self._lending.reported >= RETURN_AT:
            self._say([], [])

    def _flush_soon(self) -> None:
        self._flush_scheduled = False
        self.flush()

    def _received(self, message: Message) -> None:
        if isinstance(message, FromTun):
            packets = self._resolve(message.packets)
            counters = self._counters
            counters.packets_in += len(packets)
            counters.octets_in += sum(map(len, packets))
            traced: dict[int, int] = {}
            if self._far is not None:
                self._far.heard(message.sent_at, self._clock())
            if message.traced:
                traced = self._runtime.trace.received(message.traced, message.sent_at)
            self._in_burst = True
            self._on_batch(packets, traced)
            lending = self._lending
            lending.borrowed = message.lent
            lending.returned(message.returned)
        elif isinstance(message, WhoAreYou):
            # A tun_io that was away finds many heartbeats in its queue and asks after each; one answer will do.
            if self._clock() - self._said_hello >= HEARTBEAT / 2:
                self._hello()
        elif isinstance(message, Welcome):
            if message.version != VERSION:
                _log.error("tun_io speaks version %d, this process %d: not used", message.version, VERSION)
                self._counters.drop(Reason.WRONG_VERSION)
                return
            self.mtu = message.mtu
            self._map(message.arena)
            if self.draining:
                self._peer.send(Drain(self._runtime.worker))
            if self._queue is not None:
                self._queue.ask()
            self._on_welcome()
        elif isinstance(message, Fence):
            self._fenced(message.number)
        elif isinstance(message, Drain):
            self.drained = True
            self._on_drained()

    def _hello(self) -> None:
        runtime = self._runtime
        self._said_hello = self._clock()
        self._sharing = False
        if self._lending.outstanding and self._arena is not None:
            # What was lent to a tun_io that is gone, or that thought we were, is for it alone to look at.
            self.flush()
            self._arena.retire()
            self._lending.forget()
            self._arena = self._make_arena()
        name = self._arena.path.name if self._arena is not None else ""
        self._peer.send(Hello(VERSION, runtime.stage, runtime.worker, os.getpid(), self._flows(), name))
        self._opened = {}  # that was said with it

    def _map(self, name: str) -> None:
        """From here on references of tun_io's mean this arena."""
        if name != self._partner_name:
            self._partner = None
            self._partner_name = name
            try:
                self._partner = Partner(self._runtime.topology.directory, name) if name else None
            except ArenaError as error:
                # It could map ours, in the same directory and as the same user.
                _log.error("large packets of the client are lost: %s", error)
        self._sharing = self._partner is not None

    def _resolve(self, packets: Packets) -> list[Any]:
        """The packets themselves; a reference that means nothing becomes an empty packet, which is dropped as such."""
        if list not in map(type, packets):
            return packets
        whole: list[Any] = []
        for packet in packets:
            if type(packet) is not list:
                whole.append(packet)
                continue
            try:
                view = self._partner.packet(packet) if self._partner is not None else b""
            except ArenaError:
                view = b""
            whole.append(view if self._views else bytes(view))
        return whole

    def _room(self) -> None:
        self._counters.queue = 0
        self._on_room()

    def _beat(self) -> None:
        if self._peer.congested:
            return
        self._said_closed = {}
        if self._closed:
            self._tell_closed()
        if self._lending.borrowed != self._lending.reported:
            self._say([], [])
        self._peer.send(Heartbeat(self._runtime.worker))
        if self._queue is not None:
            self._queue.ask()  # there was none, or nobody to give one

    def _leave(self) -> None:
        self.flush()
        if self._closed:
            self._tell_closed()
        self._peer.send(Bye(self._runtime.worker))
        if self._queue is not None:
            self._queue.close()
        if self._arena is not None:
            self._arena.retire()
