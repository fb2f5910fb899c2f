"""DNS over QUIC to an upstream, by a server of aioquic's."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from services.dns_filter.framing import frame
from services.dns_filter.query import emit_upstream
from services.dns_filter.upstreams.quic import QuicTransport
from services.dns_filter.upstreams.upstream import UpstreamError
from tests.services.dns_filter.messages import query, read, respond, texts
from tests.services.dns_filter.servers import silent, udp_server
from tests.services.dns_filter.upstreams.certificates import NAME, Authority
from tests.services.dns_filter.upstreams.quic_servers import quic_server

WITHIN = 5.0  # seconds
RECORD = "www.example.com. 60 A 198.18.1.1"
GOOD = respond(emit_upstream(query(), 0), RECORD)


def echo_name(asked: bytes) -> list[bytes]:
    return [respond(asked, f"{read(asked).question[0].name} 60 A 198.18.1.1")]


@asynccontextmanager
async def asking(
    port: int, ca: Path | str, *, name: str = NAME, addresses: tuple[str, ...] = ("127.0.0.1",),
    on_mismatch: Callable[[], None] = lambda: None,
) -> AsyncIterator[QuicTransport]:  # fmt: skip
    transport = QuicTransport(f"quic://{name}:{port}", addresses, (name, port), str(ca), on_mismatch)
    await transport.prepare()
    try:
        yield transport
    finally:
        await transport.close()


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_questions_share_one_connection(authority: Authority, address: str) -> None:
    async def main() -> None:
        async with (
            quic_server(echo_name, authority.issue(), address=address) as (resolver, port),
            asking(port, authority.path, addresses=("127.0.0.2", address)) as transport,
        ):
            # More than a server lets be open at a time.
            got = await asyncio.gather(*(transport.ask(query(f"n{index}.test."), WITHIN) for index in range(200)))
            assert [texts(octets) for octets in got] == [[f"n{index}.test. 60 A 198.18.1.1"] for index in range(200)]
            assert len(resolver.connections) == 1
            assert {read(asked).id for asked in resolver.asked} == {0}
            assert {len(asked) for asked in resolver.asked} == {128}, "padded (RFC 9250 section 5.4)"

    asyncio.run(main())


def test_large_answer_is_whole(authority: Authority) -> None:
    async def main() -> None:
        records = [f"www.example.com. 60 TXT {index}-{'x' * 200}" for index in range(250)]
        async with (
            quic_server(lambda asked: [respond(asked, *records)], authority.issue()) as (_, port),
            asking(port, authority.path) as transport,
        ):
            assert len(texts(await transport.ask(query(rtype="TXT"), WITHIN))) == 250

    asyncio.run(main())


@pytest.mark.parametrize(
    ("name", "expired", "trusted", "says"),
    [
        ("other.test", False, True, r"its certificate is not valid: hostname 'dns\.test' doesn't match .*other\.test"),
        (NAME, True, True, "its certificate is not valid: .*no longer valid; .* clock"),
        (NAME, False, False, r"its certificate is not valid: .*issuer.*dns\.tls_ca"),
    ],
    ids=["another name", "expired", "an unknown authority"],
)
def test_who_is_not_believed(authority: Authority, name: str, expired: bool, trusted: bool, says: str) -> None:
    async def main() -> None:
        async with (
            quic_server(echo_name, authority.issue(name, expired=expired)) as (resolver, port),
            asking(port, authority.path if trusted else "") as transport,
        ):
            with pytest.raises(UpstreamError, match=says) as caught:
                await transport.ask(query(), WITHIN)
            assert not caught.value.silent
            assert resolver.asked == [], "nothing was said to a stranger"

    asyncio.run(main())


def test_refused_port_is_an_error_at_once(authority: Authority, unused_port: int) -> None:
    async def main() -> None:
        async with asking(unused_port, authority.path) as transport:
            with pytest.raises(UpstreamError, match="Connection refused") as caught:
                await asyncio.wait_for(transport.ask(query(), 30.0), 2.0)
            assert not caught.value.silent

    asyncio.run(main())


@pytest.mark.parametrize("garbage", [b"", b"\xc0", b"\xff" * 1200, b"\x40" + bytes(50)], ids=len)
def test_what_is_no_quic_is_silence(authority: Authority, garbage: bytes) -> None:
    async def main() -> None:
        async with udp_server(lambda _: [garbage]) as (_, port), asking(port, authority.path) as transport:
            with pytest.raises(UpstreamError, match="no answer within") as caught:
                await transport.ask(query(), 0.4)
            assert caught.value.silent

    asyncio.run(main())


def test_server_of_another_protocol_says_so(authority: Authority) -> None:
    async def main() -> None:
        async with (
            quic_server(echo_name, authority.issue(), alpn="h3") as (_, port),
            asking(port, authority.path) as transport,
        ):
            with pytest.raises(UpstreamError, match="not this protocol"):
                await transport.ask(query(), WITHIN)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"", "cut off"),
        (b"\x00", "cut off"),
        (frame(GOOD)[:30], "cut off"),
        (b"\x00\x00", "cut off"),
        (frame(b"rubbish"), "another question"),
        (frame(b"\0\1" + GOOD[2:]), "another question"),
        (b"\xff\xff" + bytes(70000), "another question|more than 65535 octets"),
    ],
    ids=["nothing", "half a length", "half an answer", "an empty one", "garbage", "another id", "too much"],
)  # fmt: skip
def test_what_is_no_answer(authority: Authority, raw: bytes, says: str) -> None:
    async def main() -> None:
        async with (
            quic_server(silent, authority.issue()) as (resolver, port),
            asking(port, authority.path) as transport,
        ):
            resolver.raw = raw
            with pytest.raises(UpstreamError, match=says) as caught:
                await transport.ask(query(), WITHIN)
            assert not caught.value.silent
            resolver.raw = None
            resolver.respond = echo_name
            assert texts(await transport.ask(query(), WITHIN)) == [RECORD], "the connection goes on"
            assert len(resolver.connections) == 1

    asyncio.run(main())


def test_mismatch_is_counted(authority: Authority) -> None:
    async def main() -> None:
        mismatches: list[None] = []
        async with (
            quic_server(lambda asked: echo_name(asked.replace(b"www", b"xxx")), authority.issue()) as (_, port),
            asking(port, authority.path, on_mismatch=lambda: mismatches.append(None)) as transport,
        ):
            with pytest.raises(UpstreamError, match="another question"):
                await transport.ask(query(), WITHIN)
            assert len(mismatches) == 1

    asyncio.run(main())


def test_stream_that_is_reset_is_an_error_and_the_next_is_answered(authority: Authority) -> None:
    async def main() -> None:
        async with (
            quic_server(echo_name, authority.issue()) as (resolver, port),
            asking(port, authority.path) as transport,
        ):
            resolver.resets = 1
            with pytest.raises(UpstreamError, match="reset the query with code 0x2"):
                await transport.ask(query(), WITHIN)
            assert texts(await transport.ask(query(), WITHIN)) == [RECORD]

    asyncio.run(main())


async def until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(WITHIN):
        while not holds():
            await asyncio.sleep(0.001)


def test_question_that_waits_no_longer_is_cancelled(authority: Authority) -> None:
    async def main() -> None:
        async with (
            quic_server(lambda asked: echo_name(asked) if b"www" in asked else [], authority.issue()) as (
                resolver,
                port,
            ),
            asking(port, authority.path) as transport,
        ):
            await transport.ask(query(), WITHIN)
            slow = asyncio.ensure_future(transport.ask(query("slow.test."), WITHIN))
            await until(lambda: len(resolver.asked) == 2)
            await transport.ask(query(), WITHIN)
            slow.cancel()
            await until(lambda: resolver.cancelled)
            assert resolver.cancelled == [0x3]
            assert texts(await transport.ask(query(), WITHIN)) == [RECORD]
            assert len(resolver.connections) == 1

    asyncio.run(main())


def test_silence_is_silent_and_a_connection_on_which_nothing_comes_is_given_up(authority: Authority) -> None:
    async def main() -> None:
        async with (
            quic_server(silent, authority.issue()) as (resolver, port),
            asking(port, authority.path) as transport,
        ):
            began = time.monotonic()
            for _ in range(2):
                with pytest.raises(UpstreamError, match="no answer within") as caught:
                    await transport.ask(query(), 0.5)
                assert caught.value.silent
            assert time.monotonic() - began < 3.0
            resolver.respond = echo_name
            assert texts(await transport.ask(query(), WITHIN)) == [RECORD]
            assert len(resolver.connections) == 2

    asyncio.run(main())


def test_server_that_closes_is_asked_again_on_a_new_connection(authority: Authority) -> None:
    async def main() -> None:
        async with (
            quic_server(echo_name, authority.issue()) as (resolver, port),
            asking(port, authority.path) as transport,
        ):
            await transport.ask(query(), WITHIN)

            def close_once(asked: bytes) -> list[bytes]:
                resolver.respond = echo_name
                resolver.connections[0].close(0x0, "going down")
                return []

            resolver.respond = close_once
            assert texts(await transport.ask(query(), WITHIN)) == [RECORD]
            assert len(resolver.connections) == 2

    asyncio.run(main())


def test_server_that_has_forgotten_the_connection_is_found_again(authority: Authority) -> None:
    async def main() -> None:
        async with (
            quic_server(echo_name, authority.issue()) as (resolver, port),
            asking(port, authority.path) as transport,
        ):
            await transport.ask(query(), WITHIN)
            resolver.cut()
            with pytest.raises(UpstreamError) as caught:
                await transport.ask(query(), 0.5)
            assert caught.value.silent
            assert texts(await transport.ask(query(), WITHIN)) == [RECORD], "on a new connection"

    asyncio.run(main())
