"""The connection to Redis: order, batches, and what happens to those who wait."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from services.tracker.redis_link import _BACKOFF, _MAX_WAITING, RedisLink
from services.tracker.redis_server import RedisServer
from services.tracker.store import StoreDownError

WITHIN = 20.0  # seconds for one story

Story = Callable[[RedisLink], Awaitable[None]]


async def tell(url: str, story: Story, troubles: list[str | None] | None = None) -> None:
    link = RedisLink(
        RedisServer(url), on_connected=lambda: None, on_trouble=(troubles if troubles is not None else []).append
    )
    await link.open()
    serving = asyncio.ensure_future(link.serve())
    try:
        await asyncio.wait_for(story(link), WITHIN)
    finally:
        link.stop()
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
        await link.close()


def test_operations_are_done_in_the_order_of_submission(redis) -> None:
    async def story(link: RedisLink) -> None:
        answers = [link.submit("INCR", "count") for _ in range(2000)]
        assert await asyncio.gather(*answers) == list(range(1, 2001))

    asyncio.run(tell(redis.url, story))


def test_a_burst_takes_few_round_trips(redis) -> None:
    async def story(link: RedisLink) -> None:
        first = link.submit("INFO", "stats")
        burst = [link.submit("PING") for _ in range(500)]
        last = link.submit("INFO", "stats")
        before, after = await first, await last
        await asyncio.gather(*burst)
        assert after["total_reads_processed"] - before["total_reads_processed"] <= 4

    asyncio.run(tell(redis.url, story))


def test_an_error_is_that_of_one_operation_only(redis) -> None:
    async def story(link: RedisLink) -> None:
        good, bad, other = link.submit("SET", "a", 1), link.submit("LPUSH", "a", 1), link.submit("GET", "a")
        assert await good
        with pytest.raises(StoreDownError, match="refuses: WRONGTYPE"):
            await bad
        assert await other == b"1"
        assert link.up

    asyncio.run(tell(redis.url, story))


def test_who_gave_up_is_left_alone(redis) -> None:
    async def story(link: RedisLink) -> None:
        redis.pause()
        sent, queued = link.submit("SET", "a", 1), link.submit("SET", "b", 1)
        await asyncio.sleep(0)
        sent.cancel()
        queued.cancel()
        redis.resume()
        assert await link.submit("PING")

    asyncio.run(tell(redis.url, story))


def test_while_it_is_down_everything_fails_at_once(redis) -> None:
    async def story(link: RedisLink) -> None:
        redis.kill()
        with pytest.raises(StoreDownError):
            await link.submit("PING")
        assert not link.up
        refused = link.submit("PING")
        assert refused.done()
        with pytest.raises(StoreDownError, match="cannot be reached"):
            await refused

    asyncio.run(tell(redis.url, story))


def test_an_idle_connection_is_looked_at(redis) -> None:
    troubles: list[str | None] = []

    async def story(link: RedisLink) -> None:
        redis.kill()
        while link.up:
            await asyncio.sleep(0.01)
        redis.start()
        while not link.up:
            await asyncio.sleep(0.01)

    asyncio.run(tell(redis.url, story, troubles))
    assert troubles[0] is None
    assert "cannot be reached" in str(troubles[1])
    assert troubles[-1] is None


def test_it_is_tried_again_and_again_but_not_all_the_time(redis) -> None:
    troubles: list[str | None] = []

    async def story(link: RedisLink) -> None:
        before = asyncio.get_running_loop().time()
        while len(troubles) < 5:
            await asyncio.sleep(0.01)
        took = asyncio.get_running_loop().time() - before
        assert took + 0.05 >= 0.1 + 0.2 + 0.4

    redis.kill()
    asyncio.run(tell(redis.url, story, troubles))
    assert _BACKOFF == (0.1, 2.0)


def test_no_more_than_so_many_wait(redis) -> None:
    async def story(link: RedisLink) -> None:
        waiting = [link.submit("PING") for _ in range(_MAX_WAITING)]
        with pytest.raises(StoreDownError, match="operations wait"):
            await link.submit("PING")
        assert all(await asyncio.gather(*waiting))

    asyncio.run(tell(redis.url, story))


@pytest.mark.parametrize("turns", range(12))
def test_it_ends_at_whatever_moment_it_is_told_to(redis, turns: int) -> None:
    async def main() -> None:
        link = RedisLink(RedisServer(redis.url), on_connected=lambda: None, on_trouble=lambda trouble: None)
        await link.open()
        serving = asyncio.ensure_future(link.serve())
        answer = link.submit("PING")
        for _ in range(turns):
            await asyncio.sleep(0)
        link.stop()
        serving.cancel()
        done, _ = await asyncio.wait([serving], timeout=5)
        assert done
        await link.close()
        assert answer.done()
        await asyncio.gather(answer, return_exceptions=True)

    asyncio.run(main())
