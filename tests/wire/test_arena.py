"""Slots of shared memory."""

import os

import pytest

from netstack.wire.arena import HEADROOM, LARGE, SLOT, Arena, private_slot
from netstack.wire.partner import Partner


@pytest.fixture
def arena(tmp_path):
    return Arena(tmp_path / "arena", 4)


def test_slots_do_not_overlap_and_hold_the_largest_packet(arena):
    slots = [arena.take() for _ in range(4)]
    assert sorted(slot.position for slot in slots) == [0, SLOT, 2 * SLOT, 3 * SLOT]
    for number, slot in enumerate(slots):
        slot.view[:] = bytes([number]) * SLOT
    assert [slot.memory[slot.position] for slot in slots] == [0, 1, 2, 3]
    assert len(slots[0].payload) >= 65535
    assert arena.take() is None


def test_a_slot_is_free_when_the_last_one_lets_go(arena):
    slots = [arena.take() for _ in range(4)]
    slots[2].hold()
    slots[2].release()
    assert arena.take() is None
    slots[2].release()
    assert arena.take() is slots[2]


def test_what_was_freed_last_is_taken_first(arena):
    first, second = arena.take(), arena.take()
    first.release()
    second.release()
    assert arena.take() is second


def test_only_its_owner_may_open_it(arena):
    assert arena.path.stat().st_mode & 0o777 == 0o600


def test_a_name_that_is_taken_is_refused(arena):
    with pytest.raises(FileExistsError):
        Arena(arena.path)


def test_an_arena_without_room_leaves_nothing_behind(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space"):
        Arena(tmp_path / "arena")
    assert list(tmp_path.iterdir()) == []


def test_a_retired_arena_stays_as_it_is_for_who_has_it(arena, tmp_path):
    slot = arena.take()
    slot.payload[:3] = b"old"
    partner = Partner(tmp_path, "arena")
    arena.retire()
    fresh = Arena(tmp_path / "arena", 4)
    fresh.take().payload[:3] = b"new"
    assert partner.packet([slot.position + HEADROOM, 3]) == b"old"
    assert arena.owns(slot)
    assert not fresh.owns(slot)


def test_a_private_slot_is_never_lent_and_never_free():
    slot = private_slot()
    slot.view[:LARGE] = b"x" * LARGE
    assert slot.memory[:LARGE] == b"x" * LARGE
