"""Readers and watched descriptors, called by the selector itself."""

import os
import select
import socket
import time
from collections.abc import Iterator

import pytest

from netstack.runtime.selector import DirectSelector

EDGES = select.EPOLLIN | select.EPOLLOUT | select.EPOLLET


@pytest.fixture
def selector() -> Iterator[DirectSelector]:
    made = DirectSelector()
    yield made
    made.close()


def test_without_anybody_to_tell_what_a_reader_raises_comes_out(
    selector: DirectSelector, pair: tuple[socket.socket, socket.socket]
) -> None:
    one, other = pair

    def read() -> None:
        raise ValueError("broken")

    selector.add_reader(one.fileno(), read)
    other.send(b"x")
    with pytest.raises(ValueError, match="broken"):
        selector.select(0)


def test_what_is_watched_gets_its_events_framed_and_beside_readers(
    selector: DirectSelector, pair: tuple[socket.socket, socket.socket]
) -> None:
    one, other = pair
    log: list[object] = []
    read, write = os.pipe()
    selector.frame(lambda: log.append("before"), lambda: log.append("after"))
    selector.watch(one.fileno(), EDGES, log.append)
    selector.select(0)
    assert log == ["before", select.EPOLLOUT, "after"]
    log.clear()
    selector.select(0)
    assert log == []  # an edge is told once
    selector.add_reader(read, lambda: log.append(os.read(read, 10)))
    os.write(write, b"read")
    other.send(b"x")
    selector.select(0)
    assert sorted(map(str, log)) == sorted(map(str, ["before", select.EPOLLIN | select.EPOLLOUT, "after", b"read"]))
    assert log.index("before") < log.index(select.EPOLLIN | select.EPOLLOUT) < log.index("after")
    os.close(read)
    os.close(write)


def test_what_is_watched_no_more_is_told_nothing_though_it_is_open(
    selector: DirectSelector, pair: tuple[socket.socket, socket.socket]
) -> None:
    one, _ = pair
    selector.watch(one.fileno(), EDGES, lambda _: pytest.fail("it was removed"))
    selector.unwatch(one.fileno())
    selector.unwatch(one.fileno())
    assert selector.select(0) == []


def test_what_a_watched_one_raises_is_told_with_its_descriptor_and_the_frame_is_closed(
    selector: DirectSelector, pair: tuple[socket.socket, socket.socket]
) -> None:
    one, _ = pair
    told: list[tuple[int, str]] = []
    log: list[str] = []
    selector.on_exception = lambda descriptor, error: told.append((descriptor, str(error)))
    selector.frame(lambda: log.append("before"), lambda: log.append("after"))

    def broken(_: int) -> None:
        raise ValueError("broken")

    selector.watch(one.fileno(), EDGES, broken)
    selector.select(0)
    assert told == [(one.fileno(), "broken")]
    assert log == ["before", "after"]


def test_what_is_registered_as_with_any_selector_is_given_to_the_caller(
    selector: DirectSelector, pair: tuple[socket.socket, socket.socket]
) -> None:
    one, other = pair
    selector.register(one, select.EPOLLIN, "data")
    assert selector.select(0) == []
    other.send(b"x")
    ((key, _),) = selector.select(1.0)
    assert (key.fileobj, key.data) == (one, "data")
    assert selector.get_key(one) is key
    selector.unregister(one)
    assert selector.select(0) == []
    assert not selector.get_map()


def test_alarms_are_called_in_their_order_and_not_before_their_time(selector: DirectSelector) -> None:
    log: list[str] = []
    now = time.monotonic()
    selector.alarm(now + 0.02, lambda: log.append("second"))
    selector.alarm(now + 0.01, lambda: log.append("first"))
    selector.alarm(now + 60, lambda: log.append("not yet"))
    assert selector.select(0) == []
    assert log == []
    assert selector.select(0.05) == []
    assert log == ["first", "second"]
    assert time.monotonic() >= now + 0.05


def test_what_an_alarm_schedules_is_not_kept_waiting(selector: DirectSelector) -> None:
    def ring() -> None:
        selector.stirred = True

    selector.alarm(time.monotonic(), ring)
    assert selector.select(None) == []


def test_an_alarm_is_called_though_the_caller_does_not_wait(selector: DirectSelector) -> None:
    log: list[str] = []
    selector.alarm(time.monotonic(), lambda: log.append("now"))
    assert selector.select(0) == []
    assert log == ["now"]


def test_what_an_alarm_raises_is_told_and_the_next_one_is_called(selector: DirectSelector) -> None:
    told: list[tuple[int, str]] = []
    log: list[str] = []

    def fail() -> None:
        raise ValueError("broken")

    selector.alarm(0.0, fail)
    with pytest.raises(ValueError, match="broken"):
        selector.select(0)
    selector.on_exception = lambda descriptor, error: told.append((descriptor, str(error)))
    selector.alarm(0.0, fail)
    selector.alarm(0.0, lambda: log.append("next"))
    selector.select(0)
    assert (told, log) == ([(-1, "broken")], ["next"])
