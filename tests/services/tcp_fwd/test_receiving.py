"""The receiving half: order, overlap, the window's edge."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.tcp_fwd.limits import AHEAD, SHARE, Buffers
from services.tcp_fwd.receiving import BLOCK_COST, CAPACITY, Receiver

IRS = 0xFFFFFF00  # close to the end of the circle, so that every test crosses it


def opened(capacity: int = CAPACITY) -> Receiver:
    receiver = Receiver(IRS, scaled=True, buffers=Buffers(256 << 20), capacity=capacity)
    receiver.window()
    return receiver


@pytest.mark.parametrize(
    ("seq", "length", "answer"),
    [
        pytest.param(0, 0, True, id="empty at the left edge"),
        pytest.param(1279, 0, True, id="empty inside"),
        pytest.param(1280, 0, True, id="empty at the right edge, as Linux has it"),
        pytest.param(1281, 0, False, id="empty beyond"),
        pytest.param(-1, 0, False, id="empty before"),
        pytest.param(0, 1, True, id="first octet"),
        pytest.param(1279, 10, True, id="last octet and more"),
        pytest.param(1280, 1, False, id="just beyond"),
        pytest.param(-5, 5, False, id="all old"),
        pytest.param(-5, 6, True, id="old, and one octet new"),
    ],
)
def test_acceptable_is_the_table_of_rfc_9293_section_3_10_7_4(seq, length, answer):
    receiver = opened(1280)
    assert receiver.acceptable((receiver.rcv_nxt + seq) & 0xFFFFFFFF, length) is answer


def test_a_closed_window_takes_only_an_empty_segment_at_its_edge():
    receiver = opened(1280)
    receiver.receive(receiver.rcv_nxt, memoryview(bytes(1280)), 0.0)
    assert receiver.window() == 0
    assert receiver.acceptable(receiver.rcv_nxt, 0)
    assert not receiver.acceptable(receiver.rcv_nxt, 1)


def test_the_right_edge_never_moves_back():
    receiver = opened(128 * 100)
    receiver.receive(receiver.rcv_nxt, memoryview(bytes(100)), 0.0)
    assert receiver.window() << receiver.scale >= 128 * 100 - 100 - 127
    edge = receiver.edge
    receiver.receive(receiver.rcv_nxt, memoryview(bytes(50)), 0.0)
    receiver.window()
    assert receiver.edge >= edge - 50 - 127


def test_what_scaling_cuts_off_the_offer_may_still_come():
    receiver = opened(128 * 100)
    receiver.receive(receiver.rcv_nxt, memoryview(bytes(128 * 100 - 92)), 0.0)
    assert receiver.window() == 0
    assert receiver.acceptable(receiver.rcv_nxt, 92)
    assert len(receiver.receive(receiver.rcv_nxt, memoryview(bytes(92)), 0.0)) == 1


def test_the_client_is_told_when_a_quarter_of_the_room_has_come_back():
    receiver = opened(128 * 100)
    receiver.receive(receiver.rcv_nxt, memoryview(bytes(12800)), 0.0)
    receiver.window()
    receiver.pending -= 3199
    assert not receiver.reopened
    receiver.pending -= 1
    assert receiver.reopened


@given(st.binary(min_size=1, max_size=400), st.integers(0, 2**32 - 1), st.randoms(use_true_random=False))
def test_every_octet_comes_out_once_and_in_order_whatever_the_network_does(data, irs, network: random.Random):
    receiver = Receiver(irs, scaled=True, buffers=(buffers := Buffers(256 << 20)))
    receiver.window()
    pieces = []
    for _ in range(40):
        start = network.randrange(len(data))
        pieces.append((start, data[start : start + network.randint(1, 60)]))
    pieces += [(at, data[at : at + 37]) for at in range(0, len(data), 37)]  # so that everything comes at least once
    network.shuffle(pieces)
    pieces += [(at, data[at : at + 37]) for at in range(0, len(data), 37)]
    out = bytearray()
    for start, piece in pieces:
        seq = (irs + 1 + start) & 0xFFFFFFFF
        if receiver.acceptable(seq, len(piece)):
            for ready in receiver.receive(seq, memoryview(piece), 0.0):
                out += ready
    assert bytes(out) == data
    assert receiver.pending == len(data)
    assert receiver.ahead == buffers.ahead == buffers.used == 0


class TestOutOfOrder:
    def receiver(self, room: int) -> Receiver:
        """One flow, which may hold so many octets out of order."""
        self.buffers = Buffers(room * AHEAD * SHARE)
        receiver = Receiver(IRS, scaled=True, buffers=self.buffers)
        receiver.window()
        return receiver

    def offer(self, receiver: Receiver, start: int, octets: int) -> bool:
        """Whether it is kept, or in its turn."""
        receiver.refused = False
        receiver.receive((IRS + 1 + start) & 0xFFFFFFFF, memoryview(bytes(octets)), 0.0)
        return not receiver.refused

    def test_what_is_beyond_the_share_is_not_kept_nor_reported(self):
        receiver = self.receiver(1000 + BLOCK_COST)
        assert self.offer(receiver, 10, 1000)
        assert not self.offer(receiver, 2000, 1)
        assert not self.offer(receiver, 1010, 1)
        assert receiver.sack(4) == [((IRS + 11) & 0xFFFFFFFF, (IRS + 1011) & 0xFFFFFFFF)]
        assert self.buffers.ahead == self.buffers.used == receiver.ahead == 1000 + BLOCK_COST

    def test_what_comes_in_its_turn_is_taken_all_the_same(self):
        receiver = self.receiver(1000 + BLOCK_COST)
        self.offer(receiver, 10, 1000)
        assert self.offer(receiver, 0, 60_000)
        assert receiver.pending == 60_000
        assert self.buffers.ahead == 0

    def test_a_hole_costs_more_than_the_octets_behind_it(self):
        receiver = self.receiver(4 * BLOCK_COST)
        kept = [self.offer(receiver, start, 1) for start in range(1, 20, 2)]
        assert kept == [True] * 3 + [False] * 7

    def test_blocks_that_grow_together_are_one(self):
        receiver = self.receiver(10_000)
        for start, octets in ((10, 10), (30, 10), (15, 20)):
            assert self.offer(receiver, start, octets)
        assert self.buffers.ahead == 30 + BLOCK_COST

    def test_nothing_is_held_when_the_connection_is_over(self):
        receiver = self.receiver(10_000)
        self.offer(receiver, 10, 500)
        receiver.forget()
        assert (self.buffers.ahead, self.buffers.used, receiver.blocks) == (0, 0, [])
