"""The bus over real Unix sockets. The far side is another bus, or a bare ZeroMQ socket where it must misbehave."""

import asyncio
import select
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import zmq
from zmq.utils.monitor import recv_monitor_message

from netstack.wire.bus import BURST, Bus
from netstack.wire.messages import Heartbeat, LeaseChange, Message, Revoked, ToTun, pack
from tests.inbox import Inbox

BIG = bytes(64 << 10)


@contextmanager
def running_bus(on_malformed: Callable[[], None] | None = None) -> Iterator[Bus]:
    bus = Bus(asyncio.get_running_loop(), on_malformed)
    try:
        yield bus
    finally:
        bus.close(linger=0)


@contextmanager
def bare(kind: int, **options: Any) -> Iterator[zmq.Socket[bytes]]:
    """A ZeroMQ socket that nothing drives but the test."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    socket = context.socket(kind)
    for name, value in options.items():
        setattr(socket, name, value)
    try:
        yield socket
    finally:
        context.destroy(linger=0)


async def blocking(call: Callable[..., Any], *arguments: Any) -> Any:
    """Run what blocks on a bare socket beside the loop."""
    async with asyncio.timeout(20):
        return await asyncio.to_thread(call, *arguments)


async def disconnected(monitor: zmq.Socket[bytes]) -> None:
    while (await blocking(recv_monitor_message, monitor))["event"] != zmq.EVENT_DISCONNECTED:
        pass


def run(test: Callable[[Path], Awaitable[None]]) -> Callable[[Path], None]:
    """A test that is a coroutine."""

    def wrapper(tmp_path: Path) -> None:
        asyncio.run(test(tmp_path), debug=False)  # type: ignore[arg-type]

    wrapper.__name__, wrapper.__doc__ = test.__name__, test.__doc__
    return wrapper


@run
async def test_both_sides_hear_each_other_in_order(tmp_path: Path) -> None:
    with running_bus() as bus:
        at_hub, at_peer = Inbox(), Inbox()
        hub = bus.hub(f"ipc://{tmp_path}/x", at_hub)
        peer = bus.peer(f"ipc://{tmp_path}/x", "udp_fwd-1", at_peer)
        for count in range(500):
            peer.send(Revoked(1, count))
        assert await at_hub.until(500) == [(b"udp_fwd-1", Revoked(1, count)) for count in range(500)]
        assert [hub.send(b"udp_fwd-1", Revoked(2, count)) for count in range(200)] == [True] * 200
        assert await at_peer.until(200) == [Revoked(2, count) for count in range(200)]


@run
async def test_messages_of_every_size_arrive_whole(tmp_path: Path) -> None:
    with running_bus() as bus:
        at_hub = Inbox()
        bus.hub(f"ipc://{tmp_path}/x", at_hub)
        peer = bus.peer(f"ipc://{tmp_path}/x", "p", Inbox())
        batches = [ToTun(0.0, [bytes([n % 256]) * n], []) for n in (0, 1, 32700, 32760, 32768, 65536, 256 << 10)]
        for batch in batches:
            peer.send(batch)
        assert [message for _, message in await at_hub.until(len(batches))] == batches


@run
async def test_no_message_waits_for_an_unrelated_event_when_both_sides_send_at_once(tmp_path: Path) -> None:
    # With queues this short both sides are full, and told that there is room again, thousands of times.
    total = 20_000
    with running_bus() as bus, running_bus() as other:
        at_hub, at_peer = Inbox(), Inbox()

        def echo(identity: bytes, message: Message) -> None:
            at_hub(message)
            if not hub.send(identity, message):
                refused.append(message)

        refused: list[Message] = []
        hub = bus.hub(f"ipc://{tmp_path}/x", echo, high_water=total)
        peer = other.peer(f"ipc://{tmp_path}/x", "p", at_peer, high_water=2)
        for count in range(total):
            peer.send(Revoked(1, count))
        assert len(await at_hub.until(total)) == total
        await at_peer.until(total - len(refused))
        assert not refused
        assert at_peer.items == [Revoked(1, count) for count in range(total)]


def swallow_the_edge(fd: int, call: Callable[[], object]) -> None:
    """Wait, without giving the loop a turn, until something has come in; then call until the edge is gone."""
    assert select.select([fd], [], [], 10)[0]
    while select.select([fd], [], [], 0)[0]:
        call()


@run
async def test_a_message_whose_edge_was_swallowed_by_a_send_is_heard(tmp_path: Path) -> None:
    with running_bus() as bus, bare(zmq.DEALER, identity=b"q") as far_peer, bare(zmq.ROUTER) as far_hub:
        at_hub, at_peer = Inbox(), Inbox()
        hub = bus.hub(f"ipc://{tmp_path}/hub", at_hub, high_water=0)
        far_peer.connect(f"ipc://{tmp_path}/hub")
        far_peer.send(pack(Heartbeat("1")))
        await at_hub.until(1)
        far_peer.send(pack(Heartbeat("2")))
        swallow_the_edge(hub.socket.fileno(), lambda: hub.send(b"q", Heartbeat("x")))
        assert await at_hub.until(2) == [(b"q", Heartbeat("1")), (b"q", Heartbeat("2"))]

        far_hub.bind(f"ipc://{tmp_path}/peer")
        peer = bus.peer(f"ipc://{tmp_path}/peer", "p", at_peer, high_water=0)
        peer.send(Heartbeat("p"))
        await blocking(far_hub.recv_multipart)
        far_hub.send_multipart([b"p", pack(Heartbeat("3"))])
        swallow_the_edge(peer.socket.fileno(), lambda: peer.send(Heartbeat("x")))
        assert await at_peer.until(1) == [Heartbeat("3")]


@run
async def test_a_message_whose_edge_was_swallowed_by_a_send_that_found_no_room_is_heard(tmp_path: Path) -> None:
    with running_bus() as bus, bare(zmq.ROUTER, rcvhwm=1) as far_hub:
        at_peer = Inbox()
        far_hub.bind(f"ipc://{tmp_path}/x")
        peer = bus.peer(f"ipc://{tmp_path}/x", "p", at_peer, high_water=1)
        peer.send(Heartbeat("p"))
        await blocking(far_hub.recv_multipart)
        while peer.waiting < 100:
            peer.send(ToTun(0.0, [BIG], []))
        while peer._scheduled or select.select([peer.socket.fileno()], [], [], 0.05)[0]:
            await asyncio.sleep(0)  # until every buffer on the way is full and nothing moves any more
        far_hub.send_multipart([b"p", pack(Heartbeat("1"))])
        swallow_the_edge(peer.socket.fileno(), peer._writable)
        assert await at_peer.until(1) == [Heartbeat("1")]


@run
async def test_a_subscription_whose_edge_was_swallowed_by_a_send_is_heard(tmp_path: Path) -> None:
    with running_bus() as bus, bare(zmq.SUB) as subscriber:
        subscribed = Inbox()
        publisher = bus.publisher(f"ipc://{tmp_path}/x", bind=True)
        publisher.on_subscribe = subscribed
        subscriber.subscribe(b"1")
        subscriber.connect(f"ipc://{tmp_path}/x")
        await subscribed.until(1)
        subscriber.subscribe(b"2")
        swallow_the_edge(publisher.socket.fileno(), lambda: publisher.publish(b"t", Heartbeat("x")))
        assert await subscribed.until(2) == [b"1", b"2"]


@run
async def test_a_burst_is_bounded_so_that_timers_run(tmp_path: Path) -> None:
    total = 20 * BURST
    with running_bus() as bus, bare(zmq.DEALER, sndhwm=0) as sender:
        per_turn: list[int] = [0]
        done = asyncio.Event()

        def count(_: bytes, message: Message) -> None:
            per_turn[-1] += 1
            if message == Revoked(1, total - 1):
                done.set()

        def next_turn() -> None:
            per_turn.append(0)
            if not done.is_set():
                bus.loop.call_soon(next_turn)

        hub = bus.hub(f"ipc://{tmp_path}/x", count, high_water=0)
        sender.connect(f"ipc://{tmp_path}/x")
        for number in range(total):
            sender.send(pack(Revoked(1, number)))
        hub.socket.poll(10_000)
        next_turn()
        async with asyncio.timeout(20):
            await done.wait()
        assert sum(per_turn) == total
        assert max(per_turn) <= BURST


@run
async def test_on_drained_is_called_once_after_each_burst(tmp_path: Path) -> None:
    with running_bus() as bus:
        log, at_peer = Inbox(), Inbox()
        bus.hub(f"ipc://{tmp_path}/x", lambda _, message: log(message), on_drained=lambda: log("drained"))
        peer = bus.peer(f"ipc://{tmp_path}/x", "p", at_peer)
        peer.send(Heartbeat("a"))
        assert await log.until(2) == [Heartbeat("a"), "drained"]


@run
async def test_sending_to_nobody_is_refused(tmp_path: Path) -> None:
    with running_bus() as bus:
        hub = bus.hub(f"ipc://{tmp_path}/x", Inbox())
        assert hub.send(b"nobody", Heartbeat("x")) is False


@run
async def test_sending_to_one_who_left_is_refused(tmp_path: Path) -> None:
    with running_bus() as bus:
        at_hub = Inbox()
        hub = bus.hub(f"ipc://{tmp_path}/x", at_hub)
        monitor = hub.socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        peer = bus.peer(f"ipc://{tmp_path}/x", "p", Inbox())
        peer.send(Heartbeat("p"))
        await at_hub.until(1)
        peer.close()
        await disconnected(monitor)
        hub.socket.disable_monitor()
        monitor.close()
        while hub.send(b"p", Heartbeat("x")):  # the pipe ends a moment after the connection
            await asyncio.sleep(0)
        assert hub.send(b"p", Heartbeat("x")) is False


@run
async def test_a_full_queue_refuses_whole_messages_and_takes_more_when_there_is_room(tmp_path: Path) -> None:
    with running_bus() as bus, bare(zmq.DEALER, identity=b"slow", rcvhwm=2) as slow:
        at_hub = Inbox()
        hub = bus.hub(f"ipc://{tmp_path}/x", at_hub, high_water=4)
        slow.connect(f"ipc://{tmp_path}/x")
        slow.send(pack(Heartbeat("slow")))
        await at_hub.until(1)
        sent = refused = 0
        while refused < 3:  # a refusal may find room a moment later, while the I/O thread fills the socket
            if hub.send(b"slow", ToTun(float(sent), [BIG], [])):
                sent, refused = sent + 1, 0
                assert sent < 10_000, "a peer that reads nothing must be refused at some time"
            else:
                refused += 1
                assert not hub.unreachable
        assert not hub.send(b"nobody", Heartbeat("nobody"))
        assert hub.unreachable
        for number in range(sent):
            (frame,) = await blocking(slow.recv_multipart)
            assert frame == pack(ToTun(float(number), [BIG], []))
        async with asyncio.timeout(20):
            while not hub.send(b"slow", Heartbeat("room")):  # the credit is on its way back
                await asyncio.sleep(0)
        assert await blocking(slow.recv_multipart) == [pack(Heartbeat("room"))]


@run
async def test_a_worker_that_came_back_takes_over_its_name(tmp_path: Path) -> None:
    with running_bus() as bus:
        at_hub, first, second = Inbox(), Inbox(), Inbox()
        hub = bus.hub(f"ipc://{tmp_path}/x", at_hub)
        bus.peer(f"ipc://{tmp_path}/x", "tcp_fwd-1", first).send(Heartbeat("first"))
        await at_hub.until(1)
        bus.peer(f"ipc://{tmp_path}/x", "tcp_fwd-1", second).send(Heartbeat("second"))
        await at_hub.until(2)
        assert hub.send(b"tcp_fwd-1", Heartbeat("to the second"))
        assert await second.until(1) == [Heartbeat("to the second")]
        assert first.items == []


@run
async def test_a_congested_peer_keeps_the_order_and_says_when_there_is_room(tmp_path: Path) -> None:
    total = 1000
    with running_bus() as bus, bare(zmq.ROUTER, rcvhwm=2) as hub:
        hub.bind(f"ipc://{tmp_path}/x")
        room = Inbox()
        peer = bus.peer(f"ipc://{tmp_path}/x", "p", Inbox(), high_water=2, on_room=lambda: room("room"))
        assert not peer.congested
        for number in range(total):
            peer.send(ToTun(float(number), [BIG], []))
        assert peer.congested
        assert 0 < peer.waiting < total
        for number in range(total):
            assert await blocking(hub.recv_multipart) == [b"p", pack(ToTun(float(number), [BIG], []))]
        assert await room.until(1) == ["room"]
        assert (peer.congested, peer.waiting) == (False, 0)


@run
async def test_what_is_sent_before_the_hub_is_there_or_while_it_is_away_arrives(tmp_path: Path) -> None:
    with running_bus() as bus:
        peer = bus.peer(f"ipc://{tmp_path}/x", "p", Inbox())
        monitor = peer.socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        for number in range(3):
            peer.send(Revoked(1, number))
        first = Inbox()
        hub = bus.hub(f"ipc://{tmp_path}/x", first)
        assert [message for _, message in await first.until(3)] == [Revoked(1, number) for number in range(3)]
        hub.close()
        await disconnected(monitor)
        peer.socket.disable_monitor()
        monitor.close()
        for number in range(3, 600):
            peer.send(Revoked(1, number))
        second = Inbox()
        bus.hub(f"ipc://{tmp_path}/x", second)
        assert [message for _, message in await second.until(597)] == [Revoked(1, number) for number in range(3, 600)]


@pytest.mark.parametrize(
    "parts",
    [[b"\xc1"], [b""], [b"\x00"], [pack(Heartbeat("x")), b"more"], [b"\x92\x03\x01"]],
    ids=["no msgpack", "an empty frame", "no array", "too many parts", "a wrong type"],
)
def test_what_is_no_message_is_counted_and_the_next_one_is_heard(tmp_path: Path, parts: list[bytes]) -> None:
    async def scenario() -> None:
        malformed = Inbox()
        with (
            running_bus(lambda: malformed("malformed")) as bus,
            bare(zmq.DEALER, identity=b"bad") as bad_peer,
            bare(zmq.ROUTER) as bad_hub,
            bare(zmq.PUB) as bad_publisher,
        ):
            at_hub, at_peer, at_subscriber = Inbox(), Inbox(), Inbox()
            bus.hub(f"ipc://{tmp_path}/hub", at_hub)
            bad_peer.connect(f"ipc://{tmp_path}/hub")
            bad_peer.send_multipart(parts)
            bad_peer.send(pack(Heartbeat("good")))
            assert await at_hub.until(1) == [(b"bad", Heartbeat("good"))]

            bad_hub.bind(f"ipc://{tmp_path}/peer")
            bus.peer(f"ipc://{tmp_path}/peer", "p", at_peer).send(Heartbeat("p"))
            await blocking(bad_hub.recv_multipart)
            bad_hub.send_multipart([b"p", *parts])
            bad_hub.send_multipart([b"p", pack(Heartbeat("good"))])
            assert await at_peer.until(1) == [Heartbeat("good")]

            bad_publisher.bind(f"ipc://{tmp_path}/pub")
            bus.subscriber(f"ipc://{tmp_path}/pub", [b"t"], at_subscriber)
            while not at_subscriber.items:  # until the subscription has arrived, what is published goes nowhere
                bad_publisher.send_multipart([b"t", *parts])
                bad_publisher.send_multipart([b"t", pack(Heartbeat("good"))])
                await asyncio.sleep(0)
            assert at_subscriber.items[0] == (b"t", Heartbeat("good"))
            assert len(malformed.items) >= 3

    asyncio.run(scenario())


@run
async def test_a_callback_that_raises_is_told_to_the_loop_and_the_next_message_is_heard(tmp_path: Path) -> None:
    with running_bus() as bus:
        failures, heard = Inbox(), Inbox()
        bus.loop.set_exception_handler(lambda _, context: failures(context["exception"]))

        def fail_once(_: bytes, message: Message) -> None:
            if message == Heartbeat("bad"):
                raise RuntimeError("our bug")
            heard(message)

        bus.hub(f"ipc://{tmp_path}/x", fail_once)
        peer = bus.peer(f"ipc://{tmp_path}/x", "p", Inbox())
        peer.send(Heartbeat("bad"))
        peer.send(Heartbeat("good"))
        assert await heard.until(1) == [Heartbeat("good")]
        assert [str(failure) for failure in await failures.until(1)] == ["our bug"]


@run
async def test_a_publisher_knows_what_is_listened_to(tmp_path: Path) -> None:
    with running_bus() as bus:
        subscribed, heard = Inbox(), Inbox()
        publisher = bus.publisher(f"ipc://{tmp_path}/x", bind=True)
        publisher.on_subscribe = subscribed
        assert not publisher.wants(b"trace")
        subscriber = bus.subscriber(f"ipc://{tmp_path}/x", [b"trace", b"sample.1"], heard)
        assert set(await subscribed.until(2)) == {b"trace", b"sample.1"} == publisher.topics
        assert publisher.wants(b"trace")
        assert publisher.wants(b"sample.12")
        assert not publisher.wants(b"sample.2")
        publisher.publish(b"other", Heartbeat("nobody hears this"))
        publisher.publish(b"trace", LeaseChange([], ["a"], 1.0, 0))
        assert await heard.until(1) == [(b"trace", LeaseChange([], ["a"], 1.0, 0))]
        subscriber.close()
        async with asyncio.timeout(20):
            while publisher.topics:
                await asyncio.sleep(0)
        assert not publisher.wants(b"trace")


@run
async def test_what_a_proxy_that_died_had_subscribed_to_is_not_wanted_any_more(tmp_path: Path) -> None:
    with running_bus() as bus:
        subscribed = Inbox()
        publisher = bus.publisher(f"ipc://{tmp_path}/in")
        publisher.on_subscribe = subscribed
        with bare(zmq.XSUB) as proxy:
            proxy.bind(f"ipc://{tmp_path}/in")
            proxy.send(b"\x01trace")
            while not subscribed.items:
                proxy.poll(1)  # a bare socket does its work when it is used
                await asyncio.sleep(0)
            assert publisher.wants(b"trace")
        async with asyncio.timeout(20):
            while publisher.topics:
                await asyncio.sleep(0)
        publisher.publish(b"trace", Heartbeat("nobody hears this, and nothing fails"))


@run
async def test_a_subscriber_finds_a_publisher_that_came_back(tmp_path: Path) -> None:
    with running_bus() as bus:
        heard, subscribed = Inbox(), Inbox()
        bus.subscriber(f"ipc://{tmp_path}/x", [b""], heard)
        for name in ("first", "second"):
            publisher = bus.publisher(f"ipc://{tmp_path}/x", bind=True)
            publisher.on_subscribe = subscribed
            await subscribed.until(len(subscribed.items) + 1)
            publisher.publish(b"t", Heartbeat(name))
            await heard.until(len(heard.items) + 1)
            publisher.close()
        assert heard.items == [(b"t", Heartbeat("first")), (b"t", Heartbeat("second"))]


@run
async def test_an_endpoint_that_cannot_be_bound_is_an_os_error_and_the_bus_still_closes(tmp_path: Path) -> None:
    with running_bus() as bus:
        with pytest.raises(FileNotFoundError, match=r"cannot bind ipc://.*/no/such/x: No such file or directory"):
            bus.hub(f"ipc://{tmp_path}/no/such/x", Inbox())
        with pytest.raises(OSError, match="cannot bind"):
            bus.publisher(f"ipc://{tmp_path}/{'x' * 200}", bind=True)
        assert not bus.ports


@run
async def test_after_close_nothing_is_sent_and_nothing_fails(tmp_path: Path) -> None:
    with running_bus() as bus:
        at_hub = Inbox()
        hub = bus.hub(f"ipc://{tmp_path}/x", at_hub)
        peer = bus.peer(f"ipc://{tmp_path}/x", "p", Inbox())
        publisher = bus.publisher(f"ipc://{tmp_path}/y", bind=True)
        peer.send(Heartbeat("p"))
        await at_hub.until(1)
        descriptors = [port.socket.fileno() for port in (hub, peer, publisher)]
        bus.close()
        assert [bus.loop.remove_reader(fd) for fd in descriptors] == [False] * 3, "a number is reused at once"
        assert hub.send(b"p", Heartbeat("x")) is False
        peer.send(Heartbeat("x"))
        assert not peer.congested
        publisher.publish(b"t", Heartbeat("x"))
        hub.close()
        await asyncio.sleep(0)  # what was scheduled before the close runs now


@run
async def test_what_was_sent_just_before_the_close_leaves(tmp_path: Path) -> None:
    with running_bus() as bus:
        at_hub = Inbox()
        bus.hub(f"ipc://{tmp_path}/x", at_hub)
        with running_bus() as other:
            peer = other.peer(f"ipc://{tmp_path}/x", "p", Inbox())
            peer.send(Heartbeat("hello"))
            await at_hub.until(1)
            peer.send(Heartbeat("bye"))
            other.close()
        assert (await at_hub.until(2))[1] == (b"p", Heartbeat("bye"))
