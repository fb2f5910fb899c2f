"""Large packets between tun_io and its workers lie in shared memory, and are safe there whoever is lost."""

import pytest

from netstack.packet import tcp
from netstack.wire.arena import LARGE, SLOTS
from tests.pipeline.tun_world import World, run, segment

SYN, ACK = tcp.SYN, tcp.ACK
DATA = bytes(range(256)) * 200


async def opened(one: World, **options: bool):
    """A tcp_fwd worker with a flow, in a pipeline that is ready."""
    await one.join("dns_filter-1")
    worker = await one.join("tcp_fwd-1", **options)
    await one.join("udp_fwd-1")
    await one.ready()
    await one.send(segment(SYN))
    await one.until(lambda: worker.packets)
    return worker


def test_a_large_packet_is_referred_to_and_a_small_one_is_not():
    async def scenario(one: World):
        worker = await opened(one)
        large, small = segment(ACK, data=DATA), segment(ACK, data=bytes(100))
        await one.send(large, small, large)
        await one.until(lambda: len(worker.packets) == 4)
        assert worker.packets[1:] == [large, small, large]
        assert len(worker.references) == 2

    run(scenario)


def test_a_large_packet_that_lies_in_the_workers_arena_is_written():
    async def scenario(one: World):
        worker = await opened(one)
        worker.write(DATA[:LARGE], b"small" * 10, DATA)
        assert [await one.written() for _ in range(3)] == [DATA[:LARGE], b"small" * 10, DATA]
        # Given back though nothing else is to be said.
        await one.until(lambda: worker.lent == 0)

    run(scenario)


@pytest.mark.parametrize("shares", [True, False])
def test_any_number_of_packets_pass(shares):
    async def scenario(one: World):
        worker = await opened(one, shares=shares)
        for number in range(3 * SLOTS):
            await one.send(segment(ACK, data=number.to_bytes(2, "big") + DATA[2:]))
            if number % 16 == 0:  # no queue is full on the way
                await one.until(lambda number=number: len(worker.packets) > number + 1)
        await one.until(lambda: len(worker.packets) == 3 * SLOTS + 1)
        assert [int.from_bytes(packet[50:52], "big") for packet in worker.packets[1:]] == list(range(3 * SLOTS))
        assert bool(worker.references) is shares

    run(scenario)


def test_packets_travel_in_messages_when_a_worker_gives_nothing_back():
    async def scenario(one: World):
        worker = await opened(one)
        worker.keeps = True
        for number in range(SLOTS + 10):
            await one.send(segment(ACK, data=number.to_bytes(2, "big") + DATA[2:]))
            if number % 16 == 0:
                await one.until(lambda number=number: len(worker.packets) > number + 1)
        await one.until(lambda: len(worker.packets) == SLOTS + 11)
        assert SLOTS - 1 <= len(worker.references) <= SLOTS  # one is where the next packet is read into
        # What it has not given back is as it was.
        assert int.from_bytes(worker.look(worker.references[0])[50:52], "big") == 0

    run(scenario)


def test_what_a_lost_worker_may_still_read_is_never_written_again():
    async def scenario(one: World):
        worker = await opened(one)
        other = await one.join("tcp_fwd-2")
        worker.keeps = True
        await one.send(segment(ACK, data=DATA))
        await one.until(lambda: worker.references)
        before = other.arena
        worker.beats = False
        await one.until(lambda: other.arena != before)
        await one.send(segment(SYN, client_port=40001))
        await one.until(lambda: other.packets)
        for _ in range(SLOTS + 10):
            await one.send(segment(ACK, client_port=40001, data=bytes(len(DATA))))
        await one.until(lambda: len(other.references) > SLOTS // 2)
        assert worker.look(worker.references[0])[50:] == DATA

    run(scenario)


def test_references_to_nothing_are_counted_and_do_no_harm():
    async def scenario(one: World):
        worker = await opened(one)
        worker.refer([0, 0], [1 << 40, 10], [-1, 10], [0, 1 << 40], [1, 2, 3], [])
        worker.write(b"still here" * 3)
        assert await one.written() == b"still here" * 3
        assert (await one.sample()).drops["malformed-frame"] == 6

    run(scenario)


def test_a_worker_whose_arena_is_not_there_is_served_by_messages():
    async def scenario(one: World):
        await one.join("dns_filter-1")
        await one.join("udp_fwd-1")
        worker = await one.join("tcp_fwd-1", shares=False)
        assert worker.arena == ""
        await one.ready()
        await one.send(segment(SYN), segment(ACK, data=DATA))
        await one.until(lambda: len(worker.packets) == 2)
        assert worker.references == []
        worker.write(DATA)
        assert await one.written() == DATA

    run(scenario)


def test_no_arena_is_left_in_the_run_directory():
    async def scenario(one: World):
        await opened(one)
        assert [path for path in one.topology.directory.iterdir() if path.name.startswith("arena-tun_io-1")]
        one.process.terminate()
        assert await one.ended() == 0
        assert [path for path in one.topology.directory.iterdir() if path.name.startswith("arena-tun_io-1")] == []

    run(scenario)
