"""A forwarder's copy of the whitelist: rules one by one, then against a model."""

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from netstack.runtime import replica
from netstack.runtime.replica import TOUCH_EVERY, Replica

A, B = bytes([192, 0, 2, 1]), bytes([192, 0, 2, 2])
CLIENT, OTHER_CLIENT = bytes([10, 0, 0, 2]), bytes([10, 0, 0, 3])
TCP, UDP = 6, 17


def test_what_is_not_known_is_a_miss() -> None:
    assert not Replica().allows((CLIENT, A, 443, TCP), 0.0)


def test_a_lease_allows_every_endpoint_of_the_address_until_it_ends() -> None:
    known = Replica()
    known.lease([A], 300.0, now=10.0)
    assert known.allows((CLIENT, A, 443, TCP), 309.9)
    assert known.allows((CLIENT, A, 1, UDP), 309.9)
    assert not known.allows((CLIENT, A, 443, TCP), 310.0)
    assert not known.allows((CLIENT, B, 443, TCP), 20.0)


def test_a_lease_does_not_cover_dns_over_tls_which_is_asked_each_time() -> None:
    known = Replica()
    known.lease([A], 300.0, now=0.0)
    assert not known.allows((CLIENT, A, 853, TCP), 1.0)
    known.allow_endpoint((CLIENT, A, 853, TCP), 60.0, now=1.0)
    assert known.allows((CLIENT, A, 853, TCP), 2.0)
    assert not known.allows((CLIENT, A, 853, UDP), 2.0)


def test_a_yes_to_one_client_is_none_to_another() -> None:
    known = Replica()
    known.allow_endpoint((CLIENT, A, 443, TCP), 60.0, now=0.0)
    assert known.allows((CLIENT, A, 443, TCP), 1.0)
    assert not known.allows((OTHER_CLIENT, A, 443, TCP), 1.0)


def test_a_later_lease_never_shortens_an_earlier_one() -> None:
    known = Replica()
    known.lease([A], 300.0, now=0.0)
    known.lease([A], 10.0, now=1.0)
    assert known.allows((CLIENT, A, 443, TCP), 299.0)


def test_revoking_an_address_forgets_its_lease_and_its_endpoints_and_no_others() -> None:
    known = Replica()
    known.lease([A, B], 300.0, now=0.0)
    known.allow_endpoint((CLIENT, A, 853, TCP), 300.0, now=0.0)
    known.allow_endpoint((CLIENT, B, 853, TCP), 300.0, now=0.0)
    known.revoke([A])
    assert not known.allows((CLIENT, A, 443, TCP), 1.0)
    assert not known.allows((CLIENT, A, 853, TCP), 1.0)
    assert known.allows((CLIENT, B, 443, TCP), 1.0)
    assert known.allows((CLIENT, B, 853, TCP), 1.0)


def test_an_address_in_use_is_reported_once_in_a_while() -> None:
    known = Replica()
    assert known.use(A, 100.0)
    assert not known.use(A, 100.0 + TOUCH_EVERY - 0.1)
    assert known.use(B, 101.0)
    assert known.use(A, 100.0 + TOUCH_EVERY)


def test_beyond_the_limit_the_oldest_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replica, "MAX_ENTRIES", 3)
    known = Replica()
    addresses = [bytes([192, 0, 2, n]) for n in range(4)]
    for address in addresses[:3]:
        known.lease([address], 300.0, now=0.0)
    known.lease([addresses[0]], 300.0, now=1.0)  # told again: it is the youngest now
    known.lease([addresses[3]], 300.0, now=2.0)
    assert len(known) == 3
    assert [known.allows((CLIENT, address, 443, TCP), 3.0) for address in addresses] == [True, False, True, True]


def test_what_has_ended_is_forgotten_some_at_a_time() -> None:
    known = Replica()
    addresses = [bytes([192, 0, 2, n]) for n in range(100)]
    known.lease(addresses[:50], 10.0, now=0.0)
    known.lease(addresses[50:], 30.0, now=0.0)
    left = []
    for _ in range(6):
        known.expire(20.0, limit=20)
        left.append(len(known))
    assert left == [80, 60, 50, 50, 50, 50]
    for _ in range(6):
        known.expire(30.0, limit=20)
    assert len(known) == 0


ADDRESS = st.sampled_from([bytes([192, 0, 2, n]) for n in range(4)])
PORT = st.sampled_from([443, 853])
SPAN = st.floats(0.5, 400.0)


class ReplicaAgainstModel(RuleBasedStateMachine):
    """The model keeps every promise ever made and looks at them all."""

    def __init__(self) -> None:
        super().__init__()
        self.known = Replica()
        self.now = 0.0
        self.leases: list[tuple[bytes, float]] = []
        self.endpoints: dict[tuple[bytes, int, int], float] = {}

    @rule(addresses=st.lists(ADDRESS), expires_in=SPAN)
    def lease(self, addresses: list[bytes], expires_in: float) -> None:
        self.known.lease(addresses, expires_in, self.now)
        self.leases += [(address, self.now + expires_in) for address in addresses]

    @rule(address=ADDRESS, port=PORT, expires_in=SPAN)
    def allow_endpoint(self, address: bytes, port: int, expires_in: float) -> None:
        self.known.allow_endpoint((CLIENT, address, port, TCP), expires_in, self.now)
        self.endpoints[(address, port, TCP)] = self.now + expires_in

    @rule(addresses=st.lists(ADDRESS))
    def revoke(self, addresses: list[bytes]) -> None:
        self.known.revoke(addresses)
        self.leases = [(address, until) for address, until in self.leases if address not in addresses]
        self.endpoints = {key: until for key, until in self.endpoints.items() if key[0] not in addresses}

    @rule(seconds=SPAN)
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def expire(self) -> None:
        self.known.expire(self.now)
        live = {address for address, until in self.leases if until > self.now}
        assert len(self.known) == len(live)

    @invariant()
    def allows_what_was_promised_and_nothing_else(self) -> None:
        for address in (bytes([192, 0, 2, n]) for n in range(4)):
            leased = any(until > self.now for other, until in self.leases if other == address)
            for port in (443, 853):
                promised = self.endpoints.get((address, port, TCP), 0.0) > self.now
                expected = promised or (leased and port != 853)
                assert self.known.allows((CLIENT, address, port, TCP), self.now) is expected


TestReplicaAgainstModel = ReplicaAgainstModel.TestCase
