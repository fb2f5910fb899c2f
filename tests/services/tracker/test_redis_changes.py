"""Several trackers on one real Redis: what one does, the others know within 100 ms, and never otherwise."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import pytest

from services.tracker.leases import Origin
from services.tracker.redis_changes import RedisChanges
from services.tracker.redis_server import RedisServer
from services.tracker.redis_store import RedisStore
from services.tracker.store import StoreDownError, Watcher
from tests.services.tracker.stores import World

WITHIN = 20.0  # seconds for one story
A, B, C = (bytes([198, 18, 0, n]) for n in (1, 2, 3))
CLIENT = bytes([10, 0, 0, 2])
ANSWER = Origin("answer", CLIENT, ("cdn.example",), 1.7e9)
CHANNEL = "netstack:changes"


class Watched:
    """What a tracker's shell is told."""

    def __init__(self, store: RedisStore) -> None:
        self.leased: list[tuple[list[bytes], float]] = []
        self.revoked: list[list[bytes]] = []
        store.watcher = Watcher(self._leased, self._revoked, lambda said: None)

    def _leased(self, addresses: Sequence[bytes], seconds: float) -> None:
        self.leased.append((list(addresses), seconds))

    def _revoked(self, addresses: Sequence[bytes]) -> None:
        self.revoked.append(list(addresses))


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


async def two(world: World, redis) -> tuple[RedisStore, RedisStore, Watched]:
    """Two stores that hear of each other; and what the second one's tracker is told."""
    first, second = await world.open(), await world.open()
    watched = Watched(second)
    await until(lambda: redis.ask("PUBSUB", "NUMSUB", CHANNEL).split()[1] == "2")
    await asyncio.sleep(0.05)  # both have compared what they know
    return first, second, watched


