"""DNS over TLS to an upstream: what test_tcp.py shows of its connection, and who is believed."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from services.dns_filter.upstreams.tls import TlsTransport
from services.dns_filter.upstreams.upstream import UpstreamError
from tests.services.dns_filter.messages import query, read, respond, texts
from tests.services.dns_filter.servers import Respond, TcpServer, silent, tcp_server
from tests.services.dns_filter.upstreams.certificates import NAME, Authority, Chain

WITHIN = 5.0  # seconds
RECORD = "www.example.com. 60 A 198.18.1.1"


def echo_name(asked: bytes) -> list[bytes]:
    return [respond(asked, f"{read(asked).question[0].name} 60 A 198.18.1.1")]


@asynccontextmanager
async def tls_server(respond: Respond, chain: Chain) -> AsyncIterator[tuple[TcpServer, int]]:
    handler = TcpServer(respond)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain.certificate, chain.key)
    server = await asyncio.start_server(handler.serve, "127.0.0.1", 0, ssl=context)
    try:
        yield handler, server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for writer in list(handler.writers):
            writer.close()


@asynccontextmanager
async def asking(
    port: int, ca: str, *, name: str = NAME, addresses: tuple[str, ...] = ("127.0.0.1",)
) -> AsyncIterator[TlsTransport]:
    transport = TlsTransport(f"tls://{name}:{port}", addresses, (name, port), ca, lambda: None)
    await transport.prepare()
    try:
        yield transport
    finally:
        await transport.close()


def test_questions_share_one_connection_and_are_answered_in_any_order(authority: Authority) -> None:
    async def main() -> None:
        held: list[bytes] = []

        def backwards(asked: bytes) -> list[bytes]:
            held.extend(echo_name(asked))
            return held[::-1] if len(held) == 20 else []

        async with (
            tls_server(backwards, authority.issue()) as (server, port),
            asking(port, str(authority.path), addresses=("127.0.0.2", "127.0.0.1")) as transport,
        ):
            got = await asyncio.gather(*(transport.ask(query(f"n{index}.test."), WITHIN) for index in range(20)))
            assert [texts(octets) for octets in got] == [[f"n{index}.test. 60 A 198.18.1.1"] for index in range(20)]
            assert server.connections == 1
            assert {len(asked) for asked in server.asked} == {128}, "padded (RFC 8467)"

    asyncio.run(main())


def test_connection_that_the_server_closed_is_opened_anew(authority: Authority) -> None:
    async def main() -> None:
        async with (
            tls_server(echo_name, authority.issue()) as (server, port),
            asking(port, str(authority.path)) as transport,
        ):
            server.cut = 1
            for _ in range(3):
                assert texts(await transport.ask(query(), WITHIN)) == [RECORD]
            assert server.connections == 3

    asyncio.run(main())


def test_an_address_will_do_where_the_certificate_is_for_it(authority: Authority) -> None:
    async def main() -> None:
        async with (
            tls_server(echo_name, authority.issue(address="127.0.0.1")) as (_, port),
            asking(port, str(authority.path), name="127.0.0.1") as transport,
        ):
            assert texts(await transport.ask(query(), WITHIN)) == [RECORD]

    asyncio.run(main())


@pytest.mark.parametrize(
    ("name", "expired", "trusted", "says"),
    [
        ("other.test", False, True, r"its certificate is not valid: .*mismatch.*dns\.test"),
        (NAME, True, True, "its certificate is not valid: certificate has expired; .* clock"),
        (NAME, False, False, r"its certificate is not valid: .*issuer.*dns\.tls_ca"),
    ],
    ids=["another name", "expired", "an unknown authority"],
)
def test_who_is_not_believed(authority: Authority, name: str, expired: bool, trusted: bool, says: str) -> None:
    async def main() -> None:
        async with (
            tls_server(echo_name, authority.issue(name, expired=expired)) as (server, port),
            asking(port, str(authority.path) if trusted else "") as transport,
        ):
            with pytest.raises(UpstreamError, match=says) as caught:
                await transport.ask(query(), WITHIN)
            assert not caught.value.silent
            assert server.asked == [], "nothing was said to a stranger"

    asyncio.run(main())


def test_server_that_speaks_no_tls(authority: Authority) -> None:
    async def main() -> None:
        async with tcp_server(silent) as (handler, port), asking(port, str(authority.path)) as transport:
            handler.cut = 1
            with pytest.raises(UpstreamError):
                await transport.ask(query(), 1.0)

    asyncio.run(main())
