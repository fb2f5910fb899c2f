"""What commands say to one tracker, on the others that share its Redis; and what becomes of it when Redis is away."""

import asyncio
import math
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import pytest

from netstack.wire.messages import Forbid
from services.tracker import redis_rules
from services.tracker.endpoints import parse_rule
from services.tracker.redis_store import RedisStore
from services.tracker.rules import Rules, Said
from services.tracker.store import Watcher
from tests.services.tracker.links import World as Links
from tests.services.tracker.links import run as run_links
from tests.services.tracker.stores import World

WITHIN = 20.0  # seconds for one story
KEY = "netstack:rules"
WEB = bytes([198, 18, 0, 1])


class Tracker:
    """As much of one as rules take: a store and what holds."""

    def __init__(self, store: RedisStore, clock: Callable[[], float]) -> None:
        self.store = store
        self.rules = Rules()
        self._clock = clock
        self.denied: list[str] = []
        store.watcher = Watcher(lambda addresses, seconds: None, lambda addresses: None, self._ruled)

    def _ruled(self, said: Sequence[Said]) -> None:
        self.denied += self.rules.hear(said, parse_rule, self._clock()).denied
        self.store.rule(self.rules.said())

    def say(self, name: str, *, allowed: bool, seconds: float = math.inf) -> None:
        self.rules.rule_name(name, allowed=allowed, until=self._clock() + seconds)
        self.store.rule(self.rules.said())

    def forget(self, name: str) -> None:
        self.rules.forget(name)
        self.store.rule(self.rules.said())

    def known(self) -> dict[str, bool]:
        return {said.text: said.allowed for said in self.rules.said()}

    def left(self, name: str) -> float:
        return self.rules.name_until(name) - self._clock()


@pytest.fixture
def run(redis) -> Callable[[Callable[[World], Awaitable[None]]], None]:
    async def main(story: Callable[[World], Awaitable[None]]) -> None:
        world = World(redis.url)
        try:
            await asyncio.wait_for(story(world), WITHIN)
        finally:
            await world.close()

    return lambda story: asyncio.run(main(story))


async def until(condition: Callable[[], object]) -> None:
    while not condition():
        await asyncio.sleep(0.002)


async def two(world: World, redis) -> tuple[Tracker, Tracker]:
    first, second = [Tracker(await world.open(), world.clock) for _ in range(2)]
    await until(lambda: redis.ask("PUBSUB", "NUMSUB", "netstack:changes").split()[1] == "2")
    await asyncio.sleep(0.05)  # both have compared what they know
    return first, second


def test_what_is_said_to_one_holds_at_the_other_with_its_end_until_it_is_taken_back(run, redis) -> None:
    async def story(world: World) -> None:
        first, second = await two(world, redis)
        first.say("ads.example", allowed=False, seconds=100)
        second.say("www.example", allowed=True, seconds=50)
        both = {"ads.example": False, "www.example": True}
        await until(lambda: first.known() == second.known() == both)
        assert (first.denied, second.denied) == ([], ["ads.example"])
        assert 98 < second.left("ads.example") <= 100
        first.say("ads.example", allowed=True, seconds=200)
        await until(lambda: second.left("ads.example") > 100)
        second.forget("ads.example")
        await until(lambda: first.known() == second.known() == {"www.example": True})

    run(story)


def test_it_ends_everywhere_and_redis_forgets_it(run, redis) -> None:
    async def story(world: World) -> None:
        first, second = await two(world, redis)
        first.say("ads.example", allowed=False, seconds=0.3)
        await until(second.known)
        assert int(redis.ask("PTTL", KEY)) <= 300
        await until(lambda: redis.ask("EXISTS", KEY) == "0")
        assert [said for said in second.rules.said() if said.until > world.clock()] == []

    run(story)


def test_a_tracker_that_starts_knows_what_holds_and_not_what_was_taken_back_meanwhile(run, redis) -> None:
    async def story(world: World) -> None:
        first, _ = await two(world, redis)
        first.say("ads.example", allowed=False, seconds=100)
        await until(lambda: redis.ask("HLEN", KEY) == "1")
        third = Tracker(world.make(), world.clock)
        third.rules.rule_name("old.example", allowed=True, until=world.clock() + 100)
        await third.store.open(third.rules.said())
        await until(lambda: third.known() == {"ads.example": False})

    run(story)


