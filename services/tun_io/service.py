"""The shell of tun_io: frames from the TUN to the workers in batches, and back."""

import logging
import os
import secrets
from collections.abc import Sequence
from itertools import count
from typing import Final

from netstack.packet.reason import MalformedPacketError, Reason
from netstack.runtime.service import Runtime
from netstack.runtime.tunnel import HIGH_WATER, RETURN_AT, TELL_WITHIN
from netstack.wire.arena import LARGE, Arena, Slot, private_slot
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
    ToTun,
    Welcome,
    WhoAreYou,
)
from netstack.wire.partner import ArenaError, Partner
from netstack.wire.steering import STEERED, Steering
from netstack.wire.topology import WORKER_STAGES
from services.tun_io import answers, device
from services.tun_io.classify import Class, Classifier, Kind
from services.tun_io.link import Link
from services.tun_io.queues import Queues
from services.tun_io.reassembly import Reassembler
from services.tun_io.refusing import Refuser
from services.tun_io.roster import Roster, Worker

_SWEEP: Final = 0.25  # seconds between looks at the workers' health
_STAGE_OF: Final = ("tcp_fwd", "dns_filter", "udp_fwd", "udp_fwd")  # by Kind: TCP, DNS, UDP, ECHO
_FLOWLESS: Final = "dns_filter"
"""The stage whose packets belong to no flow, and may come to another of its workers from one to the next."""

_NUDGES: Final = 256  # per turn of the loop
_REFUSED_KEPT: Final = 64  # workers
_QUEUE_BURSTS: Final = 16  # more than our queue of the TUN holds (its txqueuelen is 500)
_TCP_KEYS: Final = frozenset({12, 36})  # octets of a TCP flow's key, IPv4 and IPv6

_log = logging.getLogger(__name__)


