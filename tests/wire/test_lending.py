"""Who has which slots: model and reality agree, whatever is lost on the way."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netstack.wire.arena import Arena
from netstack.wire.lending import Lending


@pytest.fixture
def arena(tmp_path):
    return Arena(tmp_path / "arena", 8)


def lend(arena, lending, count):
    for _ in range(count):
        lending.lend(arena.take())


def free(arena):
    taken = []
    while slot := arena.take():
        taken.append(slot)
    for slot in taken:
        slot.release()
    return len(taken)


def test_slots_come_back_in_order(arena):
    lending = Lending(7)
    lend(arena, lending, 3)
    assert (lending.lent, lending.outstanding, free(arena)) == (10, 3, 5)
    lending.returned(8)
    assert (lending.outstanding, free(arena)) == (2, 6)
    lending.returned(10)
    assert (lending.outstanding, free(arena)) == (0, 8)


@pytest.mark.parametrize("count", [0, 6, 7, 11, 1 << 60, -1])
def test_a_count_that_cannot_be_frees_nothing(arena, count):
    lending = Lending(7)
    lend(arena, lending, 3)
    lending.returned(count)
    assert lending.outstanding == 3


def test_a_slot_that_somebody_else_holds_too_is_not_free(arena):
    lending = Lending(0)
    slot = arena.take()
    slot.hold()
    lending.lend(slot)
    lending.returned(1)
    assert (lending.outstanding, free(arena)) == (0, 7)
    slot.release()
    assert free(arena) == 8


def test_after_the_arena_was_retired_old_counts_free_nothing_new(arena, tmp_path):
    lending = Lending(100)
    lend(arena, lending, 5)
    lending.forget()
    fresh = Arena(tmp_path / "fresh", 8)
    lend(fresh, lending, 2)
    lending.returned(104)
    assert (lending.outstanding, free(arena), free(fresh)) == (2, 3, 6)
    lending.returned(106)
    assert (lending.outstanding, free(fresh)) == (1, 7)


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=40))
def test_what_was_dealt_with_is_free_though_messages_are_lost(tmp_path_factory, steps):
    """Each step sends a message that lends so many, which arrives or not; the partner answers what arrives."""
    arena = Arena(tmp_path_factory.mktemp("arena") / "arena", 8)
    ours, theirs = Lending(3), Lending(9)
    unsettled = 0
    for wanted, arrives in steps:
        count = min(wanted, free(arena))
        lend(arena, ours, count)
        unsettled += count
        if arrives:
            theirs.borrowed = ours.lent
            ours.returned(theirs.borrowed)
            unsettled = 0
        assert ours.outstanding == unsettled == 8 - free(arena)
