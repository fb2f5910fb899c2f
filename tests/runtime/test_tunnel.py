"""A worker's side of the packets link, over real sockets; the test plays tun_io."""

import asyncio
import os
from pathlib import Path

import pytest
import zmq

from netstack.packet.reason import Reason
from netstack.runtime import tunnel
from netstack.runtime.config import Config
from netstack.runtime.service import Runtime
from netstack.runtime.tunnel import BATCH_OCTETS, BATCH_PACKETS, RETURN_AT, Tunnel
from netstack.wire.bus import Bus
from netstack.wire.messages import (
    VERSION,
    Bye,
    Closed,
    Drain,
    FromTun,
    Heartbeat,
    Hello,
    Opened,
    ToTun,
    Welcome,
    WhoAreYou,
)
from netstack.wire.topology import Topology
from tests.inbox import Inbox
from tests.runtime.tunnel_world import KEY, WORKER, run, sharing, tun_io, worker


@pytest.fixture(autouse=True)
def short_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tunnel, "HEARTBEAT", 0.05)


@run
async def test_a_worker_says_hello_and_is_told_the_mtu(run_dir: Path) -> None:
    welcomed = Inbox()
    async with tun_io(run_dir) as far, worker(run_dir, on_welcome=lambda: welcomed("welcome")) as (link, _):
        hello = await far.heard.first(Hello)
        assert hello[:-1] == (VERSION, "udp_fwd", WORKER, os.getpid(), [])
        assert (run_dir / hello.arena).is_file()
        far.say(Welcome(VERSION, WORKER, 9000))
        await welcomed.until(1)
        assert link.mtu == 9000


@run
async def test_a_batch_is_handed_over_with_the_ids_of_what_is_traced(run_dir: Path) -> None:
    batches = Inbox()
    async with tun_io(run_dir) as far, worker(run_dir, batches) as (_, runtime):
        await far.heard.first(Hello)
        far.say(FromTun(1.0, [b"one", b"three"], []))
        far.say(FromTun(1.0, [b"two"], [[0, 99]]))
        assert await batches.until(2) == [([b"one", b"three"], {}), ([b"two"], {0: 99})]
        assert (runtime.counters.packets_in, runtime.counters.octets_in) == (3, 11)


@run
async def test_what_is_written_in_one_turn_of_the_loop_leaves_as_one_batch(run_dir: Path) -> None:
    async with tun_io(run_dir) as far, worker(run_dir) as (link, runtime):
        link.write(b"one")
        link.write(b"two", trace_id=7)
        link.write(b"three")
        batch = await far.heard.first(ToTun)
        assert (batch.packets, batch.traced) == ([b"one", b"two", b"three"], [[1, 7]])
        assert batch.sent_at <= runtime.loop.time()
        assert (runtime.counters.packets_out, runtime.counters.octets_out) == (3, 11)
        far.heard.items.clear()
        link.write(b"four")
        assert (await far.heard.first(ToTun))[1:3] == ([b"four"], [])


