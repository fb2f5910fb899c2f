"""Leases: how long, how they are extended together, when they end, and how many there may be."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from services.tracker.leases import (
    MAX_NAMES,
    MAX_RECORD_TTL,
    MAX_SIBLINGS,
    Leases,
    LeasesFullError,
    Origin,
    lease_seconds,
    max_client_ttl,
)

A, B, C, D = (bytes([198, 18, 0, n]) for n in (1, 2, 3, 4))
V6 = bytes.fromhex("20010db8000000000000000000000001")
CLIENT, OTHER_CLIENT = bytes([10, 0, 0, 2]), bytes([10, 0, 0, 3])
ORIGIN = Origin("answer", CLIENT, ("cdn.example",), 1.7e9)


@pytest.mark.parametrize(
    ("ttl", "floor", "grace", "lease", "client_ttl"),
    [
        (5, 300, 60, 300, 240),
        (0, 300, 60, 300, 240),
        (240, 300, 60, 300, 240),
        (241, 300, 60, 301, 241),
        (3600, 300, 60, 3660, 3600),
        (10**9, 300, 60, MAX_RECORD_TTL + 60, MAX_RECORD_TTL),
        (0, 1, 0, 1, 1),
        (0, 1, 60, 60, 1),
    ],
    ids=[
        "a short TTL is leased for the floor",
        "so is a TTL of 0",
        "the floor holds as long as TTL and grace fit into it",
        "beyond it the TTL counts",
        "and the grace comes on top",
        "a TTL beyond reason is cut",
        "a client is never told less than a second",
        "also where the grace is all there is",
    ],
)
def test_how_long(ttl: int, floor: int, grace: int, lease: int, client_ttl: int) -> None:
    assert lease_seconds(ttl, floor, grace) == lease
    assert max_client_ttl(lease, grace) == client_ttl


@given(st.integers(0, 2**40), st.integers(1, 604800), st.integers(0, 86400))
def test_a_client_that_obeys_never_outlives_its_lease(ttl: int, floor: int, grace: int) -> None:
    lease = lease_seconds(ttl, floor, grace)
    assert lease >= floor
    assert max(1, min(ttl, max_client_ttl(lease, grace))) <= lease


def until(leases: Leases, address: bytes, now: float = 0.0) -> float | None:
    lease = leases.live(address, now)
    return None if lease is None else lease.until


def test_an_address_that_was_never_an_answer_has_no_lease() -> None:
    assert Leases().live(A, 0.0) is None


def test_all_addresses_of_an_answer_are_leased() -> None:
    leases = Leases()
    leases.learn("www.example", [A, V6], 300, 0.0, ORIGIN)
    for address in (A, V6):
        lease = leases.live(address, 299.9)
        assert lease is not None
        assert (lease.names, lease.until, lease.origin) == (("www.example",), 300.0, ORIGIN)
    assert leases.live(A, 300.0) is None


@pytest.mark.parametrize(
    ("second", "at", "end"),
    [(10, 0.0, 300.0), (10, 299.0, 309.0), (1000, 0.0, 1000.0)],
    ids=["a later, shorter answer shortens nothing", "but extends what would end sooner", "a longer one extends"],
)
def test_a_later_answer(second: float, at: float, end: float) -> None:
    leases = Leases()
    leases.learn("www.example", [A], 300, 0.0)
    leases.learn("www.example", [A], second, at)
    assert until(leases, A, at) == end


def test_names_that_share_an_address_are_all_known() -> None:
    leases = Leases()
    for name in ("a.example", "b.example", "a.example"):
        leases.learn(name, [A], 300, 0.0)
    assert leases.live(A, 0.0).names == ("b.example", "a.example")
    assert leases.name_count == 2


def test_a_new_lease_knows_nothing_of_the_one_that_ended() -> None:
    leases = Leases()
    leases.learn("old.example", [A], 300, 0.0)
    leases.learn("new.example", [A], 300, 300.0)
    assert leases.live(A, 300.0).names == ("new.example",)
    assert leases.siblings("old.example") == []


def test_touch_extends_the_siblings_with_the_address() -> None:
    leases = Leases()
    leases.learn("www.example", [A, B], 300, 0.0)
    leases.learn("other.example", [C], 300, 0.0)
    assert set(leases.touch([A], 300, 200.0)) == {A, B}
    assert [until(leases, address, 200.0) for address in (A, B, C)] == [500.0, 500.0, 300.0]


def test_touch_reaches_the_siblings_of_every_name_of_the_address() -> None:
    leases = Leases()
    leases.learn("a.example", [A, B], 300, 0.0)
    leases.learn("b.example", [B, C], 300, 0.0)
    leases.learn("c.example", [C, D], 300, 0.0)
    assert set(leases.touch([B], 300, 200.0)) == {A, B, C}
    assert until(leases, D, 200.0) == 300.0


def test_touch_shortens_nothing_and_says_so() -> None:
    leases = Leases()
    leases.learn("www.example", [A], 3600, 0.0)
    assert leases.touch([A], 300, 10.0) == []
    assert until(leases, A, 10.0) == 3600.0


def test_touch_makes_no_leases() -> None:
    leases = Leases()
    leases.learn("www.example", [A], 300, 0.0)
    assert leases.touch([B], 300, 0.0) == []
    assert leases.touch([A], 300, 300.0) == []
    assert leases.live(A, 300.0) is None


def test_touch_wakes_no_sibling_whose_lease_has_ended() -> None:
    leases = Leases()
    leases.learn("www.example", [A], 300, 0.0)
    leases.learn("www.example", [B], 300, 200.0)
    assert leases.touch([B], 300, 400.0) == [B]
    assert leases.live(A, 400.0) is None


@pytest.mark.parametrize(
    ("target", "ended", "left"),
    [("a.example", {A, B}, {C}), (A, {A}, {B, C}), ("b.example", {B, C}, {A}), ("nobody.example", set(), {A, B, C})],
    ids=["a name: all its addresses", "an address: it alone", "a name that shares one", "an unknown name: nothing"],
)
def test_revoke(target: str | bytes, ended: set[bytes], left: set[bytes]) -> None:
    leases = Leases()
    leases.learn("a.example", [A, B], 300, 0.0)
    leases.learn("b.example", [B, C], 300, 0.0)
    assert set(leases.revoke(target, 1.0)) == ended
    assert {address for address in (A, B, C) if leases.live(address, 1.0)} == left
    assert leases.revoke(target, 1.0) == []


def test_revoking_what_ended_counts_nothing() -> None:
    leases = Leases()
    leases.learn("www.example", [A], 300, 0.0)
    assert leases.revoke("www.example", 300.0) == []
    assert len(leases) == 0


def test_what_has_ended_is_forgotten_step_by_step() -> None:
    leases = Leases()
    leases.learn("www.example", [A, B, C], 300, 0.0)
    leases.expire(299.0, 10)
    assert len(leases) == 3
    leases.expire(300.0, 2)
    assert len(leases) == 1
    leases.expire(300.0, 2)
    assert (len(leases), leases.name_count, leases.queued) == (0, 0, 0)


def test_what_was_extended_is_not_forgotten() -> None:
    leases = Leases()
    leases.learn("www.example", [A], 300, 0.0)
    leases.touch([A], 300, 200.0)
    leases.expire(400.0, 10)
    assert until(leases, A, 400.0) == 500.0
    leases.expire(500.0, 10)
    assert len(leases) == 0


def test_a_full_table_takes_all_of_an_answer_or_nothing() -> None:
    leases = Leases(max_addresses=3)
    leases.learn("www.example", [A, B], 300, 0.0)
    with pytest.raises(LeasesFullError, match="3 addresses"):
        leases.learn("more.example", [C, D], 300, 0.0)
    assert leases.live(C, 0.0) is None
    assert leases.name_count == 1
    leases.learn("more.example", [A, C], 300, 0.0)
    assert len(leases) == 3


def test_a_full_table_has_room_again_when_leases_have_ended() -> None:
    leases = Leases(max_addresses=2)
    leases.learn("www.example", [A, B], 300, 0.0)
    leases.learn("more.example", [C, D], 300, 300.0)
    assert until(leases, C, 300.0) == 600.0


def test_an_address_keeps_its_newest_names() -> None:
    leases = Leases()
    for number in range(MAX_NAMES + 10):
        leases.learn(f"{number}.example", [A], 300, 0.0)
    assert leases.live(A, 0.0).names == tuple(f"{number}.example" for number in range(10, MAX_NAMES + 10))
    assert leases.name_count == MAX_NAMES


def test_a_name_keeps_its_newest_addresses_together() -> None:
    leases = Leases()
    addresses = [number.to_bytes(4, "big") for number in range(MAX_SIBLINGS + 1)]
    leases.learn("www.example", addresses, 300, 0.0)
    assert leases.siblings("www.example") == addresses[1:]
    assert len(leases) == MAX_SIBLINGS + 1, "the oldest keeps its lease"
    assert addresses[0] not in leases.touch([addresses[1]], 300, 100.0)


def test_the_queue_does_not_grow_with_revocations() -> None:
    leases = Leases()
    for _ in range(10_000):
        leases.learn("www.example", [A], 300, 0.0)
        leases.revoke(A, 0.0)
    assert leases.queued < 100


def test_a_hundred_thousand_leases() -> None:
    leases = Leases()
    for number in range(100_000):
        leases.learn(f"{number % 30_000}.example", [number.to_bytes(4, "big")], 300, 0.0)
    assert (len(leases), leases.name_count, leases.queued) == (100_000, 30_000, 100_000)
    assert len(leases.touch([(1).to_bytes(4, "big")], 300, 100.0)) == 4
    leases.expire(300.0, 200_000)
    assert len(leases) == 4


NAMES = [f"{letter}.example" for letter in "abcde"]
ADDRESSES = [bytes([198, 18, 0, n]) for n in range(8)]
MOST = 6


class Model(RuleBasedStateMachine):
    """The same in the plainest way: a dictionary that is searched from end to end."""

    def __init__(self) -> None:
        super().__init__()
        self.leases = Leases(max_addresses=MOST)
        self.now = 0.0
        self.known: dict[bytes, tuple[float, set[str]]] = {}

    def forget(self) -> None:
        self.known = {address: lease for address, lease in self.known.items() if lease[0] > self.now}

    @rule(
        name=st.sampled_from(NAMES), addresses=st.lists(st.sampled_from(ADDRESSES), unique=True), ttl=st.integers(1, 9)
    )
    def learn(self, name: str, addresses: list[bytes], ttl: int) -> None:
        try:
            self.leases.learn(name, addresses, ttl, self.now)
        except LeasesFullError:
            assert len({*self.known, *addresses}) > MOST
            return
        for address in addresses:
            until, names = self.known.get(address, (0.0, set()))
            self.known[address] = (max(until, self.now + ttl), {*names, name})

    @rule(addresses=st.lists(st.sampled_from(ADDRESSES)), seconds=st.integers(1, 9))
    def touch(self, addresses: list[bytes], seconds: int) -> None:
        names = set().union(*(self.known[address][1] for address in addresses if address in self.known))
        reached = {address for address, lease in self.known.items() if lease[1] & names}
        longer = {address for address in reached if self.known[address][0] < self.now + seconds}
        assert set(self.leases.touch(addresses, seconds, self.now)) == longer
        for address in longer:
            self.known[address] = (self.now + seconds, self.known[address][1])

    @rule(which=st.sampled_from([*NAMES, *ADDRESSES]))
    def revoke(self, which: str | bytes) -> None:
        gone = {address for address, lease in self.known.items() if which in {address, *lease[1]}}
        assert set(self.leases.revoke(which, self.now)) == gone
        for address in gone:
            del self.known[address]

    @rule(seconds=st.integers(1, 5))
    def pass_time(self, seconds: int) -> None:
        self.now += seconds
        self.forget()

    @precondition(lambda self: self.leases.queued)
    @rule(limit=st.integers(1, 10))
    def expire(self, limit: int) -> None:
        self.leases.expire(self.now, limit)

    @invariant()
    def knows_exactly_what_lives(self) -> None:
        for address in ADDRESSES:
            lease = self.leases.live(address, self.now)
            assert (lease and (lease.until, set(lease.names))) == self.known.get(address)

    @invariant()
    def is_bounded(self) -> None:
        assert len(self.leases) <= MOST
        assert self.leases.queued <= 2 * len(self.leases) + 64
        assert self.leases.name_count <= len(NAMES)

    @invariant()
    def the_index_holds_all_that_live(self) -> None:
        for name in NAMES:
            live = {address for address, lease in self.known.items() if name in lease[1]}
            assert live <= set(self.leases.siblings(name))


TestModel = Model.TestCase
