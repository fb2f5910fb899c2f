"""The store in Redis: what outlives the process, and what happens when Redis is away, empty, full or not ours."""

import asyncio
import json
from collections.abc import Awaitable, Callable

import pytest

from services.tracker.leases import Leases, Origin
from services.tracker.redis_store import RedisStore
from services.tracker.store import ANSWER_WITHIN, StoreDownError
from tests.services.tracker.stores import World

WITHIN = 20.0  # seconds for one story
A, B, C = (bytes([198, 18, 0, n]) for n in (1, 2, 3))
V6 = bytes.fromhex("20010db8000000000000000000000001")
ANSWER = Origin("answer", bytes([10, 0, 0, 2]), ("cdn.example",), 1.7e9)
LEASE_A = "netstack:lease:198.18.0.1"


@pytest.fixture
def run(redis) -> Callable[[Callable[[World], Awaitable[None]]], None]:
    async def main(story: Callable[[World], Awaitable[None]]) -> None:
        world = World(redis.url)
        try:
            await asyncio.wait_for(story(world), WITHIN)
        finally:
            await world.close()

    return lambda story: asyncio.run(main(story))


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.005)


async def works(store: RedisStore) -> None:
    """Until it confirms again."""
    while True:
        try:
            await store.learn("probe.example", [C], 300, ANSWER)
            return
        except StoreDownError:
            await asyncio.sleep(0.01)


async def heard_all(store: RedisStore, other: RedisStore) -> None:
    """Until a store hears what the other does, and has read what was there: it asks for nothing by itself then."""
    while not store._foreign:
        await other.learn("probe.example", [C], 300, ANSWER)
        await asyncio.sleep(0.005)
    await until(lambda: len(store._tasks) == 2)  # the connection's and the subscription's: no comparison any more


async def fails(work: Awaitable[object]) -> float:
    """It must fail, and in time; how many seconds that took."""
    clock = asyncio.get_running_loop().time
    before = clock()
    with pytest.raises(StoreDownError):
        await work
    took = clock() - before
    assert took < ANSWER_WITHIN
    return took


def test_the_keys_are_those_that_the_architecture_names(run, redis) -> None:
    async def story(world: World) -> None:
        store = await world.open()
        await store.learn("www.example", [A, V6], 300, ANSWER)
        value = json.loads(redis.ask("GET", LEASE_A))
        expected = {"names": ["www.example"], "rule": "answer", "client": "10.0.0.2", "chain": "cdn.example"}
        assert value == {**expected, "when": 1.7e9}
        assert 299_000 < int(redis.ask("PTTL", LEASE_A)) <= 300_000
        assert redis.ask("ZRANGE", "netstack:name:www.example", "0", "-1").split() == ["198.18.0.1", "2001:db8::1"]
        assert set(redis.ask("KEYS", "*").split()) == {
            LEASE_A, "netstack:lease:2001:db8::1", "netstack:name:www.example",
        }  # fmt: skip

    run(story)


def test_the_index_lives_as_long_as_the_last_lease_and_forgets_those_that_ended(run, redis) -> None:
    async def story(world: World) -> None:
        store = await world.open()
        await store.learn("www.example", [A], 3600, ANSWER)
        await store.learn("www.example", [B], 0.03, ANSWER)
        await until(lambda: redis.ask("EXISTS", "netstack:lease:198.18.0.2") == "0")
        await store.learn("www.example", [C], 300, ANSWER)
        assert 3_599_000 < int(redis.ask("PTTL", "netstack:name:www.example")) <= 3_600_000
        assert set(redis.ask("ZRANGE", "netstack:name:www.example", "0", "-1").split()) == {"198.18.0.1", "198.18.0.3"}

    run(story)


def test_leases_outlive_the_tracker(run) -> None:
    async def story(world: World) -> None:
        first = await world.open()
        await first.learn("www.example", [A, V6], 300, ANSWER)
        await first.close()
        second = await world.open()
        await until(lambda: second.live(A) is not None and second.live(V6) is not None)
        assert 299 < world.left(second, A) <= 300
        assert second.live(A).names == ("www.example",)
        assert set(await second.touch([A], 600)) == {A, V6}

    run(story)


def test_thousands_of_leases_are_read_at_the_start(run) -> None:
    async def story(world: World) -> None:
        first = await world.open()
        for block in range(5):
            addresses = [bytes([198, 18, block, n]) for n in range(256)]
            await first.learn(f"{block}.example", addresses, 300, ANSWER)
        second = await world.open()
        await until(lambda: len(second.leases) == 5 * 256)

    run(story)


def test_what_another_tracker_leased_is_found_and_asked_for_once(run, redis) -> None:
    async def story(world: World) -> None:
        first, second = await world.open(), await world.open()
        await heard_all(first, second)
        await heard_all(second, first)
        await first.learn("www.example", [A], 300, ANSWER)
        await until(lambda: second.live(A) is not None)
        second.leases.revoke(A, world.clock())  # as if the change had been lost
        redis.ask("CONFIG", "RESETSTAT")
        found = await asyncio.gather(*(second.find(A) for _ in range(50)))
        assert {lease.names for lease in found} == {("www.example",)}
        assert 299 < world.left(second, A) <= 300
        assert "cmdstat_get:calls=1," in redis.ask("INFO", "commandstats")

    run(story)


