"""When sessions are called, by a clock and an alarm of the test's own."""

import heapq
from collections.abc import Callable
from typing import Any

import pytest

from services.tcp_fwd.receiving import DELAYED_ACK
from services.tcp_fwd.timing import Timing

CONNECT = 30.0


class Clock:
    """Time that only goes on when it is told to; alarms ring on the way."""

    def __init__(self) -> None:
        self.now = 100.0
        self.alarms: list[tuple[float, int, Callable[[], object]]] = []

    def alarm(self, when: float, call: Callable[[], object]) -> None:
        heapq.heappush(self.alarms, (when, len(self.alarms), call))

    def wait(self, seconds: float) -> None:
        ends = self.now + seconds
        while self.alarms and self.alarms[0][0] <= ends:
            when, _, call = heapq.heappop(self.alarms)
            self.now = max(when, self.now)
            call()
        self.now = ends


class Session:
    """What Timing knows of one, and what it said to it."""

    def __init__(self, clock: Clock, timing: Timing) -> None:
        self.clock = clock
        self.timing = timing
        self.connection = self
        self.receiver = self
        self.ack_due_at: float | None = None
        self.timeout: float | None = None
        self.entry: list[Any] | None = None
        self.connect_at = clock.now
        self.said: list[tuple[str, float]] = []

    def next_timeout(self) -> float | None:
        return self.timeout

    def handle_timeout(self, now: float) -> None:
        self.said.append(("timeout", now))
        self.timeout = self.ack_due_at = None

    def connect_timed_out(self) -> None:
        self.said.append(("connect", self.clock.now))
        self.timing.connect_ended(self)

    def due(self, seconds: float) -> "Session":
        self.timeout = self.clock.now + seconds
        self.timing.schedule(self)
        return self

    def acknowledges(self) -> "Session":
        self.ack_due_at = self.clock.now + DELAYED_ACK
        self.timing.acknowledge_soon(self)
        return self

    def connects(self) -> "Session":
        self.connect_at = self.clock.now
        self.timing.connecting(self)
        return self


class Bench:
    def __init__(self) -> None:
        self.clock = Clock()
        self.timing = Timing(self.clock.alarm, lambda: self.clock.now, CONNECT)

    def session(self) -> Session:
        return Session(self.clock, self.timing)


def test_each_timer_is_called_in_its_time():
    bench = Bench()
    late, early = bench.session().due(2.0), bench.session().due(1.0)
    bench.clock.wait(1.5)
    assert (early.said, late.said) == ([("timeout", 101.0)], [])
    bench.clock.wait(1.0)
    assert late.said == [("timeout", 102.0)]


def test_a_connect_that_takes_too_long_ends_and_others_do_not():
    bench = Bench()
    first = bench.session().connects()
    bench.clock.wait(1.0)
    second, third = bench.session().connects(), bench.session().connects()
    bench.timing.connect_ended(second)
    bench.clock.wait(CONNECT)
    assert [one.said for one in (first, second, third)] == [[("connect", 130.0)], [], [("connect", 131.0)]]


def test_one_that_fails_does_not_keep_the_others_waiting():
    bench = Bench()
    bench.session().connects().connect_timed_out = None
    bench.clock.wait(1.0)
    other = bench.session().connects()
    with pytest.raises(TypeError):
        bench.clock.wait(CONNECT)
    bench.clock.wait(CONNECT)
    assert other.said == [("connect", 131.0)]


def test_connects_share_one_alarm():
    bench = Bench()
    for _ in range(3):
        for _ in range(10):
            bench.timing.connect_ended(bench.session().connects())
        assert len(bench.clock.alarms) == 1
        bench.clock.wait(CONNECT)
        assert not bench.clock.alarms


def test_delayed_acknowledgements_share_one_alarm_and_what_was_carried_is_not_called():
    bench = Bench()
    first, carried = bench.session().acknowledges(), bench.session().acknowledges()
    bench.clock.wait(DELAYED_ACK / 2)
    later = bench.session().acknowledges()
    assert len(bench.clock.alarms) == 1
    carried.ack_due_at = None
    bench.clock.wait(DELAYED_ACK * 0.6)
    assert [len(one.said) for one in (first, carried, later)] == [1, 0, 0]
    bench.clock.wait(DELAYED_ACK)
    assert [len(one.said) for one in (first, carried, later)] == [1, 0, 1]


def test_what_is_over_is_not_called():
    bench = Bench()
    one = bench.session().due(1.0).acknowledges()
    bench.timing.forget(one)
    bench.clock.wait(10.0)
    assert one.said == []
