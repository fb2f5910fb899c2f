"""The real tun_io process beside workers that have queues of their own: what they pass on, open, and lend."""

import asyncio
import contextlib
import mmap
import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from netstack.packet import icmp, tcp
from netstack.packet.frame import IP
from netstack.runtime.queue import NEW
from netstack.wire import steering
from netstack.wire.messages import Drain, Fence
from services.tun_io.queues import attach, is_attached
from services.tun_io.roster import ADOPTION
from tests.pipeline.test_tun_io import _lengthened
from tests.pipeline.tun_world import SERVER, Worker, World, key, run, segment
from tests.pipeline.udp_world import icmp_of, packet
from tests.pipeline.world import GATEWAY, WITHIN, world

ROOT = Path(__file__).parents[2]
PORTS = range(40000, 40004)


def test_what_a_worker_passes_on_is_dealt_with_like_what_was_read():
    async def scenario(one: World) -> None:
        dns, first, udp_worker = await one.up()
        question, datagram = packet(SERVER, 53, b"query"), packet(SERVER, 123, b"time?")
        large = packet(SERVER, 9, bytes(50_000))
        first.pass_on(question, datagram, large, segment(tcp.SYN), packet(SERVER, 443, b"initial"), b"noise")
        await one.until(lambda: len(udp_worker.packets) == 2 and dns.packets and first.packets)
        assert (dns.packets, udp_worker.packets, first.packets) == ([question], [datagram, large], [segment(tcp.SYN)])
        assert icmp_of(await one.written())[:2] == (SERVER, icmp.UNREACHABLE)
        first.pass_on(packet(SERVER, 33434, b"x", ttl=1))
        assert icmp_of(await one.written())[:2] == (GATEWAY, icmp.TIME_EXCEEDED)
        sample = await one.sample()
        assert (sample.packets_in, sample.gauges["tcp_fwd_flows"]) == (7, 1)
        assert sample.drops == {"quic-blocked": 1, "malformed-vnet": 1, "ttl-exceeded": 1}

    run(scenario)


def test_a_fence_comes_back_behind_all_that_was_there_before_it():
    async def scenario(one: World) -> None:
        _, _, udp_worker = await one.up()
        for number in range(20):
            count = len(udp_worker.packets)
            assert one.process is not None
            one.process.send_signal(signal.SIGSTOP)  # all is there when it looks: more than a turn of the loop takes
            await one.send(*(packet(SERVER, 9, bytes([each])) for each in range(70)))
            udp_worker.pass_on(packet(SERVER, 9, b"astray"))
            udp_worker.peer.send(Fence(number))
            one.process.send_signal(signal.SIGCONT)
            await one.until(lambda: len(udp_worker.fences) > number)  # noqa: B023 - waited for within the round
            assert udp_worker.fences[-1] == (number, count + 71)

    run(scenario)


def test_a_segment_that_came_to_the_wrong_worker_goes_to_its_owner():
    async def scenario(one: World) -> None:
        _, first, _ = await one.up()
        second = await one.join("tcp_fwd-2")
        second.open_flows(key(40000))
        while not (await one.sample()).gauges["tcp_fwd_flows"]:
            pass
        first.pass_on(segment(tcp.ACK, 40000, b"data"), segment(tcp.ACK, 40000, bytes(50_000)))
        await one.until(lambda: len(second.packets) == 2)
        await one.send(segment(tcp.ACK, 40000, b"more"))
        await one.until(lambda: len(second.packets) == 3)
        assert first.packets == []

    run(scenario)


def test_a_flow_that_a_worker_took_by_itself_counts_and_is_over_when_it_says_so():
    async def scenario(one: World) -> None:
        _, first, _ = await one.up()
        second = await one.join("tcp_fwd-2")
        first.open_flows(*map(key, PORTS))
        while (await one.sample()).gauges["tcp_fwd_flows"] != len(PORTS):
            pass
        new = [segment(tcp.SYN, port) for port in range(41000, 41000 + len(PORTS))]
        await one.send(*new)
        await one.until(lambda: len(second.packets) == len(PORTS))  # the other one has fewer
        first.close_flows(*map(key, PORTS))
        second.close_flows(*(key(port) for port in range(41000, 41000 + len(PORTS))))
        while (await one.sample()).gauges["tcp_fwd_flows"]:
            pass

    run(scenario)


