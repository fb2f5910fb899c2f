"""What the tracker tells without being asked."""

import asyncio
from collections.abc import Callable

from netstack.wire.messages import (
    VERSION,
    Confirm,
    Confirmed,
    Join,
    Joined,
    LeaseChange,
    Message,
    NameRules,
)
from services.tracker import announce as module
from services.tracker.announce import Announcer
from services.tracker.leases import Origin
from services.tracker.memory import MemoryStore
from services.tracker.policy import Policy
from services.tracker.rules import Rules
from tests.services.tracker.links import World, run

A, B, GOOGLE = bytes([198, 18, 0, 1]), bytes([198, 18, 0, 2]), bytes([8, 8, 8, 8])
FWD, FILTER = b"tcp_fwd-1", b"dns_filter-1"


class Links:
    """Takes down what is sent and published."""

    def __init__(self) -> None:
        self.sent: list[tuple[bytes, Message]] = []
        self.published: list[Message] = []
        self.gone: set[bytes] = set()

    def send(self, identity: bytes, message: Message) -> bool:
        self.sent.append((identity, message))
        return identity not in self.gone

    def publish(self, _: bytes, message: Message) -> None:
        self.published.append(message)


class Setting:
    def __init__(self, *, shared: bool = True) -> None:
        self.now = 1000.0
        self.store = MemoryStore(lambda: self.now)
        self.rules = Rules()
        self.links = Links()
        self.later: list[Callable[[], None]] = []
        policy = Policy("enforce", [], [], [], commanded=self.rules)
        self.announcer = Announcer(lambda: self.now, self.later.append, self.store, policy, shared=shared)
        self.announcer.hub = self.announcer.changes = self.links  # type: ignore[assignment]

    def learn(self, *addresses: bytes, name: str = "www.example") -> None:
        assert self.store.learn_at_once(name, addresses, 300.0, Origin())

    def end_of_turn(self) -> None:
        later, self.later = self.later, []
        for call in later:
            call()

    def join(self, stage: str, epoch: int) -> list[Message]:
        self.links.sent.clear()
        self.announcer.catch_up(FWD, Join(VERSION, stage, "x", epoch))
        return [message for _, message in self.links.sent]


def test_a_dns_filter_hears_of_each_ending_and_whenever_it_asks() -> None:
    one = Setting()
    one.join("dns_filter", 0)
    one.links.sent.clear()
    before = one.announcer.epoch
    one.announcer.ended([A], cut=False)
    assert one.links.sent == [(FWD, Confirmed(0.0, one.announcer.instance, before + 1))]
    assert one.announcer.confirm(FILTER, Confirm(12.5))
    assert one.links.sent[1:] == [(FILTER, Confirmed(12.5, one.announcer.instance, before + 1))]
    assert one.announcer.instance != Setting().announcer.instance


def test_forwarders_hear_of_leases_on_which_they_may_decide_by_themselves() -> None:
    one = Setting()
    one.learn(A, GOOGLE)
    one.announcer.leased([A, B, GOOGLE], 300.0)
    one.end_of_turn()
    assert one.links.published == [LeaseChange([A], ["www.example"], 300.0, one.announcer.epoch)]


def test_they_hear_of_all_leases_of_one_turn_of_the_loop_at_once() -> None:
    one = Setting()
    one.learn(A, name="a.example")
    one.announcer.leased([A], 300.0)
    one.learn(A, B, name="b.example")
    one.announcer.leased([A, B], 300.0)
    one.announcer.leased([B], 600.0)
    assert one.links.published == []
    one.end_of_turn()
    epoch = one.announcer.epoch
    names = ["a.example", "b.example", "b.example"]
    assert one.links.published == [
        LeaseChange([A, A, B], names, 300.0, epoch),
        LeaseChange([B], names[1:2], 600.0, epoch),
    ]
    one.end_of_turn()
    assert len(one.links.published) == 2, "once"


def test_they_hear_of_a_lease_before_its_end() -> None:
    one = Setting()
    one.learn(A)
    one.announcer.leased([A], 300.0)
    one.announcer.before_ending = lambda: one.links.send(FILTER, Joined(VERSION, "", 0)) and None
    one.join("dns_filter", 0)
    one.announcer.ended([A], cut=True)
    assert [type(message) for _, message in one.links.sent] == [NameRules, Joined, Confirmed]
    one.end_of_turn()
    assert [change.expires_in for change in one.links.published if isinstance(change, LeaseChange)] == [300.0, 0.0]


def test_they_hear_of_none_where_a_lease_is_for_one_client() -> None:
    one = Setting(shared=False)
    one.learn(A)
    one.announcer.leased([A], 300.0)
    one.end_of_turn()
    assert one.links.published == []


def test_endings_are_numbered_and_said_again_to_who_missed_them() -> None:
    one = Setting()
    first = one.announcer.epoch
    one.announcer.ended([A], cut=True)
    one.announcer.ended([B], cut=False)
    endings = [LeaseChange([A], [], 0.0, first + 1), LeaseChange([B], [], -1.0, first + 2)]
    assert one.links.published == endings
    assert one.join("tcp_fwd", first) == [], "they may be on their way"
    one.now += 1
    assert one.join("tcp_fwd", first) == endings
    assert one.join("udp_fwd", first + 1) == endings[1:]
    assert one.join("tcp_fwd", first + 2) == []
    assert one.join("tcp_fwd", 0) == [], "it knows nothing that could have ended"
    assert one.join("command", first) == []


def test_a_tracker_that_starts_anew_numbers_on(monkeypatch) -> None:
    before, after = Setting(), Setting()
    for _ in range(1000):
        before.announcer.ended([A], cut=True)
    policy = Policy("enforce", [], [], [])
    after.announcer = Announcer(lambda: 1000.01, after.later.append, after.store, policy, shared=True)
    assert after.announcer.epoch > before.announcer.epoch
    assert module.LEASE_TOPIC == b"lease"


def test_who_filters_names_is_told_the_rulings_when_it_joins_and_when_they_change() -> None:
    one = Setting()
    said = one.join("dns_filter", 0)
    assert said == [NameRules([], [], lenient=False)]
    one.rules.rule_name("ads.example", allowed=False, until=2000.0)
    one.rules.paused_until = 1500.0
    one.announcer.rules()
    assert one.links.sent[-1] == (FWD, NameRules([], ["ads.example"], lenient=True))
    one.links.gone.add(FWD)
    one.announcer.rules()
    one.links.sent.clear()
    one.announcer.rules()
    assert one.links.sent == [], "who is gone is told when it joins again"


def test_over_the_links_a_forwarder_that_missed_an_ending_hears_it_before_it_is_greeted() -> None:
    async def story(world: World) -> None:
        joined = await world.fwd.join()
        await world.dns.revoke("198.18.0.1")
        await asyncio.sleep(0.6)
        world.fwd.say(Join(VERSION, "tcp_fwd", "tcp_fwd-1", joined.epoch))
        assert await world.fwd.hear() == LeaseChange([A], [], 0.0, joined.epoch + 1)
        greeting = await world.fwd.hear()
        assert isinstance(greeting, Joined)
        assert greeting.epoch == joined.epoch + 1
        verdict = await world.fwd.check(A)
        assert verdict.epoch == greeting.epoch

    run(story)
