"""The events proxy: from every publisher to every listener, and a clean end."""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from netstack.wire.bus import Bus
from netstack.wire.messages import LeaseChange, Message
from netstack.wire.proxy import EventsProxy

WITHIN = 5.0  # seconds for anything that should happen
EVENT = LeaseChange([b"\xc6\x12\x00\x01"], ["www.example"], 300.0, 0)


class Link:
    """An events link in a directory of the test's own."""

    def __init__(self, directory: Path, bus: Bus) -> None:
        self.events_in = f"ipc://{directory}/in"
        self.events_out = f"ipc://{directory}/out"
        self.bus = bus


@asynccontextmanager
async def link(directory: Path) -> AsyncIterator[Link]:
    bus = Bus(asyncio.get_running_loop())
    try:
        yield Link(directory, bus)
    finally:
        bus.close()


def run(directory: Path, story: Callable[[Link], Awaitable[None]]) -> None:
    async def main() -> None:
        async with link(directory) as opened:
            await asyncio.wait_for(story(opened), WITHIN)

    asyncio.run(main())


class Listener:
    """Somebody who listens to topics."""

    def __init__(self, link: Link, *topics: bytes) -> None:
        self.heard: asyncio.Queue[tuple[bytes, Message]] = asyncio.Queue()
        link.bus.subscriber(link.events_out, list(topics), lambda topic, said: self.heard.put_nowait((topic, said)))


def publisher(link: Link):
    """A publisher, and an event that is set once it knows of a listener."""
    opened = link.bus.publisher(link.events_in)
    wanted = asyncio.Event()
    opened.on_subscribe = lambda topic: wanted.set()
    return opened, wanted


def test_events_reach_everybody_who_listens_to_their_topic(tmp_path: Path) -> None:
    async def story(link: Link) -> None:
        proxy = EventsProxy(link.events_in, link.events_out)
        first, second = Listener(link, b"trace"), Listener(link, b"trace")
        publishers = [publisher(link) for _ in range(3)]
        for opened, wanted in publishers:
            await wanted.wait()
            opened.publish(b"trace", EVENT)
        for listener in (first, second):
            for _ in publishers:
                assert await listener.heard.get() == (b"trace", EVENT)
        proxy.stop()

    run(tmp_path, story)


def test_publishers_learn_which_topics_are_wanted_and_which_no_longer(tmp_path: Path) -> None:
    async def story(link: Link) -> None:
        proxy = EventsProxy(link.events_in, link.events_out)
        opened, wanted = publisher(link)
        assert not opened.wants(b"trace")
        listener = link.bus.subscriber(link.events_out, [b"trace"], lambda topic, said: None)
        await wanted.wait()
        assert opened.wants(b"trace")
        assert not opened.wants(b"sample")
        listener.close()
        while opened.wants(b"trace"):
            await asyncio.sleep(0.005)
        proxy.stop()

    run(tmp_path, story)


def test_publishers_and_listeners_may_be_there_before_the_proxy(tmp_path: Path) -> None:
    async def story(link: Link) -> None:
        listener = Listener(link, b"")
        opened, wanted = publisher(link)
        proxy = EventsProxy(link.events_in, link.events_out)
        await wanted.wait()
        opened.publish(b"sample.1", EVENT)
        assert await listener.heard.get() == (b"sample.1", EVENT)
        proxy.stop()

    run(tmp_path, story)


def test_a_proxy_that_is_started_anew_takes_its_place_and_everybody_finds_it(tmp_path: Path) -> None:
    async def story(link: Link) -> None:
        listener = Listener(link, b"trace")
        opened, _ = publisher(link)
        EventsProxy(link.events_in, link.events_out).stop()
        proxy = EventsProxy(link.events_in, link.events_out)
        while listener.heard.empty():
            opened.publish(b"trace", EVENT)
            await asyncio.sleep(0.005)
        proxy.stop()

    run(tmp_path, story)


def test_socket_files_left_behind_by_a_killed_process_are_replaced(tmp_path: Path) -> None:
    for name in ("in", "out"):
        (tmp_path / name).write_bytes(b"")

    async def story(link: Link) -> None:
        proxy = EventsProxy(link.events_in, link.events_out)
        listener = Listener(link, b"trace")
        opened, wanted = publisher(link)
        await wanted.wait()
        opened.publish(b"trace", EVENT)
        assert await listener.heard.get() == (b"trace", EVENT)
        proxy.stop()

    run(tmp_path, story)


def test_stopping_ends_the_thread(tmp_path: Path) -> None:
    before = threading.active_count()
    proxy = EventsProxy(f"ipc://{tmp_path}/in", f"ipc://{tmp_path}/out")
    assert threading.active_count() == before + 1
    proxy.stop()
    assert threading.active_count() == before


def test_it_stops_also_while_events_are_on_their_way(tmp_path: Path) -> None:
    async def story(link: Link) -> None:
        proxy = EventsProxy(link.events_in, link.events_out)
        listener = Listener(link, b"trace")
        opened, wanted = publisher(link)
        await wanted.wait()
        for _ in range(5000):
            opened.publish(b"trace", EVENT)
        await listener.heard.get()
        proxy.stop()

    run(tmp_path, story)


def test_a_place_that_cannot_be_bound_is_an_error_that_names_it(tmp_path: Path) -> None:
    before = threading.active_count()
    with pytest.raises(OSError, match=r"cannot bind ipc:.*nowhere/out"):
        EventsProxy(f"ipc://{tmp_path}/in", f"ipc://{tmp_path}/nowhere/out")
    assert threading.active_count() == before