def test_what_one_leases_the_other_knows_soon_and_with_its_origin(run, redis) -> None:
    async def story(world: World) -> None:
        first, second, watched = await two(world, redis)
        took = []
        for n in range(20):
            address = bytes([198, 18, 1, n])
            await first.learn("www.example", [address], 300, ANSWER)
            before = world.clock()
            await until(lambda address=address: second.live(address))
            took.append(world.clock() - before)
        assert sorted(took)[len(took) // 2] < 0.1
        lease = second.live(bytes([198, 18, 1, 0]))
        assert (lease.names, lease.origin) == (("www.example",), ANSWER)
        assert watched.leased[0] == ([bytes([198, 18, 1, 0])], 300.0)
        assert watched.revoked == []

    run(story)


def test_what_one_revokes_is_closed_at_the_other_soon_and_its_flows_are_cut(run, redis) -> None:
    async def story(world: World) -> None:
        first, second, watched = await two(world, redis)
        took = []
        for n in range(20):
            await second.learn("www.example", [A, B], 300, ANSWER)
            await first.revoke("www.example" if n % 2 else A)
            before = world.clock()
            await until(lambda: second.live(A) is None)
            took.append(world.clock() - before)
        assert sorted(took)[len(took) // 2] < 0.1
        assert {address for revoked in watched.revoked for address in revoked} == {A, B}
        assert second.live(B) is None

    run(story)


def test_an_address_without_a_lease_is_told_too_since_a_flow_may_have_outlived_it(run, redis) -> None:
    async def story(world: World) -> None:
        first, _, watched = await two(world, redis)
        await first.revoke(C)
        await until(lambda: watched.revoked == [[C]])

    run(story)


def test_what_one_extends_is_longer_at_the_other_and_never_shorter(run, redis) -> None:
    async def story(world: World) -> None:
        first, second, watched = await two(world, redis)
        await first.learn("www.example", [A, B], 300, ANSWER)
        await second.learn("www.example", [C], 3600, ANSWER)
        await until(lambda: second.live(A) and first.live(C))
        await first.touch([A], 600)
        await until(lambda: world.left(second, A) > 590 and world.left(second, B) > 590)
        assert world.left(second, C) > 3590
        await first.learn("www.example", [C], 300, ANSWER)
        await until(lambda: [C] in [addresses for addresses, _ in watched.leased])
        assert world.left(second, C) > 3590
        assert int(redis.ask("PTTL", "netstack:lease:198.18.0.3")) > 3_590_000

    run(story)


def test_what_a_tracker_says_itself_is_no_news_to_it(run, redis) -> None:
    async def story(world: World) -> None:
        _, second, watched = await two(world, redis)
        for _ in range(10):
            await second.learn("www.example", [A], 300, ANSWER)
            await second.revoke("www.example")
            await second.learn("www.example", [A], 300, ANSWER)
            assert second.live(A) is not None
        await asyncio.sleep(0.1)
        assert second.live(A) is not None
        assert (watched.leased, watched.revoked) == ([], [])

    run(story)


def test_two_that_learn_and_revoke_at_once_agree_with_redis_in_the_end(run, redis) -> None:
    async def story(world: World) -> None:
        first, second, _ = await two(world, redis)
        for turn in range(30):
            await asyncio.gather(
                first.learn("www.example", [A], 300, ANSWER),
                second.revoke("www.example" if turn % 2 else A),
                first.find(A),
                second.touch([A], 300),
                second.learn("other.example", [B], 300, ANSWER),
                first.revoke(B),
            )
            await asyncio.sleep(0.03)
            for address, key in ((A, "netstack:lease:198.18.0.1"), (B, "netstack:lease:198.18.0.2")):
                if redis.ask("EXISTS", key) == "0":
                    assert first.live(address) is None, "nothing stays open that Redis does not hold"
                    assert second.live(address) is None

    run(story)


def test_what_was_revoked_while_one_could_not_hear_it_is_closed_when_it_can_again(run, redis) -> None:
    async def story(world: World) -> None:
        first, second, watched = await two(world, redis)
        await first.learn("www.example", [A, B], 300, ANSWER)
        await until(lambda: second.live(B))
        second._changes.stop()  # it hears nothing more, and does not know that
        for task in list(second._tasks):
            task.cancel()
        await asyncio.sleep(0.05)
        await first.revoke(A)
        await first.learn("new.example", [C], 300, ANSWER)
        assert second.live(A) is not None
        second._changes = RedisChanges(RedisServer(world.url), second._subscribed, second._changed)
        second._link._stopping = False
        second._spawn(second._link.serve())
        second._spawn(second._changes.serve())
        await until(lambda: second.live(A) is None and second.live(C) is not None)
        assert watched.revoked == [[A]]
        assert second.live(B) is not None
        assert redis.ask("EXISTS", "netstack:lease:198.18.0.1") == "0", "it was not written again"

    run(story)


def test_restarted_empty_what_each_knows_is_written_again_and_known_to_both(run, redis) -> None:
    async def story(world: World) -> None:
        first, second, watched = await two(world, redis)
        await first.learn("a.example", [A], 300, ANSWER)
        await until(lambda: second.live(A))
        redis.kill()
        redis.start()
        await until(lambda: redis.ask("EXISTS", "netstack:lease:198.18.0.1") == "1")
        while True:
            try:
                await second.learn("b.example", [B], 300, ANSWER)
                break
            except StoreDownError:
                await asyncio.sleep(0.01)
        await until(lambda: first.live(B))
        assert watched.revoked == []
        assert second.live(A) is not None

    run(story)


def test_trackers_with_another_prefix_have_nothing_to_do_with_each_other(run, redis) -> None:
    async def story(world: World) -> None:
        first, second = await world.open(), await world.open(prefix="other:")
        await first.learn("www.example", [A], 300, ANSWER)
        await second.learn("www.example", [B], 300, ANSWER)
        assert await second.find(A) is None
        assert await first.find(B) is None
        await second.revoke(A)
        assert await first.find(A) is not None
        keys = redis.ask("KEYS", "*").split()
        assert "other:lease:198.18.0.2" in keys
        assert {key.partition(":")[0] for key in keys} == {"netstack", "other"}

    run(story)


@pytest.mark.parametrize(
    "published",
    ["", "text", "[]", "{}", '["learned"]', '["learned", "x", 300000, "198.18.0.1"]', '["revoked", "x", "y", 7]',
     '["learned", "x", "many", "198.18.0.1", "{}"]', '["more", "x", 1]', '["learned", "x", 300000, 1, 2]'],
)  # fmt: skip
def test_what_no_tracker_published_changes_nothing(run, redis, published: str) -> None:
    async def story(world: World) -> None:
        first, second, watched = await two(world, redis)
        redis.ask("PUBLISH", CHANNEL, published)
        await first.learn("www.example", [B], 300, ANSWER)
        await until(lambda: second.live(B))
        assert len(second.leases) == 1
        assert watched.revoked == []

    run(story)


def test_a_lease_for_one_client_is_one_at_the_other_tracker_too(run, redis) -> None:
    async def story(world: World) -> None:
        first, second, _ = await two(world, redis)
        other = bytes([10, 0, 0, 3])
        await first.learn("www.example", [A], 300, ANSWER._replace(alone=True))
        await until(lambda: second.live(A))
        lease = second.live(A)
        assert (lease.until_for(CLIENT) > world.clock(), lease.until_for(other)) == (True, 0.0)
        await second.learn("www.example", [A], 600, ANSWER._replace(client=other, alone=True))
        await until(lambda: first.live(A).until_for(other) > 0)
        assert first.live(A).until_for(other) - world.clock() > 590
        assert first.live(A).until_for(CLIENT) - world.clock() < 301

    run(story)
