"""DNS over UDP to an upstream."""

import asyncio
import itertools
import time

import pytest

from services.dns_filter.upstreams.udp import UdpTransport
from services.dns_filter.upstreams.upstream import UpstreamError
from tests.services.dns_filter.messages import query, read, respond, texts
from tests.services.dns_filter.servers import Respond, silent, tcp_server, udp_server

RECORD = "www.example.com. 60 A 198.18.1.1"


class Mismatches:
    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> None:
        self.count += 1


def ask_once(answer: Respond, patience: float = 2.0) -> tuple[bytes, list[bytes], int]:
    """What the transport gives, what the server was asked, and how many messages did not match."""

    async def main() -> tuple[bytes, list[bytes], int]:
        mismatches = Mismatches()
        async with udp_server(answer) as (server, port):
            transport = UdpTransport("udp://test", ["127.0.0.1"], port, mismatches)
            await transport.prepare()
            octets = await transport.ask(query(), patience)
            await transport.close()
            return octets, server.asked, mismatches.count

    return asyncio.run(main())


def test_question_is_asked_and_answered() -> None:
    octets, asked, mismatches = ask_once(lambda asked: [respond(asked, RECORD)])
    assert texts(octets) == [RECORD]
    assert [str(rrset) for rrset in read(asked[0]).question] == ["www.example.com. IN A"]
    assert (len(asked), mismatches) == (1, 0)


def test_what_does_not_match_is_passed_over_and_counted() -> None:
    def answer(asked: bytes) -> list[bytes]:
        good = respond(asked, RECORD)
        spoofed_id = bytes([good[0] ^ 1]) + good[1:]
        return [spoofed_id, b"garbage", good.replace(b"example", b"exbmple"), asked, good]

    octets, _, mismatches = ask_once(answer)
    assert texts(octets) == [RECORD]
    assert mismatches == 4


def test_lost_datagram_is_sent_again_with_another_id_and_from_another_port() -> None:
    async def main() -> None:
        lost: list[bytes] = []

        def answer(asked: bytes) -> list[bytes]:
            lost.append(asked)
            return [respond(asked, RECORD)] if len(lost) == 2 else []

        async with udp_server(answer) as (server, port):
            transport = UdpTransport("udp://test", ["127.0.0.1"], port, Mismatches())
            assert texts(await transport.ask(query(), 1.0)) == [RECORD]
            assert server.ports[0] != server.ports[1]
            # One in 65536 pairs of random ids is equal; the rest of the message always is.
            assert server.asked[0][2:] == server.asked[1][2:]

    asyncio.run(main())


def test_ids_and_ports_are_not_predictable() -> None:
    async def main() -> None:
        async with udp_server(lambda asked: [respond(asked, RECORD)]) as (server, port):
            transport = UdpTransport("udp://test", ["127.0.0.1"], port, Mismatches())
            for _ in range(40):
                await transport.ask(query(), 1.0)
            ids = [int.from_bytes(asked[:2], "big") for asked in server.asked]
            for values in (ids, server.ports):
                assert len(set(values)) > 30
                steps = {b - a for a, b in itertools.pairwise(values)}
                assert len(steps) > 30

    asyncio.run(main())


def test_silence_is_an_error_after_the_time_there_was() -> None:
    began = time.monotonic()
    with pytest.raises(UpstreamError) as caught:
        ask_once(silent, patience=0.2)
    assert caught.value.silent
    assert 0.15 < time.monotonic() - began < 1.5


def test_what_is_asked_when_it_is_closed_ends_in_its_time() -> None:
    async def main() -> None:
        async with udp_server(silent) as (server, port):
            transport = UdpTransport("udp://test", ["127.0.0.1"], port, Mismatches())
            asking = asyncio.ensure_future(transport.ask(query(), 0.2))
            while not server.asked:
                await asyncio.sleep(0)
            await transport.close()
            with pytest.raises(UpstreamError, match="no answer within"):
                await asking

    asyncio.run(main())


def test_refused_port_is_an_error_at_once() -> None:
    async def main() -> None:
        async with udp_server(silent) as (_, port):
            pass
        transport = UdpTransport("udp://test", ["127.0.0.1"], port, Mismatches())
        with pytest.raises(UpstreamError, match="Connection refused") as caught:
            await asyncio.wait_for(transport.ask(query(), 30.0), 2.0)
        assert not caught.value.silent

    asyncio.run(main())


def test_next_address_is_tried_and_then_preferred() -> None:
    async def main() -> None:
        async with udp_server(lambda asked: [respond(asked, RECORD)]) as (server, port):
            # Nobody listens on the other address of loopback.
            transport = UdpTransport("udp://test", ["127.0.0.2", "127.0.0.1"], port, Mismatches())
            for _ in range(2):
                assert texts(await asyncio.wait_for(transport.ask(query(), 30.0), 2.0)) == [RECORD]
            assert len(server.asked) == 2

    asyncio.run(main())


def test_truncated_answer_is_fetched_over_tcp() -> None:
    async def main() -> None:
        async with (
            udp_server(lambda asked: [respond(asked, flags="QR TC RD RA")]) as (_, port),
            tcp_server(lambda asked: [respond(asked, RECORD)], port) as (server, _),
        ):
            transport = UdpTransport("udp://test", ["127.0.0.1"], port, Mismatches())
            assert texts(await transport.ask(query(), 2.0)) == [RECORD]
            assert len(server.asked) == 1
            await transport.close()

    asyncio.run(main())