def test_fragments_that_came_to_different_queues_are_put_together():
    async def scenario(one: World) -> None:
        _, first, udp_worker = await one.up()
        whole = packet(SERVER, 9, bytes(range(200)), fragment=0)
        upper = whole[IP + 20 :]
        head = packet(SERVER, 9, b"", fragment=0x2000)[: IP + 20] + upper[:104]  # more fragments
        tail = packet(SERVER, 9, b"", fragment=13)[: IP + 20] + upper[104:]  # 13 * 8 octets in
        first.pass_on(_lengthened(tail))
        await one.until(lambda: first.lent == 0)
        while not (await one.sample()).gauges["fragmented"]:
            pass
        await one.send(_lengthened(head))
        await one.until(lambda: udp_worker.packets)
        assert udp_worker.packets[0][IP + 20 :] == upper

    run(scenario)


def test_a_syn_that_is_passed_on_is_traced():
    async def scenario(one: World) -> None:
        _, first, _ = await one.up()
        await one.trace()
        first.pass_on(segment(tcp.SYN))
        await one.until(lambda: first.batches)
        [[index, trace_id]] = first.batches[0].traced
        [read] = await one.hops("read")
        assert (index, read.trace_id) == (0, trace_id)

    run(scenario)


# --- with the queues of a TUN -----------------------------------------------------------------------------------------

HOLD = """
import os, socket, sys
from netstack.cli.tun import open_tun
queues = open_tun("tun0")
wanted = (*queues[:3], *queues[-1:]) if "table" in sys.argv else queues[:3]
socket.send_fds(socket.socket(fileno=int(sys.argv[1])), [b"T"], wanted)
"""


@contextlib.contextmanager
def spare_queues(*more: str) -> Iterator[tuple[int, ...]]:
    """Two spare queues of a TUN in a network namespace of its own, which is there as long as they are.

    With "table", also that by which its packets are steered.
    """
    ours, theirs = socket.socketpair()
    with ours, theirs:
        number = theirs.fileno()
        subprocess.run(
            ["unshare", "--net", sys.executable, "-c", HOLD, str(number), *more],
            pass_fds=[number], check=True, cwd=ROOT,
        )  # fmt: skip
        _, descriptors, _, _ = socket.recv_fds(ours, 1, 4)
    try:
        yield tuple(descriptors[1:])
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


class Borrowing(World):
    """tun_io with queues to lend."""

    def ask(self, number: int, name: str) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(str(self.topology.queues))  # with a timeout it would fail at once where others are in line
        connection.settimeout(WITHIN)
        connection.send(bytes([number]) + name.encode())
        return connection

    async def lent(self, number: int) -> None:
        """So many are lent."""
        while (await self.sample()).gauges["queues_lent"] != number:
            pass


async def adopted(worker: Worker, one: World) -> None:
    """The time in which flows are adopted is over: what is unknown goes to somebody."""
    async with asyncio.timeout(ADOPTION + WITHIN):
        while segment(tcp.ACK, 49999) not in worker.packets:
            worker.pass_on(segment(tcp.ACK, 49999))
            await one.sample()
    worker.batches.clear()


@pytest.mark.e2e
def test_right_after_a_queue_came_or_went_unknown_segments_are_dropped_and_not_reset():
    async def scenario(spare: tuple[int, ...]) -> None:
        async with world(Borrowing, before=lambda one: setattr(one, "spare", spare)) as one:
            _, first, _ = await one.up()
            await adopted(first, one)
            drops = (await one.sample()).drops["flow-unknown"]
            with one.ask(NEW, "tcp_fwd-1") as connection:
                answer, descriptors, _, _ = socket.recv_fds(connection, 1, 1)
                first.pass_on(segment(tcp.ACK, 40000))
                while (await one.sample()).drops["flow-unknown"] == drops:
                    pass
                os.close(descriptors[0])
                assert first.packets == []
                assert is_attached(spare[answer[0]])
                await adopted(first, one)  # after a tenth of a second they go to somebody
                drops = (await one.sample()).drops["flow-unknown"]
            await one.lent(0)
            assert not is_attached(spare[answer[0]])

    with spare_queues() as spare:
        asyncio.run(scenario(spare))


