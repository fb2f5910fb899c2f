"""What is collected for a worker, and when it leaves."""

import pytest

from netstack.runtime.tunnel import BATCH_OCTETS, BATCH_PACKETS
from netstack.wire.arena import SLOT, Arena
from netstack.wire.lending import Lending
from netstack.wire.partner import ArenaError, Partner
from services.tun_io.link import Link


@pytest.fixture
def arena(tmp_path):
    return Arena(tmp_path / "arena", 16)


def test_packets_leave_in_order_with_the_slots_they_lie_in(arena):
    link = Link(b"one", None, Lending(0))
    slot = arena.take()
    link.add(b"first")
    link.add_slot(slot, 3000)
    link.add(b"third")
    link.traced.append([1, 99])
    assert link.take() == ([b"first", [slot.position, 3000], b"third"], [[1, 99]], [slot])
    assert link.take() == ([], [], [])


@pytest.mark.parametrize("octets", [60, 1500, 65545])
def test_a_batch_is_full_before_it_could_be_too_large(octets):
    link = Link(b"one", None, Lending(0))
    while not link.is_full:
        link.add(bytes(octets))
    packets, _, _ = link.take()
    assert len(packets) == BATCH_PACKETS or sum(map(len, packets)) > BATCH_OCTETS - 65545
    assert len(packets) <= BATCH_PACKETS
    assert sum(map(len, packets)) <= BATCH_OCTETS
    assert not link.is_full


def test_a_batch_of_slots_leaves_while_it_is_in_the_cache(arena):
    link = Link(b"one", None, Lending(0))
    count = 0
    while not link.is_full:
        link.add_slot(arena.take(), 65535)
        count += 1
    assert count == 9


def test_what_the_worker_lent_is_found(arena, tmp_path):
    slot = arena.take()
    slot.view[:5] = b"hello"
    link = Link(b"one", Partner(tmp_path, "arena"), Lending(0))
    assert link.shares
    assert link.packet([slot.position, 5]) == b"hello"
    with pytest.raises(ArenaError):
        link.packet([16 * SLOT, 1])


def test_a_worker_without_an_arena_can_refer_to_nothing():
    link = Link(b"one", None, Lending(0))
    assert not link.shares
    with pytest.raises(ArenaError):
        link.packet([0, 5])
