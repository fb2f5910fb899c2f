"""A worker's own queue, over real sockets: the test plays tun_io, and a pair of sockets of packets plays the queue."""

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from netstack.runtime.queue import BURST, NEW, Queue, framed
from netstack.wire.arena import HEADROOM, LARGE, private_slot
from tests.inbox import Inbox

WORKER = "tcp_fwd-1"
WITHIN = 10.0  # seconds
_LARGE_AT_ONCE = 8


class World:
    """The queue, the far end of what it is of, and a tun_io that lends it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.loop = asyncio.get_running_loop()
        self.bursts = Inbox()
        self.kinds: list[type] = []
        self.queue = Queue(self.loop, path, WORKER, self._packets)
        self.client, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.client.setblocking(False)
        self._listener: socket.socket | None = None
        self._connections: list[socket.socket] = []

    def _packets(self, packets: list[bytes]) -> None:
        self.kinds = list(map(type, packets))
        self.bursts([bytes(packet) for packet in packets])  # views hold no longer than this

    @property
    def packets(self) -> list[bytes]:
        return [packet for burst in self.bursts.items for packet in burst]

    def listen(self) -> None:
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        self.path.unlink(missing_ok=True)
        self._listener.bind(str(self.path))
        self._listener.listen()

    async def asked(self) -> tuple[socket.socket, bytes]:
        """The next connection, and what it asks for."""
        assert self._listener is not None
        connection, _ = await asyncio.wait_for(self.loop.sock_accept(self._listener), WITHIN)
        self._connections.append(connection)
        return connection, await asyncio.wait_for(self.loop.sock_recv(connection, 100), WITHIN)

    async def lend(self, number: int) -> socket.socket:
        """Have the queue ask, and give it one."""
        self.queue.ask()
        connection, _ = await self.asked()
        socket.send_fds(connection, [bytes([number])], [self.theirs.fileno()])
        await self.until(lambda: self.queue)
        return connection

    def go_away(self) -> None:
        """tun_io is killed."""
        if self._listener is not None:
            self._listener.close()
        for connection in self._connections:
            connection.close()

    async def until(self, holds: Callable[[], object]) -> None:
        async with asyncio.timeout(WITHIN):
            while not holds():
                await asyncio.sleep(0)

    async def rested(self) -> None:
        """The queue has seen everything that was said to it before."""
        for _ in range(10):
            await asyncio.sleep(0)

    def close(self) -> None:
        self.queue.close()
        self.go_away()
        self.client.close()
        self.theirs.close()


@asynccontextmanager
async def world(run_dir: Path) -> AsyncIterator[World]:
    one = World(run_dir / "queues")
    try:
        yield one
    finally:
        one.close()


def run(scenario: Callable[[World], Coroutine[None, None, None]], run_dir: Path) -> None:
    async def whole() -> None:
        async with world(run_dir) as one:
            await scenario(one)

    asyncio.run(whole())


def test_it_asks_by_its_name_and_gets_one(run_dir: Path) -> None:
    async def scenario(one: World) -> None:
        one.listen()
        one.queue.ask()
        connection, asked = await one.asked()
        assert asked == bytes([NEW]) + WORKER.encode()
        assert not one.queue
        socket.send_fds(connection, [b"\x03"], [one.theirs.fileno()])
        await one.until(lambda: one.queue)
        one.client.send(b"from the client")
        assert await one.bursts.until(1) == [[b"from the client"]]
        os.writev(one.queue.descriptor, (b"to the ", memoryview(b"client")))
        assert one.client.recv(100) == b"to the client"

    run(scenario, run_dir)


def test_it_asks_once_however_often_it_is_told_to(run_dir: Path) -> None:
    async def scenario(one: World) -> None:
        one.listen()
        one.queue.ask()
        one.queue.ask()
        await one.asked()
        one.queue.ask()
        with pytest.raises(BlockingIOError):
            one._listener.accept()  # type: ignore[union-attr]

    run(scenario, run_dir)


def test_without_a_tun_io_there_is_none_and_it_may_ask_again(run_dir: Path) -> None:
    async def scenario(one: World) -> None:
        one.queue.ask()
        assert not one.queue
        one.listen()
        await one.lend(0)

    run(scenario, run_dir)


@pytest.mark.parametrize("answer", [bytes([NEW]), b""], ids=["none to be had", "not in the roster yet"])
def test_where_there_is_none_it_may_ask_again(run_dir: Path, answer: bytes) -> None:
    async def scenario(one: World) -> None:
        one.listen()
        one.queue.ask()
        connection, _ = await one.asked()
        connection.send(answer)
        connection.close()
        await one.until(lambda: one.queue._connection is None)
        assert not one.queue
        await one.lend(0)

    run(scenario, run_dir)


def test_while_tun_io_is_away_it_goes_on_and_the_next_one_is_told_its_number(run_dir: Path) -> None:
    async def scenario(one: World) -> None:
        one.listen()
        await one.lend(5)
        one.go_away()
        await one.until(lambda: one.queue._connection is None)
        one.client.send(b"during")
        assert await one.bursts.until(1) == [[b"during"]]
        os.writev(one.queue.descriptor, (b"answered",))
        assert one.client.recv(100) == b"answered"
        one.listen()
        one.queue.ask()
        connection, asked = await one.asked()
        assert asked == bytes([5]) + WORKER.encode()
        connection.send(bytes([5]))
        one.client.send(b"afterwards")
        assert await one.bursts.until(2) == [[b"during"], [b"afterwards"]]

    run(scenario, run_dir)


def test_who_claims_too_late_gets_another_or_has_none(run_dir: Path) -> None:
    async def scenario(one: World) -> None:
        one.listen()
        await one.lend(5)
        one.go_away()
        await one.until(lambda: one.queue._connection is None)
        one.listen()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours, theirs:
            one.queue.ask()
            connection, _ = await one.asked()
            socket.send_fds(connection, [b"\x07"], [theirs.fileno()])
            ours.send(b"of the other")
            assert await one.bursts.until(1) == [[b"of the other"]]
            os.writev(one.queue.descriptor, (b"there",))
            assert ours.recv(100) == b"there"
        connection.close()
        await one.until(lambda: one.queue._connection is None)
        one.queue.ask()
        connection, asked = await one.asked()
        assert asked[0] == 7
        connection.send(bytes([NEW]))
        await one.until(lambda: not one.queue)

    run(scenario, run_dir)


def test_a_burst_is_bounded_in_packets_and_large_ones_are_views(run_dir: Path) -> None:
    async def scenario(one: World) -> None:
        one.listen()
        small = [bytes([number]) * 100 for number in range(BURST + 5)]
        large = [bytes([number]) * LARGE for number in range(_LARGE_AT_ONCE + 2)]
        one.client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        for packet in small:
            one.client.send(packet)
        await one.lend(0)
        await one.until(lambda: len(one.packets) == len(small))
        first, *others = map(len, one.bursts.items)
        assert first == 1, "after a silence a packet comes alone"
        assert max(others) <= BURST
        assert len(others) < len(small) - 1
        assert set(one.kinds) == {bytes}
        one.bursts.items.clear()
        for packet in [b"first", *large]:
            one.client.send(packet)
        await one.until(lambda: len(one.packets) == len(large) + 1)
        assert one.packets == [b"first", *large], "each view had its own octets"
        assert max(map(len, one.bursts.items)) in {_LARGE_AT_ONCE, _LARGE_AT_ONCE + 1}
        assert set(one.kinds) == {memoryview}
        assert (one.queue.packets, one.queue.octets) == (
            len(small) + 1 + len(large),
            sum(map(len, [*small, b"first", *large])),
        )

    run(scenario, run_dir)


def filled(queue: Queue) -> None:
    for _ in range(10_000):
        os.writev(queue.descriptor, (bytes(1000),))


def test_a_full_queue_says_so(run_dir: Path) -> None:
    async def scenario(one: World) -> None:
        one.listen()
        await one.lend(0)
        with pytest.raises(BlockingIOError):
            filled(one.queue)
        assert one.queue

    run(scenario, run_dir)


def test_a_pause_leaves_everything_in_its_order_and_all_there_is_can_be_read_at_once(run_dir: Path) -> None:
    async def scenario(one: World) -> None:
        one.listen()
        await one.lend(0)
        numbers = [bytes([number]) for number in range(BURST + 5)]
        one.queue.pause()
        for number in numbers:
            one.client.send(number)
        await one.rested()
        one.queue.empty()
        assert one.packets == [], "not even at once"
        one.queue.resume()
        one.queue.empty()
        assert one.packets == numbers
        one.client.send(b"more")
        await one.until(lambda: one.packets[-1] == b"more")

    run(scenario, run_dir)


def test_a_queue_that_comes_while_paused_is_read_later(run_dir: Path) -> None:
    async def scenario(one: World) -> None:
        one.listen()
        one.queue.pause()
        await one.lend(0)
        one.client.send(b"waiting")
        await one.rested()
        assert one.packets == []
        one.queue.resume()
        await one.until(lambda: one.packets == [b"waiting"])
        one.queue.pause()
        one.queue.close()

    run(scenario, run_dir)


def test_a_queue_that_was_given_back_is_read_no_more(run_dir: Path) -> None:
    async def scenario(one: World) -> None:
        one.listen()
        connection = await one.lend(4)
        one.queue.close()
        assert not one.queue
        assert await one.loop.sock_recv(connection, 1) == b""
        one.client.send(b"lost")
        await one.rested()
        assert one.bursts.items == []
        one.queue.ask()
        assert (await one.asked())[1][0] == NEW

    run(scenario, run_dir)


GONE = """
import asyncio, socket, subprocess, sys
from pathlib import Path
from netstack.cli.tun import open_tun
from netstack.runtime.queue import Queue

