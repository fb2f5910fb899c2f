"""DNS over TCP to an upstream."""

import asyncio
import time

import pytest

from services.dns_filter.upstreams.tcp import TcpTransport
from services.dns_filter.upstreams.upstream import UpstreamError
from tests.services.dns_filter.messages import query, read, respond, texts
from tests.services.dns_filter.servers import silent, tcp_server

RECORD = "www.example.com. 60 A 198.18.1.1"


def echo_name(asked: bytes) -> list[bytes]:
    return [respond(asked, f"{read(asked).question[0].name} 60 A 198.18.1.1")]


def transport_to(port: int, addresses: tuple[str, ...] = ("127.0.0.1",)) -> tuple[TcpTransport, list[None]]:
    mismatches: list[None] = []
    return TcpTransport("tcp://test", list(addresses), port, lambda: mismatches.append(None)), mismatches


def test_one_connection_for_many_questions() -> None:
    async def main() -> None:
        async with tcp_server(echo_name) as (server, port):
            transport, _ = transport_to(port)
            await transport.prepare()
            names = [f"n{index}.test." for index in range(50)]
            got = await asyncio.gather(*(transport.ask(query(name), 2.0) for name in names))
            assert [texts(octets) for octets in got] == [[f"{name} 60 A 198.18.1.1"] for name in names]
            assert server.connections == 1
            await transport.close()

    asyncio.run(main())


def test_answers_in_any_order() -> None:
    async def main() -> None:
        held: list[bytes] = []

        def backwards(asked: bytes) -> list[bytes]:
            held.extend(echo_name(asked))
            return held[::-1] if len(held) == 3 else []

        async with tcp_server(backwards) as (_, port):
            transport, _ = transport_to(port)
            got = await asyncio.gather(*(transport.ask(query(f"n{index}.test."), 2.0) for index in range(3)))
            assert [texts(octets) for octets in got] == [[f"n{index}.test. 60 A 198.18.1.1"] for index in range(3)]
            await transport.close()

    asyncio.run(main())


def test_connection_that_the_server_closed_is_opened_anew() -> None:
    async def main() -> None:
        async with tcp_server(echo_name) as (server, port):
            server.cut = 1
            transport, _ = transport_to(port)
            for _ in range(3):
                await transport.ask(query(), 2.0)
            assert server.connections == 3
            await transport.close()

    asyncio.run(main())


def test_question_on_a_connection_that_ends_is_asked_once_more() -> None:
    async def main() -> None:
        def answer_first_on_each(asked: bytes) -> list[bytes]:
            return echo_name(asked) if len(server.asked) != 2 else []

        async with tcp_server(answer_first_on_each) as (server, port):
            server.cut = 2
            transport, _ = transport_to(port)
            await transport.ask(query(), 2.0)
            await transport.ask(query("b.test."), 2.0)
            assert server.connections == 2
            assert len(server.asked) == 3
            await transport.close()

    asyncio.run(main())


def test_server_that_closes_each_connection_is_an_error() -> None:
    async def main() -> None:
        async with tcp_server(silent) as (server, port):
            server.cut = 1
            transport, _ = transport_to(port)
            with pytest.raises(UpstreamError, match="closed the connection") as caught:
                await transport.ask(query(), 2.0)
            assert not caught.value.silent
            await transport.close()

    asyncio.run(main())


def test_refused_port_is_an_error_at_once() -> None:
    async def main() -> None:
        async with tcp_server(silent) as (_, port):
            pass
        transport, _ = transport_to(port)
        with pytest.raises(UpstreamError, match="Connection refused"):
            await asyncio.wait_for(transport.ask(query(), 30.0), 2.0)
        await transport.close()

    asyncio.run(main())


def test_next_address_is_tried_and_then_preferred() -> None:
    async def main() -> None:
        async with tcp_server(echo_name) as (server, port):
            transport, _ = transport_to(port, ("127.0.0.2", "127.0.0.1"))
            await transport.ask(query(), 2.0)
            for writer in list(server.writers):
                writer.close()
            await transport.ask(query(), 2.0)
            await transport.close()

    asyncio.run(main())


def test_connection_on_which_nothing_comes_is_given_up() -> None:
    async def main() -> None:
        async with tcp_server(silent) as (server, port):
            transport, _ = transport_to(port)
            began = time.monotonic()
            # That the connection came about speaks for it the first time.
            for _ in range(2):
                with pytest.raises(UpstreamError) as caught:
                    await transport.ask(query(), 0.1)
                assert caught.value.silent
            assert time.monotonic() - began < 1.0
            assert server.connections == 1
            server.respond = echo_name
            await transport.ask(query(), 2.0)
            assert server.connections == 2
            await transport.close()

    asyncio.run(main())


def test_what_does_not_match_is_passed_over_and_counted() -> None:
    async def main() -> None:
        def noisy(asked: bytes) -> list[bytes]:
            (good,) = echo_name(asked)
            return [bytes([good[0] ^ 1]) + good[1:], b"", good.replace(b"example", b"exbmple"), good, good]

        async with tcp_server(noisy) as (_, port):
            transport, mismatches = transport_to(port)
            assert texts(await transport.ask(query(), 2.0)) == [RECORD]
            await asyncio.sleep(0.02)
            assert len(mismatches) == 4
            await transport.close()

    asyncio.run(main())
