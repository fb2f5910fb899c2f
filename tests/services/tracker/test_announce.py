"""What the tracker tells without being asked."""

import asyncio

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
        self.announcer = Announcer(
            lambda: self.now, self.store, Policy("enforce", [], [], [], commanded=self.rules), shared=shared
        )
        self.announcer.hub = self.announcer.changes = self.links  # type: ignore[assignment]

    def learn(self, *addresses: bytes) -> None:
        asyncio.run(self.store.learn("www.example", addresses, 300.0, Origin()))

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
    assert one.links.published == [LeaseChange([A], ["www.example"], 300.0, one.announcer.epoch)]


def test_they_hear_of_none_where_a_lease_is_for_one_client() -> None:
    one = Setting(shared=False)
    one.learn(A)
    one.announcer.leased([A], 300.0)
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
    after.announcer = Announcer(lambda: 1000.01, after.store, Policy("enforce", [], [], []), shared=True)
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
