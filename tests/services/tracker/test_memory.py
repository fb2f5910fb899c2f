"""The embedded store: what is its own beside what every store does (test_store.py)."""

import asyncio

import pytest

from services.tracker.leases import MAX_ADDRESSES, NOWHERE, Leases, LeasesFullError
from services.tracker.memory import MemoryStore


def test_it_knows_everything_that_anybody_knows() -> None:
    store = MemoryStore(lambda: 0.0)
    assert store.complete
    assert len(store.leases) == 0


def test_a_full_table_is_an_error_to_the_one_who_learns() -> None:
    store = MemoryStore(lambda: 0.0)
    store.leases = Leases(max_addresses=1)

    async def story() -> None:
        await store.learn("a.example", [b"\xc6\x12\x00\x01"], 300, NOWHERE)
        with pytest.raises(LeasesFullError):
            await store.learn("b.example", [b"\xc6\x12\x00\x02"], 300, NOWHERE)

    asyncio.run(story())


def test_the_table_is_bounded() -> None:
    assert MAX_ADDRESSES == 1_000_000