@pytest.mark.e2e
def test_a_tun_io_that_was_started_anew_takes_back_what_nobody_claims():
    async def scenario(spare: tuple[int, ...]) -> None:
        async with world(Borrowing, before=lambda one: setattr(one, "spare", spare)) as one:
            _, first, _ = await one.up()
            with one.ask(1, "tcp_fwd-1") as connection:
                assert socket.recv_fds(connection, 1, 1)[:2] == (b"\x01", [])
                await one.lent(1)
                await adopted(first, one)
                await one.until(lambda: not is_attached(spare[0]))
                assert is_attached(spare[1])

    with spare_queues() as spare:
        for each in spare:
            attach(each)
        asyncio.run(scenario(spare))


@pytest.mark.e2e
def test_a_worker_that_is_silent_loses_its_queue_and_gets_one_when_it_is_back():
    async def scenario(spare: tuple[int, ...]) -> None:
        async with world(Borrowing, before=lambda one: setattr(one, "spare", spare)) as one:
            _, first, _ = await one.up()
            with one.ask(NEW, "tcp_fwd-1") as connection:
                before = connection.recv(1)
                first.beats = False
                first.peer.close()
                await one.lent(0)
                assert not any(map(is_attached, spare))
                assert connection.recv(1) == b""
            await one.join("tcp_fwd-1")
            with one.ask(before[0], "tcp_fwd-1") as connection:
                assert connection.recv(1) != before, "another worker may have had that one"
                await one.lent(1)

    with spare_queues() as spare:
        asyncio.run(scenario(spare))


@pytest.mark.e2e
def test_noise_on_the_socket_keeps_no_worker_out():
    chance = random.Random(11)

    async def scenario(spare: tuple[int, ...], noise: contextlib.ExitStack) -> None:
        async with world(Borrowing, before=lambda one: setattr(one, "spare", spare)) as one:
            await one.up()
            for number in range(300):
                connection = noise.enter_context(socket.socket(socket.AF_UNIX))
                connection.connect(str(one.topology.queues))
                if number % 3:
                    with contextlib.suppress(BrokenPipeError):  # it waited for 32 others, and no longer
                        connection.send(chance.randbytes(number))
            assert one.process is not None
            descriptors = Path(f"/proc/{one.process.pid}/fd")
            await one.until(lambda: len(list(descriptors.iterdir())) < 100)
            with one.ask(NEW, "tcp_fwd-1") as connection:
                assert connection.recv(1) in {b"\0", b"\1"}
                await one.lent(1)

    with spare_queues() as spare, contextlib.ExitStack() as noise:
        asyncio.run(scenario(spare, noise))


@pytest.mark.e2e
def test_dns_is_steered_to_the_workers_that_do_not_drain():
    async def scenario(spare: tuple[int, ...]) -> None:
        *_, table = spare

        def steered() -> set[int]:
            with mmap.mmap(table, steering.SIZE) as memory:
                return set(memory[steering.DNS_ROW : steering.DNS_ROW + steering.COLUMNS])

        async with world(Borrowing, before=lambda one: setattr(one, "spare", spare)) as one:
            first, *_ = await one.up()
            second = await one.join("dns_filter-2")
            with one.ask(NEW, "dns_filter-1") as connection, one.ask(NEW, "dns_filter-2"):
                await one.lent(2)
                assert steered() == {1, 2}
                first.peer.send(Drain("dns_filter-1"))
                await one.until(lambda: len(steered()) == 1)
                await one.lent(2)  # what came before that is read still
                left = steered()
                connection.close()
                await one.lent(1)
                assert steered() == {1}, left
                second.peer.send(Drain("dns_filter-2"))
                await one.until(lambda: steered() == {0})  # then tun_io itself says that there is nobody

    with spare_queues("table") as spare:
        asyncio.run(scenario(spare))


@pytest.mark.e2e
def test_where_nothing_is_steered_a_dns_filter_gets_no_queue():
    # It would draw flows that are none of its own.
    async def scenario(spare: tuple[int, ...]) -> None:
        async with world(Borrowing, before=lambda one: setattr(one, "spare", spare)) as one:
            await one.up()
            with one.ask(NEW, "dns_filter-1") as connection:
                assert connection.recv(1) == b""
            with one.ask(NEW, "tcp_fwd-1") as connection:
                assert connection.recv(1) in {b"\0", b"\1"}

    with spare_queues() as spare:
        asyncio.run(scenario(spare))