def test_siblings_that_another_tracker_leased_are_extended_and_known_then(run) -> None:
    async def story(world: World) -> None:
        first, second = await world.open(), await world.open()
        await first.learn("www.example", [A, B], 300, ANSWER)
        assert set(await second.touch([A], 600)) == {A, B}
        assert 599 < world.left(second, B) <= 600

    run(story)


def test_the_mirror_never_holds_longer_than_redis(run, redis) -> None:
    async def story(world: World) -> None:
        first, second = await world.open(), await world.open()
        await first.learn("www.example", [A], 300, ANSWER)
        await second.find(A)
        await first.touch([A], 400)
        for store in (first, second):
            before = world.left(store, A)
            assert before * 1000 <= int(redis.ask("PTTL", LEASE_A)) + 1000 * (before - world.left(store, A)) + 1

    run(story)


def test_killed_what_is_known_goes_on_and_nothing_new_is_confirmed(run, redis) -> None:
    async def story(world: World) -> None:
        store = await world.open()
        await store.learn("www.example", [A], 300, ANSWER)
        redis.kill()
        await fails(store.learn("new.example", [B], 300, ANSWER))
        await fails(store.find(B))
        await fails(store.touch([A], 600))
        assert store.live(A) is not None
        assert store.live(B) is None
        assert world.left(store, A) <= 300
        assert len(world.troubles("store")) >= 1
        assert "redis.sock cannot be reached" in world.troubles("store")[0]

    run(story)


def test_killed_and_started_anew_it_works_again_by_itself_with_what_was_known(run, redis) -> None:
    async def story(world: World) -> None:
        store = await world.open()
        await store.learn("a.example", [A, V6], 300, ANSWER)
        await store.learn("b.example", [A], 300, ANSWER)
        redis.kill()
        await fails(store.learn("new.example", [B], 300, ANSWER))
        redis.start()
        await works(store)
        assert world.reports[-1] == ("store", None)
        await until(lambda: redis.ask("EXISTS", LEASE_A, "netstack:lease:2001:db8::1") == "2")
        await until(lambda: redis.ask("ZRANGE", "netstack:name:b.example", "0", "-1") == "198.18.0.1")
        assert 290_000 < int(redis.ask("PTTL", LEASE_A)) <= 300_000
        other = await world.open()
        assert set((await other.find(A)).names) == {"a.example", "b.example"}

    run(story)


def test_restarted_while_nothing_was_said_nobody_notices(run, redis) -> None:
    async def story(world: World) -> None:
        store = await world.open()
        await store.learn("a.example", [A], 300, ANSWER)
        redis.kill()
        redis.start()
        await store.learn("b.example", [B], 300, ANSWER)
        assert world.troubles("store") == []
        await until(lambda: redis.ask("EXISTS", LEASE_A) == "1")

    run(story)


def test_everything_deleted_by_somebody_scripts_included(run, redis) -> None:
    async def story(world: World) -> None:
        store = await world.open()
        await store.learn("a.example", [A], 300, ANSWER)
        redis.ask("FLUSHALL")
        redis.ask("SCRIPT", "FLUSH")
        await store.learn("b.example", [B], 300, ANSWER)
        assert redis.ask("EXISTS", "netstack:lease:198.18.0.2") == "1"
        assert store.live(A) is not None
        assert world.troubles("store") == []

    run(story)


def test_silent_it_counts_as_down_in_time_and_everybody_who_waits_is_told(run, redis) -> None:
    async def story(world: World) -> None:
        store = await world.open()
        await store.learn("www.example", [A], 300, ANSWER)
        redis.pause()
        try:
            learned = (fails(store.learn(f"{n}.example", [B], 300, ANSWER)) for n in range(100))
            await asyncio.gather(*learned, fails(store.find(B)))
            assert await fails(store.learn("late.example", [B], 300, ANSWER)) < 0.5, "it is known to be down by now"
            assert store.live(A) is not None
            assert world.troubles("store")[0].endswith("redis.sock cannot be reached: no answer within 0.7 s")
        finally:
            redis.resume()
        await works(store)

    run(story)


def test_a_place_that_never_answers_does_not_hold_up_the_start(run, silent: str) -> None:
    async def story(world: World) -> None:
        before = world.clock()
        store = await world.open(silent)
        assert world.clock() - before < 2
        await fails(store.learn("www.example", [A], 300, ANSWER))
        assert "silent.sock cannot be reached" in world.troubles("store")[0]

    run(story)


def test_not_there_at_the_start_it_is_used_as_soon_as_it_is(run, redis) -> None:
    async def story(world: World) -> None:
        redis.kill()
        store = await world.open()
        assert len(world.troubles("store")) == 1
        await fails(store.learn("www.example", [A], 300, ANSWER))
        redis.start()
        await works(store)
        assert world.reports[-1] == ("store", None)

    run(story)