@run
async def test_a_batch_is_bounded_in_packets_and_octets(run_dir: Path) -> None:
    async with tun_io(run_dir) as far, worker(run_dir) as (link, _):
        for number in range(2 * BATCH_PACKETS + 1):
            link.write(bytes([number]), trace_id=number)
        for _ in range(5):
            link.write(bytes(BATCH_OCTETS // 4))
        while sum(len(batch.packets) for batch in far.heard.of(ToTun)) < 2 * BATCH_PACKETS + 6:
            await far.heard.until(len(far.heard.items) + 1)
        batches = far.heard.of(ToTun)
        assert [len(batch.packets) for batch in batches] == [BATCH_PACKETS, BATCH_PACKETS, 5, 1]
        assert batches[1].traced == [[n, BATCH_PACKETS + n] for n in range(BATCH_PACKETS)]
        assert batches[2].traced == [[0, 2 * BATCH_PACKETS]]


@run
async def test_what_is_written_while_a_batch_is_handled_leaves_with_its_answer(run_dir: Path) -> None:
    async with tun_io(run_dir) as far:

        def answer(packets: list[bytes], _: dict[int, int]) -> None:
            for packet in packets:
                link.write(packet.upper())

        async with worker(run_dir, answer) as (link, _):
            await far.heard.first(Hello)
            far.say(FromTun(1.0, [b"a", b"b"], []))
            far.say(FromTun(1.0, [b"c"], []))
            while sum(len(batch.packets) for batch in far.heard.of(ToTun)) < 3:
                await far.heard.until(len(far.heard.items) + 1)
            assert [packet for batch in far.heard.of(ToTun) for packet in batch.packets] == [b"A", b"B", b"C"]


@run
async def test_heartbeats_go_on_and_flows_that_are_over_are_reported(run_dir: Path) -> None:
    async with tun_io(run_dir) as far, worker(run_dir) as (link, _):
        await far.heard.first(Heartbeat)
        link.forget(KEY)
        assert await far.heard.first(Closed) == Closed([KEY])
        far.heard.items.clear()
        assert await far.heard.first(Heartbeat) == Heartbeat(WORKER)
        assert far.heard.of(Closed) == []


@run
async def test_a_flow_that_begins_again_before_it_is_reported_is_not_over(run_dir: Path) -> None:
    async with tun_io(run_dir) as far, worker(run_dir) as (link, _):
        await far.heard.first(Heartbeat)
        link.forget(KEY)
        link.forget(b"other")
        link.taken(KEY)
        assert await far.heard.first(Closed) == Closed([b"other"])
        assert far.heard.of(Opened) == []


@run
async def test_one_that_tun_io_gave_while_it_was_told_that_it_is_over_is_said_to_be_there(run_dir: Path) -> None:
    async with tun_io(run_dir) as far, worker(run_dir) as (link, _):
        await far.heard.first(Heartbeat)
        link.forget(KEY)
        await far.heard.first(Closed)
        link.taken(KEY)
        assert await far.heard.first(Opened) == Opened([KEY])
        far.heard.items.clear()
        await far.heard.first(Heartbeat)
        link.taken(KEY)
        await far.heard.first(Heartbeat)
        assert far.heard.of(Opened) == [], "long ago"


@run
async def test_a_tun_io_that_restarted_is_told_the_flows_once_however_often_it_asks(run_dir: Path) -> None:
    async with tun_io(run_dir) as far, worker(run_dir, flows=lambda: [KEY]) as (_, _runtime):
        await far.heard.first(Heartbeat)
        far.heard.items.clear()
        await far.heard.first(Heartbeat)
        far.heard.items.clear()
        for _ in range(5):
            far.say(WhoAreYou(VERSION))
        assert (await far.heard.first(Hello)).flows == [KEY]
        await far.heard.first(Heartbeat)
        assert len(far.heard.of(Hello)) == 1


@run
async def test_draining_is_said_and_said_again_to_a_tun_io_that_restarted(run_dir: Path) -> None:
    async with tun_io(run_dir) as far, worker(run_dir) as (link, _):
        link.drain()
        assert await far.heard.first(Drain) == Drain(WORKER)
        far.heard.items.clear()
        far.say(Welcome(VERSION, WORKER, 1500))
        assert await far.heard.first(Drain) == Drain(WORKER)


@run
async def test_a_worker_is_drained_when_tun_io_says_so(run_dir: Path) -> None:
    log = Inbox()
    async with tun_io(run_dir) as far, worker(run_dir, log, on_drained=lambda: log("drained")) as (link, _):
        await far.heard.first(Hello)
        link.drain()
        await far.heard.first(Drain)
        assert not link.drained
        far.say(FromTun(1.0, [b"was on its way"], []))
        far.say(Drain(WORKER))
        assert await log.until(2) == [([b"was on its way"], {}), "drained"]
        assert link.drained


@run
async def test_flows_that_are_over_are_reported_before_the_farewell(run_dir: Path) -> None:
    async with tun_io(run_dir) as far, worker(run_dir) as (link, runtime):
        await far.heard.first(Hello)
        link.forget(KEY)
        for call in reversed(runtime.on_stop):
            call()
        await far.heard.first(Bye)
        assert far.heard.of(Closed) == [Closed([KEY])]


@run
async def test_the_last_packets_leave_before_the_farewell(run_dir: Path) -> None:
    async with tun_io(run_dir) as far, worker(run_dir) as (link, runtime):
        await far.heard.first(Hello)
        link.write(b"last")
        for call in reversed(runtime.on_stop):
            call()
        await far.heard.first(Bye)
        said = [message for _, message in far.heard.items if not isinstance(message, Heartbeat)]
        assert [type(message) for message in said] == [Hello, ToTun, Bye]
        assert not [name for name in os.listdir(run_dir) if name.startswith("arena-")]  # noqa: PTH208


@run
async def test_large_packets_lie_in_the_arena_and_small_ones_in_the_message(run_dir: Path) -> None:
    large, small = bytes(range(256)) * 100, b"small"
    async with sharing(run_dir) as (far, link, arena):
        link.write(large)
        link.write(small, trace_id=5)
        slot = link.slot()
        assert slot is not None
        slot.payload[: len(large)] = large
        link.write_slot(slot, b"head", len(large), 6)
        batch = await far.heard.first(ToTun)
        assert [type(packet) for packet in batch.packets] == [list, bytes, list]
        assert batch.traced == [[1, 5], [2, 6]]
        assert far.packets(arena) == [large, small, b"head" + large]


@run
async def test_a_slot_is_free_when_tun_io_and_its_holder_have_let_go(run_dir: Path) -> None:
    async with sharing(run_dir) as (far, link, _):
        slot = link.slot()
        assert slot is not None
        link.write_slot(slot, b"head", 3000)
        batch = await far.heard.first(ToTun)
        far.say(FromTun(0.0, [b"x"], [], 50, batch.lent))
        await far.heard.first(Heartbeat)
        assert link.slot() is not slot
        slot.release()
        assert link.slot() is slot


@run
async def test_a_packet_passes_also_when_no_slot_is_free(run_dir: Path) -> None:
    async with sharing(run_dir) as (far, link, arena):
        while link.slot():
            pass
        link.write(bytes(5000))
        batch = await far.heard.first(ToTun)
        assert batch.packets == [bytes(5000)]
        assert far.packets(arena) == [bytes(5000)]


@pytest.mark.parametrize("views", [True, False])
def test_what_tun_io_lent_is_read_and_given_back(run_dir: Path, views: bool) -> None:
    async def scenario() -> None:
        got: list[tuple[type, bytes]] = []

        def on_batch(packets: list[bytes], _: dict[int, int]) -> None:
            got.extend((type(packet), bytes(packet)) for packet in packets)

        async with sharing(run_dir, on_batch=on_batch, views=views) as (far, _, _arena):
            far.heard.items.clear()
            far.say(FromTun(0.0, [far.refer(b"large"), b"small", [1 << 40, 5], [0]], [], far.lending.lent, 0))
            returned = await far.heard.first(ToTun)
            assert returned.returned == far.lending.lent
            kind = memoryview if views else bytes
            assert got == [(kind, b"large"), (bytes, b"small"), (bytes, b""), (bytes, b"")]

    asyncio.run(scenario())


@run
async def test_many_slots_are_given_back_at_once(run_dir: Path) -> None:
    async with sharing(run_dir) as (far, _, _arena):
        far.heard.items.clear()
        far.say(FromTun(0.0, [b"x"], [], 50 + RETURN_AT, 0))
        assert (await far.heard.first(ToTun)).returned == 50 + RETURN_AT
        assert far.heard.of(Heartbeat) == []


@run
async def test_an_arena_that_a_lost_tun_io_may_still_read_is_left_to_it(run_dir: Path) -> None:
    async with sharing(run_dir) as (far, link, arena):
        slot = link.slot()
        assert slot is not None
        link.write_slot(slot, b"head", 3000)
        await far.heard.first(ToTun)
        await far.heard.first(Heartbeat)
        far.heard.items.clear()
        far.say(WhoAreYou(VERSION))
        hello = await far.heard.first(Hello)
        assert hello.arena != arena
        # What is still held goes on as a message of its own; until tun_io has answered, all does.
        far.heard.items.clear()
        link.write_slot(slot, b"again", 3000)
        link.write(bytes(4000))
        assert link.slot() is None
        assert [len(packet) for packet in (await far.heard.first(ToTun)).packets] == [3005, 4000]


@run
async def test_without_an_arena_at_the_other_end_all_packets_travel_in_messages(run_dir: Path) -> None:
    welcomed = Inbox()
    async with tun_io(run_dir) as far, worker(run_dir, on_welcome=lambda: welcomed("welcome")) as (link, _):
        await far.heard.first(Hello)
        far.say(Welcome(VERSION, WORKER, 1500, ""))
        await welcomed.until(1)
        assert link.slot() is None
        link.write(bytes(5000))
        assert (await far.heard.first(ToTun)).packets == [bytes(5000)]


@run
async def test_a_full_link_is_congested_until_there_is_room(run_dir: Path) -> None:
    room = Inbox()
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    far = context.socket(zmq.ROUTER)
    far.rcvhwm = 1
    far.bind(Topology(run_dir).packets)
    async with worker(run_dir, on_room=lambda: room("room")) as (link, runtime):
        total = 0
        while not link.congested:
            link.write(bytes(BATCH_OCTETS))
            total += 1
            assert total < 1000
        assert runtime.counters.queue == 1
        received = 0
        while received < total:
            _, frame = await asyncio.to_thread(far.recv_multipart)
            received += len(frame) > BATCH_OCTETS
        assert await room.until(1) == ["room"]
        assert (link.congested, runtime.counters.queue) == (False, 0)
    context.destroy(linger=0)


@run
async def test_while_tun_io_is_away_heartbeats_do_not_pile_up(run_dir: Path) -> None:
    async with worker(run_dir) as (link, _):
        for _ in range(1000):
            link.forget(KEY)
            link._beat()
        assert link._peer.waiting <= 2
        assert 0 < len(link._closed) < 1000


@run
async def test_a_tun_io_of_another_version_does_not_welcome(run_dir: Path) -> None:
    welcomed = Inbox()
    async with tun_io(run_dir) as far, worker(run_dir, on_welcome=welcomed) as (link, runtime):
        await far.heard.first(Hello)
        far.say(Welcome(VERSION + 1, WORKER, 9000))
        async with asyncio.timeout(20):
            while not runtime.counters.drops:
                await asyncio.sleep(0)
        assert runtime.counters.drops == {Reason.WRONG_VERSION.value: 1}
        assert (link.mtu, welcomed.items) == (1500, [])


@run
async def test_a_tun_io_on_another_host_gets_whole_packets_and_times_of_its_own_clock(run_dir: Path) -> None:
    bus = Bus(asyncio.get_running_loop())
    far = Inbox()
    hub = bus.hub("tcp://127.0.0.1:*", far)
    port = int(hub.socket.last_endpoint.rstrip(b"\0").rpartition(b":")[2])
    runtime = Runtime("udp_fwd", WORKER, Config(), Topology(run_dir, connect=f"tcp://127.0.0.1:{port}"))
    batches = Inbox()
    link = Tunnel(runtime, batches)
    assert (await far.first(Hello)).arena == ""
    assert hub.send(WORKER.encode(), Welcome(VERSION, WORKER, 1500))
    there = 1_000_000.0  # what the clock of that host says
    assert hub.send(WORKER.encode(), FromTun(there, [b"one"], []))
    await batches.until(1)
    link.write(bytes(60_000))
    batch = await far.first(ToTun)
    assert batch.packets == [bytes(60_000)]
    assert there <= batch.sent_at < there + 30
    assert link.slot() is None, "no shared memory"
    assert link._arena is None
    runtime.stop()
    runtime.bus.close(linger=0)
    bus.close(linger=0)
