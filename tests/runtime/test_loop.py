"""The event loop of a service: readers called directly, beside all that asyncio does."""

import asyncio
import os
import signal
import socket
from collections.abc import Callable, Iterator

import pytest

from netstack.runtime.loop import Loop


@pytest.fixture
def loop() -> Iterator[Loop]:
    made = Loop()
    made.call_later(10.0, made.stop)  # what waits for nothing ends all the same
    yield made
    made.close()


def run(loop: Loop, begin: Callable[[], object]) -> None:
    """Run the loop until something stops it; begin is called in it."""
    loop.call_soon(begin)
    loop.run_forever()


def test_a_reader_is_called_with_its_arguments_until_it_is_removed(
    loop: Loop, pair: tuple[socket.socket, socket.socket]
) -> None:
    one, other = pair
    seen: list[object] = []

    def read(*arguments: object) -> None:
        seen.append((arguments, one.recv(1)))
        if len(seen) == 3:
            assert loop.remove_reader(one)
            loop.stop()

    loop.add_reader(one, read, "a", 1)
    other.send(b"xyzw")
    run(loop, lambda: None)
    assert seen == [(("a", 1), b"x"), (("a", 1), b"y"), (("a", 1), b"z")]
    assert not loop.remove_reader(one)


def test_the_last_reader_given_is_the_one_called(loop: Loop, pair: tuple[socket.socket, socket.socket]) -> None:
    one, other = pair
    other.send(b"x")
    loop.add_reader(one.fileno(), lambda: pytest.fail("it was replaced"))
    loop.add_reader(one.fileno(), loop.stop)
    run(loop, lambda: None)


def test_what_a_reader_schedules_is_called_without_another_event(
    loop: Loop, pair: tuple[socket.socket, socket.socket]
) -> None:
    one, other = pair
    said: list[str] = []

    def read() -> None:
        one.recv(1)
        loop.call_soon(said.append, "soon")
        loop.call_later(0.001, said.append, "later")
        loop.call_later(0.002, loop.stop)

    loop.add_reader(one, read)
    other.send(b"x")
    run(loop, lambda: None)
    assert said == ["soon", "later"]


def test_a_timer_is_called_in_time_while_readers_keep_the_loop_busy(
    loop: Loop, pair: tuple[socket.socket, socket.socket]
) -> None:
    one, other = pair
    other.send(b"x")  # never read: the descriptor stays readable
    calls = 0

    def busy() -> None:
        nonlocal calls
        calls += 1

    loop.add_reader(one, busy)
    began = loop.time()
    loop.call_later(0.05, loop.stop)
    run(loop, lambda: None)
    assert 0.05 <= loop.time() - began < 5.0
    assert calls > 10


def test_a_reader_removed_by_another_one_is_not_called(loop: Loop) -> None:
    # Both are ready at once; whichever comes first removes the other, whose number a new pipe may get.
    pipes = [os.pipe() for _ in range(2)]
    called: list[int] = []

    def read(mine: int, others: int) -> None:
        called.append(mine)
        loop.remove_reader(mine)
        loop.remove_reader(others)
        os.close(others)
        fresh = os.open("/dev/zero", os.O_RDONLY)  # epoll takes no such file: only the number is what matters
        assert fresh == others
        loop.call_soon(loop.stop)

    for (readable, writable), (other, _) in zip(pipes, pipes[::-1], strict=True):
        os.write(writable, b"x")
        loop.add_reader(readable, read, readable, other)
    run(loop, lambda: None)
    assert len(called) == 1
    for descriptors in pipes:
        for descriptor in descriptors:
            os.close(descriptor)


def test_what_a_reader_raises_is_told_and_the_others_go_on(
    loop: Loop, pair: tuple[socket.socket, socket.socket]
) -> None:
    one, other = pair
    told: list[dict[str, object]] = []
    loop.set_exception_handler(lambda _, context: told.append(context))

    def read() -> None:
        one.recv(1)
        raise ValueError("broken")

    def go_on() -> None:
        other.recv(1)
        loop.call_soon(loop.stop)

    loop.add_reader(one, read)
    loop.add_reader(other, go_on)
    other.send(b"x")
    one.send(b"x")
    run(loop, lambda: None)
    assert [str(context["exception"]) for context in told] == ["broken"]
    assert str(one.fileno()) in str(told[0]["message"])


def test_transports_threads_signals_and_children_work_beside_readers(
    loop: Loop, pair: tuple[socket.socket, socket.socket]
) -> None:
    one, other = pair

    async def work() -> list[object]:
        read: asyncio.Future[bytes] = loop.create_future()

        def receive() -> None:
            read.set_result(one.recv(1))
            loop.remove_reader(one)

        loop.add_reader(one, receive)
        signalled = asyncio.Event()
        loop.add_signal_handler(signal.SIGUSR2, signalled.set)

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write((await reader.read(5)).upper())
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(b"hello")
            answer = await reader.read()
            writer.close()
        threaded = await loop.run_in_executor(None, lambda: 42)
        os.kill(os.getpid(), signal.SIGUSR2)
        await signalled.wait()
        other.send(b"x")
        return [answer, threaded, await read]

    assert loop.run_until_complete(asyncio.wait_for(work(), 10)) == [b"HELLO", 42, b"x"]
    loop.remove_signal_handler(signal.SIGUSR2)


def test_a_loop_that_is_closed_has_no_readers(pair: tuple[socket.socket, socket.socket]) -> None:
    one, _ = pair
    loop = Loop()
    loop.add_reader(one, lambda: None)
    loop.close()
    assert not loop.remove_reader(one)
