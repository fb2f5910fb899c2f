"""Limits: who gives way, what is refused, and what a flow's share is; then against a model."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from netstack.packet.reason import Reason
from services.tcp_fwd.limits import FLOOR, Buffers, ByClient, Limits, Waiting

A, B, C = (bytes([10, 0, 0, last]) for last in (1, 2, 3))
MIB = 1 << 20


def key(client: bytes, number: int) -> bytes:
    return client + number.to_bytes(4, "big")


def waiting_flows(*flows: tuple[bytes, int], limit: int = 100) -> ByClient:
    made = ByClient(limit)
    for client, number in flows:
        made.add(client, key(client, number))
    return made


@pytest.mark.parametrize(
    ("flows", "gives_way"),
    [
        ([], None),
        ([(A, 1)], key(A, 1)),
        ([(A, 1), (B, 1), (C, 1)], key(A, 1)),
        ([(A, 1), (B, 1), (B, 2)], key(B, 1)),
        ([(B, 1), (B, 2), (A, 1), (A, 2), (A, 3)], key(A, 1)),
        ([(B, 1), (A, 1), (A, 2), (B, 2)], key(A, 1)),
    ],
    ids=[
        "nobody", "the only one", "the oldest of equals", "the oldest of the client that has most",
        "whoever came first", "of equals the one that had so many first",
    ],
)  # fmt: skip
def test_the_oldest_flow_of_the_heaviest_client_gives_way(flows, gives_way):
    assert waiting_flows(*flows).oldest_of_heaviest() == gives_way


def test_a_client_that_floods_pushes_out_its_own():
    made = waiting_flows((A, 1), limit=11)
    for number in range(1000):
        if made.full:
            oldest = made.oldest_of_heaviest()
            assert oldest is not None
            assert made.remove(oldest[:4], oldest)
        made.add(B, key(B, number))
    assert len(made) == 11
    assert made.remove(A, key(A, 1))


def test_what_is_not_half_open_any_more_does_not_count():
    made = waiting_flows((A, 1), (A, 2), (B, 1))
    assert made.remove(A, key(A, 1))
    assert not made.remove(A, key(A, 1))
    assert not made.remove(C, key(C, 1))
    assert len(made) == 2
    assert made.oldest_of_heaviest() == key(B, 1)


def test_a_full_table_refuses_and_half_open_flows_give_way_before():
    limits = Limits(2, 2, 2)
    limits.opened(A, key(A, 1))
    limits.established(A, key(A, 1))
    limits.opened(B, key(B, 1))
    assert limits.gives_way() == key(B, 1)
    limits.established(B, key(B, 1))
    assert limits.gives_way() is None
    assert limits.refusal(C) is Reason.FLOW_TABLE_FULL
    limits.closed(A, key(A, 1))
    assert limits.refusal(C) is None
    assert len(limits) == 1


def test_a_client_may_have_so_many_flows_and_others_are_not_concerned():
    limits = Limits(10, 2, 10)
    for number in range(2):
        limits.opened(A, key(A, number))
    assert limits.refusal(A) is Reason.CLIENT_LIMIT
    assert limits.refusal(B) is None
    limits.closed(A, key(A, 0))
    assert limits.refusal(A) is None


def test_beyond_the_limit_of_half_open_flows_one_gives_way_though_the_table_has_room():
    limits = Limits(10, 10, 2)
    for number in range(2):
        limits.opened(A, key(A, number))
    assert limits.gives_way() == key(A, 0)
    assert limits.refusal(A) is None


def test_from_a_quarter_of_the_limit_on_syns_are_to_wait():
    limits = Limits(100, 100, 8)
    limits.opened(A, key(A, 0))
    assert not limits.pressed
    limits.opened(A, key(A, 1))
    assert limits.pressed
    limits.established(A, key(A, 0))
    assert not limits.pressed


def test_syns_are_taken_client_by_client_and_of_each_the_newest_first():
    syns = Waiting(100)
    for number in range(4):
        assert not syns.add(A, key(A, number), b"A%d" % number, number)
    assert not syns.add(B, key(B, 0), b"B0", 7)
    assert [syns.take() for _ in range(5)] == [(b"A3", 3), (b"B0", 7), (b"A2", 2), (b"A1", 1), (b"A0", 0)]
    assert len(syns) == 0


def test_beyond_the_limit_the_oldest_syn_of_the_client_that_has_most_is_dropped():
    syns = Waiting(3)
    syns.add(B, key(B, 0), b"B0", 0)
    dropped = [syns.add(A, key(A, number), b"A%d" % number, number) for number in range(4)]
    assert dropped == [None, None, (key(A, 0), 0), (key(A, 1), 1)]
    assert [key(A, number) in syns for number in range(4)] == [False, False, True, True]
    assert [syns.take()[0] for _ in range(3)] == [b"B0", b"A3", b"A2"]


def test_a_syn_that_comes_again_takes_its_own_place_and_one_that_was_reset_goes():
    syns = Waiting(2)
    syns.add(A, key(A, 0), b"first", 0)
    syns.add(A, key(A, 1), b"other", 0)
    assert not syns.add(A, key(A, 0), b"again", 0)
    assert len(syns) == 2
    syns.discard(key(A, 1))
    syns.discard(key(A, 1))
    assert syns.take() == (b"again", 0)


def test_a_share_shrinks_with_what_is_left_and_never_below_the_floor():
    buffers = Buffers(256 * MIB)
    assert buffers.share() == 16 * MIB
    buffers.used = 128 * MIB
    assert buffers.share() == 8 * MIB
    assert not buffers.full
    buffers.used = 256 * MIB
    assert buffers.share() == FLOOR
    assert buffers.full


def test_flows_that_send_out_of_order_share_a_quarter_and_leave_the_rest_to_others():
    buffers = Buffers(256 * MIB)
    held = [0] * 4096
    for index in [*range(4096), *range(4096)]:
        for octets in (1 << 20, 64 << 10, 1 << 10, 1):
            while buffers.take_ahead(held[index], octets):
                held[index] += octets
    assert sum(held) == buffers.ahead == buffers.used <= 64 * MIB
    assert buffers.share() >= 12 * MIB
    buffers.give_ahead(buffers.ahead)
    assert buffers.used == 0


def test_nothing_out_of_order_is_kept_where_there_is_no_room_at_all():
    buffers = Buffers(MIB)
    buffers.used = MIB
    assert not buffers.take_ahead(0, 1)


@given(st.integers(1, 500), st.integers(1, 1 << 30))
def test_flows_that_take_their_share_never_fill_everything(flows: int, limit: int):
    buffers = Buffers(limit * 16)
    held = [0] * flows
    for _ in range(3):
        for index in range(flows):
            wanted = max(buffers.share(), held[index])
            if buffers.share() > FLOOR:
                buffers.used += wanted - held[index]
                held[index] = wanted
    assert buffers.used <= buffers.limit


class Model(RuleBasedStateMachine):
    """Against plain lists, searched from the beginning."""

    def __init__(self) -> None:
        super().__init__()
        self.limits = Limits(8, 4, 5)
        self.flows: list[tuple[bytes, bytes, bool]] = []
        self.number = 0

    @rule(client=st.sampled_from([A, B, C]))
    def open(self, client: bytes) -> None:
        refusal = self.limits.refusal(client)
        half = any(is_half for _, _, is_half in self.flows)
        own = sum(one == client for one, _, _ in self.flows)
        assert refusal is (
            Reason.CLIENT_LIMIT if own == 4 else Reason.FLOW_TABLE_FULL if len(self.flows) == 8 and not half else None
        )
        if refusal is None:
            oldest = self.limits.gives_way()
            if oldest is not None:
                self._close(oldest)
            self.number += 1
            made = key(client, self.number)
            self.limits.opened(client, made)
            self.flows.append((client, made, True))

    @precondition(lambda self: self.flows)
    @rule(data=st.data())
    def establish(self, data: st.DataObject) -> None:
        index = data.draw(st.integers(0, len(self.flows) - 1))
        client, made, _ = self.flows[index]
        self.limits.established(client, made)
        self.flows[index] = (client, made, False)

    @precondition(lambda self: self.flows)
    @rule(data=st.data())
    def close(self, data: st.DataObject) -> None:
        self._close(self.flows[data.draw(st.integers(0, len(self.flows) - 1))][1])

    def _close(self, gone: bytes) -> None:
        client, made, _ = next(flow for flow in self.flows if flow[1] == gone)
        self.limits.closed(client, made)
        self.flows = [flow for flow in self.flows if flow[1] != gone]

    @invariant()
    def counts(self) -> None:
        half = [(client, made) for client, made, is_half in self.flows if is_half]
        assert len(self.limits) == len(self.flows)
        assert len(self.limits.half_open) == len(half) <= 5
        oldest = self.limits.half_open.oldest_of_heaviest()
        if oldest is None:
            assert not half
            return
        counts = {client: sum(one == client for one, _ in half) for client, _ in half}
        heavy = [client for client, count in counts.items() if count == max(counts.values())]
        assert oldest in [next(made for one, made in half if one == client) for client in heavy]


TestModel = Model.TestCase
