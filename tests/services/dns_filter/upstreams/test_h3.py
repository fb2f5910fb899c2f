"""DNS over HTTP/3 to an upstream, by a server of aioquic's. What all of QUIC has in common: test_quic.py."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from services.dns_filter.upstreams.h3 import H3Transport
from services.dns_filter.upstreams.upstream import UpstreamError
from tests.services.dns_filter.messages import query, read, respond, texts
from tests.services.dns_filter.servers import Respond, silent
from tests.services.dns_filter.upstreams.certificates import NAME, Authority
from tests.services.dns_filter.upstreams.quic_servers import Resolver, quic_server
from tests.services.dns_filter.upstreams.test_quic import until

WITHIN = 5.0  # seconds
RECORD = "www.example.com. 60 A 198.18.1.1"


def echo_name(asked: bytes) -> list[bytes]:
    return [respond(asked, f"{read(asked).question[0].name} 60 A 198.18.1.1")]


@asynccontextmanager
async def world(
    respond: Respond, authority: Authority, *, name: str = NAME, headers: dict[str, str] | None = None
) -> AsyncIterator[tuple[Resolver, H3Transport]]:
    async with quic_server(respond, authority.issue(name), alpn="h3") as (resolver, port):
        url = f"h3://{NAME}:{port}/dns-query"
        transport = H3Transport(url, ["127.0.0.1"], str(authority.path), lambda: None, headers)
        try:
            yield resolver, transport
        finally:
            await transport.close()


def test_questions_share_one_connection(authority: Authority) -> None:
    async def main() -> None:
        async with world(echo_name, authority, headers={"x-cd-host": "laptop"}) as (resolver, transport):
            await transport.prepare()
            got = await asyncio.gather(*(transport.ask(query(f"n{index}.test."), WITHIN) for index in range(200)))
            assert [texts(octets) for octets in got] == [[f"n{index}.test. 60 A 198.18.1.1"] for index in range(200)]
            assert len(resolver.connections) == 1
            sent = resolver.headers[0]
            assert sent[b":method"] == b"POST"
            assert sent[b":path"] == b"/dns-query"
            assert sent[b":authority"].startswith(NAME.encode())
            assert sent[b"content-type"] == sent[b"accept"] == b"application/dns-message"
            assert sent[b"content-length"] == b"128"
            assert sent[b"x-cd-host"] == b"laptop"
            assert {read(asked).id for asked in resolver.asked} == {0}

    asyncio.run(main())


def test_large_answer_is_whole(authority: Authority) -> None:
    async def main() -> None:
        records = [f"www.example.com. 60 TXT {index}-{'x' * 200}" for index in range(250)]
        async with world(lambda asked: [respond(asked, *records)], authority) as (_, transport):
            assert len(texts(await transport.ask(query(rtype="TXT"), WITHIN))) == 250

    asyncio.run(main())


def test_certificate_is_checked_against_the_name(authority: Authority) -> None:
    async def main() -> None:
        async with world(echo_name, authority, name="other.test") as (resolver, transport):
            with pytest.raises(UpstreamError, match=r"its certificate is not valid: hostname 'dns\.test'"):
                await transport.ask(query(), WITHIN)
            assert resolver.asked == []

    asyncio.run(main())


@pytest.mark.parametrize(
    ("status", "media_type", "raw", "says"),
    [
        (b"503", b"application/dns-message", b"", "HTTP status 503"),
        (b"302", b"text/html", b"<html>", "HTTP status 302"),
        (b"200", b"text/html", b"<html>", "no DNS message"),
        (b"200", b"application/dns-message", b"hello", "another question"),
        (b"200", b"application/dns-message", b"", "another question"),
        (b"200", b"application/dns-message", bytes(70000), "more than 65535 octets"),
    ],
    ids=["an error", "another place", "a page", "no answer to the question", "nothing", "too much"],
)
def test_what_is_no_answer(authority: Authority, status: bytes, media_type: bytes, raw: bytes, says: str) -> None:
    async def main() -> None:
        async with world(echo_name, authority) as (resolver, transport):
            resolver.status, resolver.media_type, resolver.raw = status, media_type, raw
            with pytest.raises(UpstreamError, match=says) as caught:
                await transport.ask(query(), WITHIN)
            assert not caught.value.silent
            resolver.status, resolver.media_type, resolver.raw = b"200", b"application/dns-message", None
            assert texts(await transport.ask(query(), WITHIN)) == [RECORD], "the connection goes on"
            assert len(resolver.connections) == 1

    asyncio.run(main())


def test_question_that_waits_no_longer_is_cancelled(authority: Authority) -> None:
    async def main() -> None:
        async with world(silent, authority) as (resolver, transport):
            with pytest.raises(UpstreamError, match="no answer within") as caught:
                await transport.ask(query(), 0.5)
            assert caught.value.silent
            await until(lambda: resolver.cancelled)
            assert resolver.cancelled == [0x10C]

    asyncio.run(main())
