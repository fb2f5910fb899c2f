"""Edges of real sockets, on a loop."""

import asyncio
import select
import socket
from contextlib import contextmanager

from netstack.runtime.loop import Loop
from services.tcp_fwd.poller import ENDED, READABLE, WRITABLE, Poller


@contextmanager
def pair():
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours, theirs:
        yield ours, theirs


def run(scenario):
    with asyncio.Runner(loop_factory=Loop) as runner:
        runner.run(scenario())


def polling(*around):
    loop = asyncio.get_running_loop()
    assert isinstance(loop, Loop)
    return Poller(loop.direct, *around)


class Heard:
    """The events of one socket."""

    def __init__(self):
        self.events = []
        self.came = asyncio.Event()

    def __call__(self, events):
        self.events.append(events)
        self.came.set()

    async def next(self):
        await asyncio.wait_for(self.came.wait(), 5)
        self.came.clear()
        return self.events[-1]


async def turns(count=5):
    for _ in range(count):
        await asyncio.sleep(0)


def test_each_edge_is_told_once():
    async def scenario():
        poller = polling()
        with pair() as (ours, theirs):
            heard = Heard()
            poller.add(ours.fileno(), heard)
            assert await heard.next() & WRITABLE
            theirs.send(b"one")
            assert await heard.next() & READABLE
            count = len(heard.events)
            await turns()
            assert len(heard.events) == count  # still unread, and not told again
            theirs.send(b"two")
            assert not await heard.next() & ENDED
            theirs.close()
            assert await heard.next() & ENDED
            assert ours.recv(10) == b"onetwo"
            poller.remove(ours.fileno())

    run(scenario)


def test_room_that_comes_back_is_an_edge():
    async def scenario():
        poller = polling()
        with pair() as (ours, theirs):
            heard = Heard()
            poller.add(ours.fileno(), heard)
            await heard.next()
            try:
                while True:
                    ours.send(bytes(1 << 16))
            except BlockingIOError:
                pass
            theirs.setblocking(False)
            try:
                while theirs.recv(1 << 20):
                    pass
            except BlockingIOError:
                pass
            assert await heard.next() & WRITABLE

    run(scenario)


def test_a_socket_that_took_the_number_of_a_closed_one_gets_no_event_of_it():
    async def scenario():
        poller = polling()
        with pair() as (first, other), pair() as (second, another):
            told = []

            def close_the_other(closing):
                def handler(_events):
                    if closing.fileno() < 0 or told:
                        return
                    number = closing.fileno()
                    poller.remove(number)
                    closing.close()
                    # The same number at once, for a socket that nothing has happened to yet.
                    fresh = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
                    assert fresh.fileno() == number
                    told.append(fresh)
                    poller.add(number, stray.append)

                return handler

            stray = []
            poller.add(first.fileno(), close_the_other(second))
            poller.add(second.fileno(), close_the_other(first))
            other.send(b"x")
            another.send(b"y")
            while not told:
                await asyncio.sleep(0)
            # An unconnected socket is only hung up; the readable edge was the old one's.
            await turns()
            assert all(not events & select.EPOLLIN for events in stray)
            told[0].close()

    run(scenario)


def test_what_was_removed_is_told_nothing():
    async def scenario():
        poller = polling()
        with pair() as (ours, theirs):
            heard = Heard()
            poller.add(ours.fileno(), heard)
            poller.remove(ours.fileno())
            poller.remove(ours.fileno())
            theirs.send(b"x")
            await turns()
            assert heard.events == []

    run(scenario)


def test_each_turn_with_events_is_framed():
    async def scenario():
        log = []
        poller = polling(lambda: log.append("before"), lambda: log.append("after"))
        with pair() as (ours, _), pair() as (others, _theirs):
            done = asyncio.Event()
            poller.add(ours.fileno(), lambda _: log.append("one"))
            poller.add(others.fileno(), lambda _: done.set())
            await asyncio.wait_for(done.wait(), 5)
            assert log == ["before", "one", "after"]

    run(scenario)