class TunIo:
    """One TUN and its workers."""

    def __init__(self, runtime: Runtime, descriptors: Sequence[int]) -> None:
        """The descriptors are those of the device: its first queue is ours, the others are for workers."""
        self._runtime = runtime
        config = runtime.config
        self._loop = runtime.loop
        self._now = runtime.loop.time
        self._counters = runtime.counters
        queues, table = device.split(descriptors)
        self._descriptor = queues[0]
        self._steering = Steering(table) if table is not None else None
        self._classifier = Classifier(frozenset(config.quic.ports) if config.quic.block else frozenset())
        self._reassembler = Reassembler()
        self._answer_quic = config.quic.answer == "reject"
        self._gateways = answers.gateways(config.tun.addresses, config.tun.dns)
        self._refuser = Refuser(self._gateways)
        flows = max(config.tcp.max_flows * config.workers.tcp_fwd, config.udp.max_flows * config.workers.udp_fwd)
        self._roster = Roster(2 * flows, self._now())
        self._links: dict[bytes, Link] = {}
        self._arena_numbers = count()
        self._arena = self._make_arena()
        self._private = private_slot()
        self._spare: Slot | None = None
        self._lost: list[bytes] = []
        self._refused: set[bytes] = set()
        self._reading = False
        topology = runtime.topology
        self._queues = Queues(
            runtime.loop, topology.queues, queues[1:],
            is_worker=self._may_borrow, on_change=self._flows_may_move, steering=self._steering,
        )  # fmt: skip
        self._hub = runtime.bus.hub(topology.bound(topology.packets), self._on_message, high_water=HIGH_WATER)
        runtime.before_sample = self._before_sample
        runtime.every(_SWEEP, self._sweep)
        runtime.on_stop.append(self._stop)

    # --- TUN -> workers -----------------------------------------------------------------------------------------------

    def _readable(self) -> int:
        """Deal with a burst; how many frames that were."""
        try:
            return self._read_burst()
        except OSError as error:
            _log.critical("the TUN is gone: %s", error)
            self._runtime.stop()
            return 0

    def _read_burst(self) -> int:
        """Read what the kernel has ready, at most BURST frames, and send it on; raises OSError when the device is gone.

        Nearly all of it belongs to TCP connections that have a worker; for these a look at the header is enough.
        """
        now = self._now()
        tracing = self._runtime.trace.active
        owners = self._roster.tcp_owners
        links = self._links
        descriptor = self._descriptor
        read = octets = 0
        slot = self._spare or self._take()
        while read < device.BURST:
            try:
                length = os.readv(descriptor, slot.buffers)
            except BlockingIOError:
                break
            read += 1
            octets += length
            at = slot.position
            is_large = length >= LARGE
            head = slot.memory[at : at + (device.HEAD if is_large else length)]
            worker = None
            if length > device.SHORTEST_TCP:
                if head[10] == 0x45:
                    # TCP, no fragment, and hops left to live.
                    if head[19] == 6 and head[18] > 1 and not (head[16] & 0x3F or head[17]):
                        worker = owners.get(head[22:34])
                elif head[16] == 6 and head[17] > 1 and head[10] >> 4 == 6:
                    worker = owners.get(head[18:54])
            if worker is not None:
                link = links[worker.identity]
            else:
                whole = slot.memory[at : at + length] if is_large else head
                found = self._find_link(whole, now, tracing=tracing)
                if found is None:
                    continue
                link, frame = found
                if frame is not whole:
                    link.add(frame)  # it was put together from fragments
                    continue
            if is_large and link.shares and slot is not self._private:
                link.add_slot(slot, length)
                slot = self._take()
            else:
                link.add(slot.memory[at : at + length] if is_large else head)
            if link.is_full:
                self._send(link)
        self._spare = slot
        self._counters.packets_in += read
        self._counters.octets_in += octets
        for link in links.values():
            if link.packets:
                self._send(link)
        return read

    def _answer_fence(self, identity: bytes, fence: Fence) -> None:
        """Send on what the kernel put into our queue up to now, and this behind it."""
        if self._reading:
            for _ in range(_QUEUE_BURSTS):
                if self._readable() < device.BURST:
                    break
        self._hub.send(identity, fence)

    def _astray(self, frames: list[bytes]) -> None:
        """Deal with what came to a worker's own queue, and was not for it."""
        now = self._now()
        tracing = self._runtime.trace.active
        for frame in frames:
            found = self._find_link(frame, now, tracing=tracing)
            if found is None:
                continue
            link, whole = found
            link.add(whole)
            if link.is_full:
                self._send(link)
        self._counters.packets_in += len(frames)
        self._counters.octets_in += sum(map(len, frames))
        for link in self._links.values():
            if link.packets:
                self._send(link)

    def _flows_may_move(self) -> None:
        """A queue came or went: flows of which a worker is still to tell may come to another queue."""
        self._steer()
        self._roster.hesitate(self._now() + 2 * TELL_WITHIN)

    def _steer(self) -> None:
        """Say which queues the packets of each stage go to."""
        if self._steering is None:
            return
        workers = self._roster.workers
        # Those that drain keep the queue for the flows that they have; DNS has none.
        able = [one for one in workers if not (one.draining and one.stage == _FLOWLESS)]
        self._steering.steer(
            *(self._queues.of({one.identity for one in able if one.stage == stage}) for stage in STEERED)
        )

    def _may_borrow(self, identity: bytes) -> bool:
        """Whether a process may have a queue: one of the roster to which something of its own would come there."""
        return identity in self._roster and (self._steering is not None or self._roster.stage_of(identity) != _FLOWLESS)

    def _take(self) -> Slot:
        """Room for the next packet: shared while there is any, else our own alone."""
        slot = self._arena.take() if self._arena is not None else None
        return slot or self._private

    def _find_link(self, frame: bytes, now: float, *, tracing: bool) -> tuple[Link, bytes] | None:
        """Where a packet goes, and what goes there: itself, or what it completes. None where it ends here."""
        try:
            found = self._classifier.classify(frame)
        except MalformedPacketError as error:
            if error.reason is not Reason.FRAGMENT:
                self._refuse(frame, error, now)
                return None
            whole = self._reassemble(frame, now)
            if whole is None:
                return None
            found, frame = whole
        worker, is_new = self._worker_for(found, frame, now)
        if worker is None:
            return None
        link = self._links[worker.identity]
        if tracing and is_new:
            trace_id = self._runtime.trace.new_id()
            link.traced.append([len(link.packets), trace_id])
            self._runtime.trace.hop(trace_id, "read", at=now, detail=f"{found.kind.name} {len(frame)} octets")
        return link, frame

    def _reassemble(self, fragment: bytes, now: float) -> tuple[Class, bytes] | None:
        """What a fragment completes, and its frame; None where others are to come, or it was dropped and counted."""
        frame: bytes | None = fragment
        try:
            frame, evicted = self._reassembler.add(fragment, now)
            if evicted:
                self._counters.drop(Reason.FRAGMENT_LIMIT, evicted)
            return (self._classifier.classify(frame), frame) if frame is not None else None
        except MalformedPacketError as error:
            self._refuse(frame or fragment, error, now)
            return None

    def _refuse(self, frame: bytes, error: MalformedPacketError, now: float) -> None:
        """Count a packet that nobody takes, and answer it where it is to be answered."""
        refused = self._refuser.refuse(frame, error, now)
        self._counters.drop(refused.reason)
        if refused.answer is not None:
            self._write(refused.answer)

    def _worker_for(self, found: Class, frame: bytes, now: float) -> tuple[Worker | None, bool]:
        """Who gets a packet, and whether it opens a flow; what nobody gets has been answered or counted."""
        kind = found.kind
        if kind > Kind.ECHO:
            self._answer(kind, frame)
            return None, False
        stage = _STAGE_OF[kind]
        roster = self._roster
        if kind is Kind.DNS:
            worker = roster.anybody(stage)
            if worker is None:
                self._counters.drop(Reason.NO_WORKER)
            return worker, True
        worker = roster.owner(stage, found.key)
        if worker is not None:
            return worker, False
        if found.opens:
            worker = roster.assign(stage, found.key)
            if worker is None:
                has = stage in roster.stages()
                self._counters.drop(Reason.FLOW_TABLE_FULL if has else Reason.NO_WORKER)
            return worker, True
        if roster.adopting(now):
            self._counters.drop(Reason.FLOW_UNKNOWN)
            return None, False
        worker = roster.anybody(stage)
        if worker is None:
            self._counters.drop(Reason.NO_WORKER)
        return worker, False

    def _answer(self, kind: Kind, frame: bytes) -> None:
        if kind is Kind.QUIC:
            self._counters.drop(Reason.QUIC_BLOCKED)
            reply = answers.refuse_quic(frame) if self._answer_quic else None
        else:
            self._counters.drop(Reason.TTL_EXCEEDED)
            reply = answers.time_exceeded(frame, self._gateways.get(frame[10] >> 4))
        if reply is not None:
            self._write(reply)

    def _send(self, link: Link) -> None:
        lending = link.lending
        packets, traced, slots = link.take()
        message = FromTun(self._now(), packets, traced, lending.lent + len(slots), lending.borrowed)
        if self._hub.send(link.identity, message):
            lending.reported = lending.borrowed
            for slot in slots:
                lending.lend(slot)
        else:
            self._counters.drop(Reason.QUEUE_FULL, len(packets))
            for slot in slots:
                slot.release()

    def _give_back(self) -> None:
        """Tell those to whom nothing else is to be said that we are done with what they lent us."""
        for link in self._links.values():
            if link.lending.borrowed != link.lending.reported:
                self._send(link)

    # --- workers -> TUN -----------------------------------------------------------------------------------------------

    def _on_message(self, identity: bytes, message: Message) -> None:
        if isinstance(message, ToTun):
            self._to_tun(identity, message)
        elif isinstance(message, Hello):
            self._hello(identity, message)
        elif identity not in self._roster:
            self._hub.send(identity, WhoAreYou(VERSION))
        elif isinstance(message, Heartbeat):
            self._roster.heard(identity, self._now())
        elif isinstance(message, Closed):
            self._roster.closed(identity, message.flows)
        elif isinstance(message, Opened):
            self._roster.opened(identity, message.flows)
        elif isinstance(message, Astray):
            self._astray(message.frames)
        elif isinstance(message, Fence):
            self._answer_fence(identity, message)
        elif isinstance(message, Drain):
            self._roster.drain(identity)
            self._steer()
            self._hub.send(identity, message)  # behind whatever was given to it before
            _log.info("%s drains", identity.decode(errors="replace"))
        elif isinstance(message, Bye):
            self._gone(identity, "left")

    def _to_tun(self, identity: bytes, message: ToTun) -> None:
        link = self._links.get(identity)
        for packet in message.packets:
            if type(packet) is list:
                try:
                    self._write(link.packet(packet) if link is not None else b"")
                except ArenaError:
                    self._counters.drop(Reason.MALFORMED_FRAME)
            else:
                self._write(packet)  # type: ignore[arg-type]
        if link is not None:
            lending = link.lending
            lending.borrowed = message.lent
            lending.returned(message.returned)
            if message.lent - lending.reported >= RETURN_AT:
                self._send(link)
        if message.traced:
            self._trace_written(message)

    def _write(self, packet: bytes | memoryview) -> None:
        try:
            os.write(self._descriptor, packet)
        except BlockingIOError:
            self._counters.drop(Reason.TUN_FULL)
        except OSError:
            # The kernel refuses what is no packet (EINVAL), and everything while the device is down (EIO).
            self._counters.drop(Reason.MALFORMED_IP)
        else:
            self._counters.packets_out += 1
            self._counters.octets_out += len(packet)

    def _trace_written(self, message: ToTun) -> None:
        now = self._now()
        for index, trace_id in message.traced:
            packet = message.packets[index] if 0 <= index < len(message.packets) else b""
            octets = len(packet) if type(packet) is bytes else packet[-1]
            self._runtime.trace.hop(
                trace_id, "wrote", at=now, queue_wait=max(0.0, now - message.sent_at), service=self._now() - now,
                detail=f"{octets} octets",
            )  # fmt: skip

    # --- the roster ---------------------------------------------------------------------------------------------------

    def _hello(self, identity: bytes, hello: Hello) -> None:
        if hello.version != VERSION or hello.stage not in WORKER_STAGES:
            # It goes on trying: once is enough for the log.
            level = logging.DEBUG if identity in self._refused else logging.ERROR
            self._refused = {*list(self._refused)[-_REFUSED_KEPT:], identity}
            _log.log(
                level,
                "%s speaks version %d of stage %r, this tun_io version %d: refused; run the same release everywhere",
                hello.worker, hello.version, hello.stage, VERSION,
            )  # fmt: skip
            self._counters.drop(Reason.WRONG_VERSION)
            self._hub.send(identity, Welcome(VERSION, hello.worker, self._runtime.config.tun.mtu))
            return
        self._refused.discard(identity)
        if identity not in self._roster:
            _log.info("%s is here (pid %d)", hello.worker, hello.pid)
        lost = self._roster.hello(identity, hello.stage, hello.pid, hello.flows, self._now())
        if hello.stage == "tcp_fwd":
            self._reset_soon(lost)
        shares = self._link(identity, hello.arena)
        arena = self._arena.path.name if shares and self._arena is not None else ""
        self._hub.send(identity, Welcome(VERSION, hello.worker, self._runtime.config.tun.mtu, arena))
        if not self._reading and self._roster.stages() >= set(WORKER_STAGES):
            self._reading = True
            self._loop.add_reader(self._descriptor, self._readable)
            self._runtime.ready()

    def _link(self, identity: bytes, arena: str) -> bool:
        """Make the link to a worker that said hello; whether the two see each other's arenas."""
        self._unlink(identity)
        partner = None
        if self._arena is not None and arena:
            try:
                partner = Partner(self._runtime.topology.directory, arena)
            except ArenaError as error:
                _log.warning("%s: %s; large packets travel in messages, which makes them slow",
                             identity.decode(errors="replace"), error)  # fmt: skip
        self._links[identity] = Link(identity, partner, Lending(secrets.randbits(62)))
        return partner is not None

    def _unlink(self, identity: bytes) -> None:
        """A worker is gone. What was lent to it must not change: it may yet wake up and read it."""
        link = self._links.pop(identity, None)
        if link is None or not link.lending.outstanding or self._arena is None:
            return
        self._arena.retire()
        self._arena = self._make_arena()
        self._spare = None
        name = self._arena.path.name if self._arena is not None else ""
        for other in self._links.values():
            other.lending.forget()
            if other.shares:
                other.shares = bool(name)
                worker = other.identity.decode(errors="replace")
                self._hub.send(other.identity, Welcome(VERSION, worker, self._runtime.config.tun.mtu, name))

    def _make_arena(self) -> Arena | None:
        runtime = self._runtime
        name = f"arena-{runtime.worker}-{os.getpid()}-{next(self._arena_numbers)}"
        try:
            return Arena(runtime.topology.directory / name)
        except OSError as error:
            _log.warning("no shared memory for large packets, which makes them slow: %s", error)
            return None

    def _gone(self, identity: bytes, how: str) -> None:
        self._unlink(identity)
        self._queues.withdraw(identity)
        worker = next(one for one in self._roster.workers if one.identity == identity)
        lost = self._roster.remove(identity)
        # One that leaves in order resets its flows itself.
        if how == "left":
            _log.info("%s left", identity.decode(errors="replace"))
        else:
            _log.warning("%s %s; %d flows were its own", identity.decode(errors="replace"), how, len(lost))
        if worker.stage == "tcp_fwd":
            self._reset_soon(lost)

    def _sweep(self) -> None:
        now = self._now()
        for worker in self._roster.silent(now):
            self._gone(worker.identity, "is silent")
        for worker in list(self._roster.workers):
            # A peer that has gone away makes this fail at once, long before its silence would tell. One whose queue is
            # full has much to do.
            late = now - worker.last_heard > 2 * _SWEEP
            if late and not self._hub.send(worker.identity, Heartbeat("")) and self._hub.unreachable:
                self._gone(worker.identity, "has gone away")
        for packet in self._reassembler.expire(now):
            self._counters.drop(Reason.FRAGMENT_TIMEOUT)
            if packet:
                self._write(answers.reassembly_time_exceeded(packet, self._gateways.get(packet[0] >> 4)))
        if not self._roster.adopting(now):
            self._queues.expire()
        self._give_back()
        self._nudge()

    def _reset_soon(self, lost: list[bytes]) -> None:
        if lost:
            self._counters.drop(Reason.WORKER_LOST, len(lost))
            # What a worker called its flows may be anything.
            self._lost.extend(key for key in lost if len(key) in _TCP_KEYS)
            self._nudge()

    def _nudge(self) -> None:
        """Make the clients of lost flows speak; whoever gets their words resets them."""
        if not self._lost or self._roster.anybody("tcp_fwd") is None:
            return
        now, self._lost = self._lost[:_NUDGES], self._lost[_NUDGES:]
        for key in now:
            self._write(answers.nudge(key))
        if self._lost:
            self._loop.call_later(0.01, self._nudge)

    def _before_sample(self) -> None:
        self._counters.gauges["fragmented"] = len(self._reassembler)
        self._counters.gauges["queues_lent"] = len(self._queues)
        for stage in ("tcp_fwd", "udp_fwd"):
            self._counters.gauges[f"{stage}_flows"] = self._roster.flows(stage)
        for stage in WORKER_STAGES:
            self._counters.gauges[f"{stage}_workers"] = sum(one.stage == stage for one in self._roster.workers)

    def _stop(self) -> None:
        if self._reading:
            self._loop.remove_reader(self._descriptor)
        os.close(self._descriptor)
        self._queues.close()
        if self._arena is not None:
            self._arena.retire()