def test_what_is_revoked_while_redis_is_away_stays_revoked(run, redis) -> None:
    async def story(world: World) -> None:
        store = await world.open()
        await store.learn("www.example", [A, B], 300, ANSWER)
        redis.pause()
        try:
            await fails(store.find(C))
            assert set(await store.revoke("www.example")) == {A, B}
            assert store.live(A) is None
        finally:
            redis.resume()
        await works(store)
        assert await store.find(A) is None
        assert redis.ask("EXISTS", LEASE_A) == "0"

    run(story)


def test_full_it_confirms_nothing_and_says_why_until_there_is_room(run, redis) -> None:
    async def story(world: World) -> None:
        store = await world.open()
        await store.learn("www.example", [A], 300, ANSWER)
        redis.ask("CONFIG", "SET", "maxmemory", "1")
        for _ in range(3):
            await fails(store.learn("new.example", [B], 300, ANSWER))
        assert store.live(B) is None
        assert await store.find(A) is not None
        # What needs no room succeeds, and says nothing about whether there is any.
        assert await store.touch([A], 1) == []
        assert world.reports[-1][1] is not None
        assert len(world.troubles("store-writes")) == 1
        assert "maxmemory" in world.troubles("store-writes")[0]
        assert world.troubles("store") == []
        assert await store.revoke("www.example") == [A]
        redis.ask("CONFIG", "SET", "maxmemory", "0")
        await store.learn("new.example", [B], 300, ANSWER)
        assert world.reports[-1] == ("store-writes", None)

    run(story)


def test_a_replica_that_takes_no_writes_confirms_nothing(run, redis) -> None:
    async def story(world: World) -> None:
        store = await world.open()
        redis.ask("REPLICAOF", "127.0.0.1", "1")
        await fails(store.learn("www.example", [A], 300, ANSWER))
        redis.ask("REPLICAOF", "NO", "ONE")
        await works(store)

    run(story)


@pytest.mark.parametrize(
    "value",
    ["", "text", "null", "[]", "{}", '{"names": "www.example"}', '{"names": [1]}', '{"names": []}', "\xff\xfe"],
)
def test_values_that_are_not_ours_are_no_leases_and_are_replaced(run, redis, value: str) -> None:
    async def story(world: World) -> None:
        redis.ask("SET", LEASE_A, value, "PX", "300000")
        store = await world.open()
        assert await store.find(A) is None
        assert await store.touch([A], 600) == []
        await store.learn("www.example", [A], 300, ANSWER)
        assert (await store.find(A)).names == ("www.example",)

    run(story)


def test_a_key_of_another_type_is_an_error_for_that_address_only(run, redis) -> None:
    async def story(world: World) -> None:
        redis.ask("LPUSH", LEASE_A, "what is this")
        redis.ask("SET", "netstack:lease:no address", "{}")
        store = await world.open()
        await fails(store.learn("www.example", [A], 300, ANSWER))
        await store.learn("www.example", [B], 300, ANSWER)
        assert await store.find(B) is not None
        assert world.troubles("store") == []

    run(story)


def test_a_lease_that_somebody_made_endless_is_not_shortened(run, redis) -> None:
    async def story(world: World) -> None:
        store = await world.open()
        await store.learn("www.example", [A], 300, ANSWER)
        redis.ask("PERSIST", LEASE_A)
        await store.learn("www.example", [A], 300, ANSWER)
        assert redis.ask("PTTL", LEASE_A) == "-1"
        other = await world.open()
        assert (await other.find(A)).names == ("www.example",)

    run(story)


def test_a_mirror_that_is_full_asks_redis(run) -> None:
    async def story(world: World) -> None:
        store = await world.open()
        store.leases = Leases(max_addresses=1)
        await store.learn("a.example", [A], 300, ANSWER)
        await store.learn("b.example", [B], 300, ANSWER)
        assert store.live(B) is None
        found = await store.find(B)
        assert (found.names, found.until > world.clock() + 299) == (("b.example",), True)

    run(story)


def test_a_password_that_is_wrong_is_a_trouble_that_does_not_show_it(run, redis) -> None:
    async def story(world: World) -> None:
        redis.ask("CONFIG", "SET", "requirepass", "right")
        store = await world.open(f"unix://:wrong-secret@{redis.path}")
        await fails(store.learn("www.example", [A], 300, ANSWER))
        assert "redis.sock cannot be reached" in world.troubles("store")[0]
        assert "secret" not in str(world.reports)
        right = await world.open(f"unix://:right@{redis.path}")
        await right.learn("www.example", [A], 300, ANSWER)

    run(story)


def test_databases_are_apart(run, redis) -> None:
    async def story(world: World) -> None:
        first, second = await world.open(f"{redis.url}?db=1"), await world.open(f"{redis.url}?db=2")
        await first.learn("www.example", [A], 300, ANSWER)
        assert await second.find(A) is None
        assert redis.ask("-n", "1", "EXISTS", LEASE_A) == "1"

    run(story)
