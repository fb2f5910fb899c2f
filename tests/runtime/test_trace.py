"""Hops of traced packets, as a command hears them."""

import asyncio
import time
from pathlib import Path

import pytest

from netstack.runtime.farclock import FarClock
from netstack.runtime.trace import OTHER_HOST, TOPIC, Tracer
from netstack.wire.bus import Bus
from netstack.wire.messages import TraceHop
from tests.inbox import Inbox


def test_ids_are_never_zero_and_fit_the_wire() -> None:
    tracer = Tracer(publisher=None, stage="tun_io", worker="tun_io-1")  # type: ignore[arg-type]
    ids = [tracer.new_id() for _ in range(1000)]
    assert all(0 < number < 1 << 63 for number in ids)
    assert len(set(ids)) == len(ids)


def test_hops_reach_whoever_listens(run_dir: Path) -> None:
    async def scenario() -> None:
        bus = Bus(asyncio.get_running_loop())
        subscribed, heard = Inbox(), Inbox()
        publisher = bus.publisher(f"ipc://{run_dir}/x", bind=True)
        publisher.on_subscribe = subscribed
        tracer = Tracer(publisher, "tun_io", "tun_io-1")
        assert not tracer.active
        bus.subscriber(f"ipc://{run_dir}/x", [b"sample"], Inbox())
        await subscribed.until(1)
        assert not tracer.active, "one who wants something else does not make packets traced"
        bus.subscriber(f"ipc://{run_dir}/x", [TOPIC], heard)
        await subscribed.until(2)
        assert tracer.active

        before = time.monotonic()
        tracer.hop(0, "not traced", at=before)
        tracer.hop(7, "read", at=before, detail="TCP")
        tracer.hop(7, "wrote", at=before, queue_wait=0.5, service=0.25)
        assert tracer.received([[3, 7], [5, 8]], sent_at=before) == {3: 7, 5: 8}
        read, wrote, first, second = [hop for _, hop in await heard.until(4)]
        assert read[:5] == (7, "tun_io", "tun_io-1", "read", before)
        assert read.detail == "TCP"
        assert 0 <= read.service <= time.monotonic() - before, "the time since the work began"
        assert wrote == TraceHop(7, "tun_io", "tun_io-1", "wrote", before, 0.5, 0.25, "")
        assert (first.trace_id, first.event, first.service) == (7, "received", 0.0)
        assert second.trace_id == 8
        assert first.at - first.queue_wait == before
        bus.close(linger=0)

    asyncio.run(scenario())


def test_where_tun_io_is_on_another_host_all_times_are_on_its_clock(run_dir: Path) -> None:
    async def scenario() -> None:
        bus = Bus(asyncio.get_running_loop())
        subscribed, heard = Inbox(), Inbox()
        publisher = bus.publisher(f"ipc://{run_dir}/x", bind=True)
        publisher.on_subscribe = subscribed
        bus.subscriber(f"ipc://{run_dir}/x", [TOPIC], heard)
        await subscribed.until(1)
        far = FarClock()
        tracer = Tracer(publisher, "tcp_fwd", "tcp_fwd-1", far)
        now = time.monotonic()
        far.heard(now - 1_000_000, now)
        tracer.hop(7, "connected", at=now)
        tracer.received([[0, 7]], sent_at=time.monotonic() - 1_000_000.25)
        connected, received = [hop for _, hop in await heard.until(2)]
        assert connected.at == pytest.approx(now - 1_000_000)
        assert 0 <= connected.service < 10, "durations are ours"
        assert received.queue_wait == pytest.approx(0.25, abs=0.01)
        assert received.detail == OTHER_HOST
        bus.close(linger=0)

    asyncio.run(scenario())