first, spare, *rest = open_tun("tun0")

async def main():
    loop = asyncio.get_running_loop()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(sys.argv[1])
    listener.listen()
    queue = Queue(loop, Path(sys.argv[1]), "w", print)
    queue.ask()
    connection, _ = listener.accept()
    socket.send_fds(connection, [b"0"], [spare])
    async with asyncio.timeout(10):
        while not queue:
            await asyncio.sleep(0)
        subprocess.run(["ip", "link", "del", "tun0"], check=True)
        while queue:
            await asyncio.sleep(0)
    print(connection.recv(10))
    for each in (connection, listener):
        each.close()

asyncio.run(main())
"""


@pytest.mark.e2e
def test_it_is_lost_with_the_device(run_dir: Path) -> None:
    result = subprocess.run(
        ["unshare", "--net", sys.executable, "-c", GONE, str(run_dir / "queues")],
        capture_output=True, text=True, timeout=20, check=False, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == ["b'\\xffw'"]


def test_a_head_is_put_in_front_of_what_lies_in_a_slot() -> None:
    slot = private_slot()
    slot.payload[:7] = b"payload"
    frame = framed(slot, b"head", 7)
    assert frame == b"headpayload"
    assert slot.view[HEADROOM - 4 : HEADROOM] == b"head"
