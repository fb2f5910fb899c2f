"""The heap of timers: late entries are put back, never early, never lost."""

import gc
import weakref
from dataclasses import dataclass
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from services.tcp_fwd.timers import MAX_STALE, Timers


@dataclass(eq=False)
class Item:
    when: float | None
    entry: list[Any] | None = None

    def next_timeout(self) -> float | None:
        return self.when


def test_what_wants_nothing_is_not_scheduled():
    timers = Timers()
    assert timers.schedule(Item(None)) is False
    assert timers.next() is None


def test_the_earliest_is_told_so():
    timers = Timers()
    assert timers.schedule(Item(2.0)) is True
    assert timers.schedule(Item(3.0)) is False
    assert timers.schedule(Item(1.0)) is True
    assert timers.next() == 1.0


def test_a_timer_that_moved_later_is_put_back():
    timers, item = Timers(), Item(1.0)
    timers.schedule(item)
    item.when = 5.0
    timers.schedule(item)
    assert timers.due(1.0) == []
    assert timers.due(5.0) == [item]


def test_a_timer_that_moved_earlier_is_called_then_and_once():
    timers, item = Timers(), Item(5.0)
    timers.schedule(item)
    item.when = 1.0
    timers.schedule(item)
    assert timers.due(1.0) == [item]
    item.when = None
    assert timers.due(9.0) == []


def test_a_timer_that_was_stopped_is_forgotten():
    timers, item = Timers(), Item(1.0)
    timers.schedule(item)
    item.when = None
    assert timers.due(2.0) == []
    assert timers.next() is None


@given(st.lists(st.tuples(st.integers(0, 4), st.one_of(st.none(), st.floats(0, 100))), max_size=60))
def test_nothing_is_early_and_nothing_is_lost(moves):
    timers, items = Timers(), [Item(None) for _ in range(5)]
    now = 0.0
    for index, when in moves:
        items[index].when = None if when is None else max(when, now)
        timers.schedule(items[index])
        if index == 0:
            now += 5
            for item in timers.due(now):
                assert item.when is not None
                assert item.when <= now
                item.when = None
    for item in timers.due(1000.0):
        item.when = None
    assert [item.when for item in items] == [None] * 5


def test_what_is_forgotten_is_not_called_and_does_not_stay():
    timers = Timers()
    kept = Item(5.0)
    timers.schedule(kept)
    for _ in range(10):
        items = [Item(30.0) for _ in range(1000)]
        for item in items:
            timers.schedule(item)
        for item in items:
            timers.forget(item)
            timers.forget(item)
    assert len(timers._heap) <= 2 * MAX_STALE + 2
    assert timers.due(10.0) == [kept]
    assert timers.due(100.0) == []


def test_what_is_over_is_not_kept_alive_however_often_it_moved():
    """By reference counts alone: the collector of cycles looks seldom."""
    gc.disable()
    try:
        timers = Timers()
        item = Item(30.0)
        for when in (30.0, 20.0, 10.0):
            item.when = when
            timers.schedule(item)
        gone = weakref.ref(item)
        timers.forget(item)
        del item
        assert gone() is None
    finally:
        gc.enable()


def test_places_that_were_given_up_by_moving_do_not_pile_up():
    timers = Timers()
    items = [Item(None) for _ in range(10)]
    for when in range(5000, 0, -1):
        for item in items:
            item.when = float(when)
            timers.schedule(item)
    assert len(timers._heap) <= 2 * MAX_STALE + 10
    assert timers.due(1.0) == items
    assert timers.due(9999.0) == []