def test_what_has_no_end_lasts_as_long_as_its_tracker_says_it_again(run, redis, monkeypatch) -> None:
    monkeypatch.setattr(redis_rules, "KEPT_FOR", 0.5)
    monkeypatch.setattr(redis_rules, "RENEW_EVERY", 0.1)

    async def story(world: World) -> None:
        first, second = await two(world, redis)
        first.say("ads.example", allowed=False)
        await until(second.known)
        end = world.clock() + 1
        while world.clock() < end:
            first.store.tidy(100)
            assert second.rules.name_until("ads.example") > world.clock()
            await asyncio.sleep(0.01)
        assert first.left("ads.example") == math.inf
        # Nobody says it again: it is over for the others, and nobody is left for whom it was without end.
        await until(lambda: redis.ask("EXISTS", KEY) == "0")

    run(story)


def test_what_is_said_while_redis_is_away_is_told_when_it_is_back(run, redis) -> None:
    async def story(world: World) -> None:
        first, second = await two(world, redis)
        first.say("old.example", allowed=False, seconds=100)
        await until(second.known)
        redis.pause()
        first.say("ads.example", allowed=False, seconds=100)
        first.forget("old.example")
        await asyncio.sleep(1.0)
        assert second.known() == {"old.example": False}
        redis.resume()
        await until(lambda: first.known() == second.known() == {"ads.example": False})

    run(story)


def test_restarted_empty_it_is_told_again_what_holds(run, redis) -> None:
    async def story(world: World) -> None:
        first, second = await two(world, redis)
        first.say("ads.example", allowed=False, seconds=100)
        second.say("www.example", allowed=True)
        await until(lambda: len(first.known()) == len(second.known()) == 2)
        redis.kill()
        redis.start()
        await until(lambda: redis.ask("HLEN", KEY) == "2")
        await asyncio.sleep(0.2)
        assert first.known() == second.known() == {"ads.example": False, "www.example": True}

    run(story)


def test_full_it_is_told_later_and_what_was_said_holds_here(run, redis, monkeypatch) -> None:
    monkeypatch.setattr(redis_rules, "RENEW_EVERY", 0.1)

    async def story(world: World) -> None:
        first, second = await two(world, redis)
        redis.ask("CONFIG", "SET", "maxmemory", "1")
        first.say("ads.example", allowed=False, seconds=100)
        await asyncio.sleep(0.2)
        first.store.tidy(1)
        await asyncio.sleep(0.05)
        assert (first.known(), second.known()) == ({"ads.example": False}, {})
        redis.ask("CONFIG", "SET", "maxmemory", "0")
        await asyncio.sleep(0.1)
        first.store.tidy(1)
        await until(second.known)

    run(story)


@pytest.mark.parametrize("value", ["nothing", "99999999999999 maybe", "x allow", ""])
def test_what_no_tracker_wrote_is_no_rule(run, redis, value: str) -> None:
    redis.ask("HSET", KEY, "name bad.example", value, "else www.example", "99999999999999 allow")

    async def story(world: World) -> None:
        first, second = await two(world, redis)
        first.say("ads.example", allowed=False, seconds=100)
        await until(second.known)
        assert second.known() == {"ads.example": False}

    run(story)


def test_over_the_links_a_name_that_is_denied_at_one_is_closed_at_the_other_within_100_ms(redis) -> None:
    async def story(first: Links) -> None:
        # pytest's own folders are too long for a Unix socket
        with tempfile.TemporaryDirectory(prefix="netstack-") as folder:
            second = Links(Path(folder), {"whitelist": {"store": redis.url}})
            await second.open()
            try:
                await second.dns.learn("www.example", WEB)
                assert (await first.fwd.check(WEB)).allowed
                begun = asyncio.get_running_loop().time()
                first.cmd.say(Forbid(1, "example", 0.0))
                while (change := await second.changes.get()).expires_in:
                    pass
                assert asyncio.get_running_loop().time() - begun < 0.1
                assert change.addresses == [WEB]
                await first.cmd.hear()
                assert (await second.dns.learn("www.example", WEB)).reason == "name-denied"
                assert not (await first.fwd.check(WEB)).allowed
            finally:
                await second.close()

    run_links(story, whitelist={"store": redis.url})
