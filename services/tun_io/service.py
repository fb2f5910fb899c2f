"""The shell of tun_io: frames from the TUN to the workers in batches, and back."""

import logging
import os
from typing import Final

from netstack.packet.reason import MalformedPacketError, Reason
from netstack.runtime.service import Runtime
from netstack.runtime.tunnel import BATCH_OCTETS, HIGH_WATER
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
from netstack.wire.topology import WORKER_STAGES
from services.tun_io import answers, device
from services.tun_io.classify import Class, Classifier, Kind
from services.tun_io.reassembly import Reassembler
from services.tun_io.roster import Roster, Worker

_SWEEP: Final = 0.25  # seconds between looks at the workers' health
_STAGE_OF: Final = ("tcp_fwd", "dns_filter", "udp_fwd", "udp_fwd")  # by Kind: TCP, DNS, UDP, ECHO
_NUDGES: Final = 256  # per turn of the loop
_REFUSED_KEPT: Final = 64  # workers
_TCP_KEYS: Final = frozenset({12, 36})  # octets of a TCP flow's key, IPv4 and IPv6

_log = logging.getLogger(__name__)


class TunIo:
    """One TUN and its workers."""

    def __init__(self, runtime: Runtime, descriptor: int) -> None:
        self._runtime = runtime
        config = runtime.config
        self._loop = runtime.loop
        self._now = runtime.loop.time
        self._counters = runtime.counters
        self._descriptor = descriptor
        self._classifier = Classifier(frozenset(config.quic.ports) if config.quic.block else frozenset())
        self._reassembler = Reassembler()
        self._answer_quic = config.quic.answer == "reject"
        self._gateways = answers.gateways(config.tun.addresses, config.tun.dns)
        flows = max(config.tcp.max_flows * config.workers.tcp_fwd, config.udp.max_flows * config.workers.udp_fwd)
        self._roster = Roster(2 * flows, self._now())
        self._lost: list[bytes] = []
        self._refused: set[bytes] = set()
        self._reading = False
        self._hub = runtime.bus.hub(runtime.topology.packets, self._on_message, high_water=HIGH_WATER)
        self._hub.views = True
        runtime.before_sample = self._before_sample
        runtime.every(_SWEEP, self._sweep)
        runtime.on_stop.append(self._stop)

    # --- TUN -> workers -----------------------------------------------------------------------------------------------

    def _readable(self) -> None:
        try:
            frames = device.read_burst(self._descriptor)
        except OSError as error:
            _log.critical("the TUN is gone: %s", error)
            self._runtime.stop()
            return
        if not frames:
            return
        now = self._now()
        counters = self._counters
        counters.packets_in += len(frames)
        tracing = self._runtime.trace.active
        batches: dict[bytes, list[bytes]] = {}
        traced: dict[bytes, Traced] = {}
        for read in frames:
            frame = read
            counters.octets_in += len(frame)
            try:
                found = self._classifier.classify(frame)
            except MalformedPacketError as error:
                if error.reason is not Reason.FRAGMENT:
                    counters.drop(error.reason)
                    continue
                whole = self._reassemble(frame, now)
                if whole is None:
                    continue
                found, frame = whole
            worker, is_new = self._worker_for(found, frame, now)
            if worker is None:
                continue
            batch = batches.setdefault(worker.identity, [])
            if tracing and is_new:
                trace_id = self._runtime.trace.new_id()
                traced.setdefault(worker.identity, []).append([len(batch), trace_id])
                self._runtime.trace.hop(trace_id, "read", at=now, detail=f"{found.kind.name} {len(frame)} octets")
            batch.append(frame)
        for identity, batch in batches.items():
            self._send(identity, batch, traced.get(identity, []))

    def _reassemble(self, fragment: bytes, now: float) -> tuple[Class, bytes] | None:
        """What a fragment completes, and its frame; None where others are to come, or it was dropped and counted."""
        try:
            frame, evicted = self._reassembler.add(fragment, now)
            if evicted:
                self._counters.drop(Reason.FRAGMENT_LIMIT, evicted)
            return (self._classifier.classify(frame), frame) if frame is not None else None
        except MalformedPacketError as error:
            self._counters.drop(error.reason)
            return None

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

    def _send(self, identity: bytes, batch: list[bytes], traced: Traced) -> None:
        octets = sum(map(len, batch))
        if octets <= BATCH_OCTETS:
            if not self._hub.send(identity, FromTun(self._now(), batch, traced)):
                self._counters.drop(Reason.QUEUE_FULL, len(batch))
            return
        half = len(batch) // 2 or 1
        if len(batch) == 1:
            if not self._hub.send(identity, FromTun(self._now(), batch, traced)):
                self._counters.drop(Reason.QUEUE_FULL)
            return
        self._send(identity, batch[:half], [pair for pair in traced if pair[0] < half])
        self._send(identity, batch[half:], [[index - half, one] for index, one in traced if index >= half])

    # --- workers -> TUN -----------------------------------------------------------------------------------------------

    def _on_message(self, identity: bytes, message: Message) -> None:
        if isinstance(message, ToTun):
            for packet in message.packets:
                self._write(packet)
            if message.traced:
                self._trace_written(message)
        elif isinstance(message, Hello):
            self._hello(identity, message)
        elif identity not in self._roster:
            self._hub.send(identity, WhoAreYou(VERSION))
        elif isinstance(message, Heartbeat):
            self._roster.heard(identity, self._now())
        elif isinstance(message, Closed):
            self._roster.closed(identity, message.flows)
        elif isinstance(message, Drain):
            self._roster.drain(identity)
            _log.info("%s drains", identity.decode(errors="replace"))
        elif isinstance(message, Bye):
            self._gone(identity, "left")

    def _write(self, packet: bytes) -> None:
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
            octets = len(message.packets[index]) if 0 <= index < len(message.packets) else 0
            self._runtime.trace.hop(
                trace_id, "wrote", at=now, queue_wait=now - message.sent_at, service=self._now() - now,
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
        self._hub.send(identity, Welcome(VERSION, hello.worker, self._runtime.config.tun.mtu))
        if not self._reading and self._roster.stages() >= set(WORKER_STAGES):
            self._reading = True
            self._loop.add_reader(self._descriptor, self._readable)
            self._runtime.ready()

    def _gone(self, identity: bytes, how: str) -> None:
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
            # A peer that has gone away makes this fail at once, long before its silence would tell.
            if now - worker.last_heard > 2 * _SWEEP and not self._hub.send(worker.identity, Heartbeat("")):
                self._gone(worker.identity, "has gone away")
        for packet in self._reassembler.expire(now):
            self._counters.drop(Reason.FRAGMENT_TIMEOUT)
            if packet:
                self._write(answers.reassembly_time_exceeded(packet, self._gateways.get(packet[0] >> 4)))
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
        for stage in ("tcp_fwd", "udp_fwd"):
            self._counters.gauges[f"{stage}_flows"] = self._roster.flows(stage)
        for stage in WORKER_STAGES:
            self._counters.gauges[f"{stage}_workers"] = sum(one.stage == stage for one in self._roster.workers)

    def _stop(self) -> None:
        if self._reading:
            self._loop.remove_reader(self._descriptor)
        os.close(self._descriptor)
