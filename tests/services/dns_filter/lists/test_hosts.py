"""The addresses of a list's host."""

import asyncio

import pytest

from services.dns_filter.lists.fetch import FetchError
from services.dns_filter.lists.hosts import addresses
from services.dns_filter.query import Query, emit_upstream
from services.dns_filter.upstreams.pool import Pool
from services.dns_filter.upstreams.upstream import UpstreamError
from tests.services.dns_filter.messages import policy, respond


class Upstream:
    label = "udp://test"

    def __init__(self, *records: str) -> None:
        self.records = records
        self.asked: list[str] = []

    async def ask(self, query: Query, _: float) -> bytes:
        self.asked.append(str(query))
        if not self.records:
            raise UpstreamError("Connection refused")
        rtype = str(query).split()[1]
        return respond(emit_upstream(query, 1), *(record for record in self.records if record.split()[2] == rtype))

    async def prepare(self) -> None:
        pass

    async def close(self) -> None:
        pass


def test_our_upstream_is_asked_for_both_families() -> None:
    upstream = Upstream("lists.example. 60 A 198.18.1.1", "lists.example. 60 AAAA 2001:db8::1")
    found = asyncio.run(addresses(Pool([upstream], policy()), "Lists.Example"))
    assert found == ["198.18.1.1", "2001:db8::1"]
    assert upstream.asked == ["lists.example A", "lists.example AAAA"]


def test_private_address_is_not_fetched_from() -> None:
    upstream = Upstream("lists.example. 60 A 10.0.0.1")
    with pytest.raises(FetchError, match="no address that may be used"):
        asyncio.run(addresses(Pool([upstream], policy()), "lists.example"))
    assert asyncio.run(addresses(Pool([upstream], policy(private=("lists.example",))), "lists.example")) == ["10.0.0.1"]


def test_upstream_that_does_not_answer_is_named() -> None:
    with pytest.raises(FetchError, match="cannot be resolved: udp://test: Connection refused"):
        asyncio.run(addresses(Pool([Upstream()], policy()), "lists.example"))
