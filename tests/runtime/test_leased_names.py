"""The names of leased addresses: rules one by one, then against a model."""

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from netstack.runtime import leased_names
from netstack.runtime.leased_names import LeasedNames

A, B, C = (bytes([192, 0, 2, last]) for last in (1, 2, 3))


def test_a_name_is_known_for_the_addresses_it_was_answered_with_until_the_lease_ends() -> None:
    names = LeasedNames()
    names.learn([A, B], ["a.test"], 300.0, now=10.0)
    assert names.has(A, "a.test", 309.9)
    assert names.has(B, "a.test", 309.9)
    assert not names.has(A, "b.test", 10.0)
    assert not names.has(C, "a.test", 10.0)
    assert not names.has(A, "a.test", 310.0)


def test_a_lease_that_goes_on_keeps_its_names_and_one_that_has_ended_does_not() -> None:
    names = LeasedNames()
    names.learn([A], ["a.test"], 300.0, now=0.0)
    names.learn([A], ["b.test"], 10.0, now=1.0)
    assert names.has(A, "a.test", 299.0)
    assert names.has(A, "b.test", 299.0)
    names.learn([A], ["c.test"], 10.0, now=300.0)
    assert not names.has(A, "a.test", 301.0)
    assert names.has(A, "c.test", 301.0)


def test_what_is_revoked_is_forgotten() -> None:
    names = LeasedNames()
    names.learn([A, B], ["a.test"], 300.0, now=0.0)
    names.revoke([A, C])
    assert not names.has(A, "a.test", 1.0)
    assert names.has(B, "a.test", 1.0)


def test_what_has_ended_takes_no_room() -> None:
    names = LeasedNames()
    names.learn([A], ["a.test"], 10.0, now=0.0)
    names.learn([B], ["a.test"], 20.0, now=0.0)
    names.learn([C], [], 20.0, now=0.0)
    assert len(names) == 2
    names.expire(15.0)
    assert len(names) == 1
    assert names.has(B, "a.test", 15.0)


def test_the_oldest_names_and_addresses_give_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leased_names, "MAX_NAMES", 2)
    monkeypatch.setattr(leased_names, "MAX_ADDRESSES", 2)
    names = LeasedNames()
    for name in ("a.test", "b.test", "a.test", "c.test"):
        names.learn([A], [name], 300.0, now=0.0)
    assert [name for name in ("a.test", "b.test", "c.test") if names.has(A, name, 1.0)] == ["a.test", "c.test"]
    names.learn([B], ["b.test"], 300.0, now=0.0)
    names.learn([A], ["d.test"], 300.0, now=0.0)
    names.learn([C], ["c.test"], 300.0, now=0.0)
    assert len(names) == 2
    assert not names.has(B, "b.test", 1.0)
    assert names.has(A, "d.test", 1.0)


class Model(RuleBasedStateMachine):
    """Against a plain table of pairs."""

    def __init__(self) -> None:
        super().__init__()
        self.names = LeasedNames()
        self.until: dict[bytes, float] = {}
        self.pairs: set[tuple[bytes, str]] = set()
        self.now = 0.0

    addresses = st.lists(st.sampled_from([A, B, C]), min_size=1, max_size=3)

    @rule(addresses=addresses, name=st.sampled_from("abc"), seconds=st.integers(1, 20))
    def learn(self, addresses: list[bytes], name: str, seconds: int) -> None:
        self.names.learn(addresses, [name], float(seconds), self.now)
        for address in addresses:
            if self.until.get(address, 0.0) <= self.now:
                self.pairs -= {(address, one) for one in "abc"}
            self.until[address] = max(self.until.get(address, 0.0), self.now + seconds)
            self.pairs.add((address, name))

    @rule(addresses=addresses)
    def revoke(self, addresses: list[bytes]) -> None:
        self.names.revoke(addresses)
        for address in addresses:
            self.until.pop(address, None)

    @rule(seconds=st.integers(1, 15))
    def wait(self, seconds: int) -> None:
        self.now += seconds

    @rule()
    def expire(self) -> None:
        self.names.expire(self.now)
        assert len(self.names) == sum(until > self.now for until in self.until.values())

    @invariant()
    def same_answers(self) -> None:
        for address in (A, B, C):
            for name in "abc":
                live = self.until.get(address, 0.0) > self.now
                assert self.names.has(address, name, self.now) == (live and (address, name) in self.pairs)


TestModel = Model.TestCase
