"""What every store does, the embedded one and the one in a real Redis alike."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from services.tracker.leases import MAX_NAMES, MAX_SIBLINGS, Lease, Origin
from services.tracker.memory import MemoryStore
from services.tracker.redis_server import RedisServer
from services.tracker.redis_store import RedisStore
from services.tracker.store import Store

WITHIN = 10.0  # seconds for one story
A, B, C, D = (bytes([198, 18, 0, n]) for n in (1, 2, 3, 4))
V6 = bytes.fromhex("20010db8000000000000000000000001")
CLIENT, OTHER_CLIENT = bytes([10, 0, 0, 2]), bytes.fromhex("fd000000000000000000000000000003")
ANSWER = Origin("answer", CLIENT, ("cdn.example", "edge.example"), 1.7e9)

Story = Callable[[Store], Awaitable[None]]


@pytest.fixture(params=["memory", "redis"])
def run(request: pytest.FixtureRequest) -> Callable[[Story], None]:
    """Runs a story with an open store."""

    def report(subject: str, trouble: str | None) -> None:
        assert trouble is None, f"{subject}: {trouble}"

    async def main(story: Story) -> None:
        clock = asyncio.get_running_loop().time
        if request.param == "memory":
            store: Store = MemoryStore(clock)
        else:
            store = RedisStore(RedisServer(request.getfixturevalue("redis").url), clock, report)
        await store.open()
        try:
            await asyncio.wait_for(story(store), WITHIN)
        finally:
            await store.close()

    return lambda story: asyncio.run(main(story))


def left(lease: Lease | None) -> float:
    """Seconds until a lease ends."""
    assert lease is not None
    return lease.until - asyncio.get_running_loop().time()


async def ended(store: Store, address: bytes) -> None:
    while store.live(address) is not None or await store.find(address) is not None:
        await asyncio.sleep(0.005)


def test_an_address_that_was_never_an_answer_has_no_lease(run) -> None:
    async def story(store: Store) -> None:
        assert store.live(A) is None
        assert await store.find(A) is None

    run(story)


def test_what_was_learned_is_live_when_that_is_confirmed(run) -> None:
    async def story(store: Store) -> None:
        await store.learn("www.example", [A, V6], 300, ANSWER)
        for address in (A, V6):
            lease = store.live(address)
            assert 299 < left(lease) <= 300
            assert (lease.names, lease.origin) == (("www.example",), ANSWER)
            found = await store.find(address)
            assert 299 < left(found) <= 300
            assert (found.names, found.origin) == (("www.example",), ANSWER)

    run(story)


@pytest.mark.parametrize(("first", "second"), [(3600, 300), (300, 3600)], ids=["is not shortened", "is lengthened"])
def test_a_lease_after_a_later_answer(run, first: int, second: int) -> None:
    async def story(store: Store) -> None:
        await store.learn("www.example", [A], first, ANSWER)
        await store.learn("www.example", [A], second, ANSWER)
        assert 3599 < left(store.live(A)) <= 3600
        assert 3599 < left(await store.find(A)) <= 3600

    run(story)


def test_a_lease_ends(run) -> None:
    async def story(store: Store) -> None:
        await store.learn("www.example", [A], 0.05, ANSWER)
        await store.learn("www.example", [B], 300, ANSWER)
        await ended(store, A)
        assert store.live(B) is not None
        assert await store.touch([A], 300) == []

    run(story)


def test_names_that_share_an_address_are_all_known(run) -> None:
    async def story(store: Store) -> None:
        for name in ("a.example", "b.example", "a.example"):
            await store.learn(name, [A], 300, ANSWER)
        assert (await store.find(A)).names == ("b.example", "a.example")

    run(story)


def test_an_address_keeps_its_newest_names(run) -> None:
    async def story(store: Store) -> None:
        names = [f"{number}.example" for number in range(MAX_NAMES + 3)]
        for name in names:
            await store.learn(name, [A], 300, ANSWER)
        assert (await store.find(A)).names == tuple(names[3:])

    run(story)


def test_touch_extends_the_siblings_with_the_address(run) -> None:
    async def story(store: Store) -> None:
        await store.learn("www.example", [A, B], 300, ANSWER)
        await store.learn("shared.example", [B, C], 300, ANSWER)
        await store.learn("other.example", [D], 300, ANSWER)
        assert set(await store.touch([B], 600)) == {A, B, C}
        for address in (A, B, C):
            assert 599 < left(store.live(address)) <= 600
            assert 599 < left(await store.find(address)) <= 600
        assert left(await store.find(D)) <= 300

    run(story)


def test_touch_shortens_nothing_and_makes_no_leases(run) -> None:
    async def story(store: Store) -> None:
        await store.learn("www.example", [A], 3600, ANSWER)
        assert await store.touch([A, B], 300) == []
        assert left(await store.find(A)) > 3599
        assert await store.find(B) is None

    run(story)


def test_touch_wakes_no_sibling_whose_lease_has_ended(run) -> None:
    async def story(store: Store) -> None:
        await store.learn("www.example", [A], 0.05, ANSWER)
        await store.learn("www.example", [B], 300, ANSWER)
        await ended(store, A)
        assert await store.touch([B], 600) == [B]
        assert await store.find(A) is None

    run(story)


@pytest.mark.parametrize(
    ("target", "gone"),
    [("a.example", {A, B}), (A, {A}), (V6, {V6}), ("b.example", {B, V6}), ("nobody.example", set()), (D, set())],
    ids=["a name", "an address", "an IPv6 address", "a name that shares an address", "no such name", "no such address"],
)
def test_revoke(run, target: str | bytes, gone: set[bytes]) -> None:
    async def story(store: Store) -> None:
        await store.learn("a.example", [A, B], 300, ANSWER)
        await store.learn("b.example", [B, V6], 300, ANSWER)
        assert set(await store.revoke(target)) == gone
        for address in (A, B, V6):
            assert (store.live(address) is None) is (address in gone)
            assert (await store.find(address) is None) is (address in gone)
        assert await store.revoke(target) == []

    run(story)


def test_what_was_revoked_may_be_learned_again_and_is_nobodys_sibling_before(run) -> None:
    async def story(store: Store) -> None:
        await store.learn("www.example", [A, B], 300, ANSWER)
        await store.revoke(A)
        await store.learn("other.example", [A], 300, ANSWER)
        assert set(await store.touch([B], 600)) == {B}
        assert (await store.find(A)).names == ("other.example",)

    run(story)


def test_as_many_addresses_as_a_message_holds_in_one_go(run) -> None:
    async def story(store: Store) -> None:
        addresses = [bytes([198, 19, *number.to_bytes(2, "big")]) for number in range(4000)]
        await store.learn("many.example", addresses, 300, ANSWER)
        assert all(store.live(address) for address in addresses)
        assert await store.find(addresses[-1]) is not None
        assert set(await store.touch(addresses[:1], 600)) == set(addresses)

    run(story)


def test_a_name_keeps_no_more_addresses_together_than_that(run) -> None:
    async def story(store: Store) -> None:
        addresses = [bytes([198, 19, *number.to_bytes(2, "big")]) for number in range(MAX_SIBLINGS + 100)]
        for at in range(0, len(addresses), 1024):
            await store.learn("many.example", addresses[at : at + 1024], 300, ANSWER)
        assert len(await store.touch(addresses[-1:], 600)) == MAX_SIBLINGS

    run(story)


def test_many_at_once(run) -> None:
    async def story(store: Store) -> None:
        addresses = [bytes([198, 19, *number.to_bytes(2, "big")]) for number in range(1000)]
        learned = (store.learn(f"{n}.example", [address], 300, ANSWER) for n, address in enumerate(addresses))
        await asyncio.gather(*learned)
        assert all(await asyncio.gather(*map(store.find, addresses)))
        assert store.leases.name_count == 1000

    run(story)


def test_what_is_revoked_while_others_learn_and_find_stays_revoked(run) -> None:
    async def story(store: Store) -> None:
        await store.learn("www.example", [A], 300, ANSWER)
        for _ in range(20):
            await asyncio.gather(
                store.find(A), store.revoke("www.example"), store.learn("other.example", [B], 300, ANSWER)
            )
            assert store.live(A) is None
            assert await store.find(A) is None
            await store.learn("www.example", [A], 300, ANSWER)

    run(story)


@pytest.mark.parametrize(
    "name", ["", "ünï.example", 'quote".example', "back\\046slash.example", "a b\n.example", "x" * 1000]
)
def test_any_text_is_a_name(run, name: str) -> None:
    async def story(store: Store) -> None:
        await store.learn(name, [A, B], 300, ANSWER)
        assert (await store.find(A)).names == (name,)
        assert set(await store.touch([A], 600)) == {A, B}
        assert set(await store.revoke(name)) == {A, B}

    run(story)


def test_where_each_client_asks_for_itself_an_address_is_open_for_those_who_did(run) -> None:
    async def story(store: Store) -> None:
        now = asyncio.get_running_loop().time
        alone = ANSWER._replace(alone=True)
        await store.learn("www.example", [A], 300, alone)
        await store.learn("www.example", [A], 0.2, alone._replace(client=OTHER_CLIENT))
        for lease in (store.live(A), await store.find(A)):
            assert 299 < lease.until_for(CLIENT) - now() <= 300
            assert 0 < lease.until_for(OTHER_CLIENT) - now() <= 0.3
            assert lease.until_for(bytes([10, 0, 0, 9])) == 0.0
        while store.live(A).until_for(OTHER_CLIENT) > now():
            await asyncio.sleep(0.01)
        assert await store.touch([A], 600) == [A]
        for lease in (store.live(A), await store.find(A)):
            assert lease.until_for(CLIENT) - now() > 590
            assert lease.until_for(OTHER_CLIENT) <= now(), "what has ended is not woken"

    run(story)


def test_what_is_open_for_all_is_not_closed_for_some_by_one_who_asks_for_itself(run) -> None:
    async def story(store: Store) -> None:
        await store.learn("www.example", [A], 300, ANSWER)
        await store.learn("www.example", [A], 300, ANSWER._replace(alone=True))
        assert (await store.find(A)).until_for(OTHER_CLIENT) > 0

    run(story)
