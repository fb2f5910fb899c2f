"""The real dns_filter process with a queue of the TUN of its own, at whose other end the test is the client."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Coroutine

import pytest

from netstack.packet import datagram, icmp
from netstack.packet.frame import IP
from netstack.wire.messages import Astray
from tests.pipeline.dns_filter_world import CLIENT, RESOLVER, WITHIN, World, answering, run
from tests.pipeline.udp_world import packet
from tests.services.dns_filter.messages import ask, texts

RECORD = "www.example.com. 600 A 198.18.1.1"
ANSWER = ["www.example.com. 300 A 198.18.1.1"]


@contextlib.asynccontextmanager
async def own_queue(one: World) -> AsyncIterator[socket.socket]:
    """Lends the process one end of a pair that keeps the boundaries of packets, as a device does; gives the other."""
    loop = asyncio.get_running_loop()
    client, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    lender = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    with client, theirs, lender:
        client.setblocking(False)
        lender.bind(str(one.topology.queues))
        lender.listen()
        lent, _ = await asyncio.wait_for(loop.sock_accept(lender), WITHIN)  # it asks with each heartbeat
        with lent:
            socket.send_fds(lent, [b"\0"], [theirs.fileno()])
            yield client


def play(scenario: Callable[[World, socket.socket], Coroutine[None, None, None]]) -> World:
    async def with_queue(one: World) -> None:
        async with own_queue(one) as client:
            await scenario(one, client)

    return run(with_queue, answering(RECORD))


async def answered(client: socket.socket) -> datagram.Datagram:
    loop = asyncio.get_running_loop()
    return datagram.parse(await asyncio.wait_for(loop.sock_recv(client, 1 << 16), WITHIN))


async def astray(one: World, count: int) -> list[bytes]:
    """So many frames that were given to tun_io."""
    async with asyncio.timeout(WITHIN):
        while True:
            frames = [frame for said in one.said if isinstance(said, Astray) for frame in said.frames]
            if len(frames) >= count:
                return frames
            await asyncio.sleep(0.01)


def test_a_query_is_read_and_answered_without_tun_io_and_only_once_it_is_leased():
    async def scenario(one: World, client: socket.socket) -> None:
        client.send(datagram.emit(CLIENT, 4711, RESOLVER, 53, ask()))
        got = await answered(client)
        assert (got.client, got.client_port, got.server, got.server_port) == (RESOLVER, 53, CLIENT, 4711)
        assert texts(got.payloads[0]) == ANSWER
        assert one.journal == ["learn"]  # and no answer through the link
        sample = await one.sample()
        assert (sample.packets_in, sample.packets_out) == (1, 1)

    play(scenario)


def test_an_answer_is_held_back_where_the_lease_is_not_stored():
    async def scenario(one: World, client: socket.socket) -> None:
        one.tracker = "silent"
        client.send(datagram.emit(CLIENT, 4711, RESOLVER, 53, ask()))
        async with asyncio.timeout(WITHIN):
            while not one.learned:
                await asyncio.sleep(0.01)
        with pytest.raises(BlockingIOError):
            client.recv(1)
        one.tracker = "ok"
        one.acknowledge(one.learned[0])
        assert texts((await answered(client)).payloads[0]) == ANSWER

    play(scenario)


def test_what_is_no_plain_query_is_given_to_tun_io():
    query = datagram.emit(CLIENT, 4711, RESOLVER, 53, ask())
    others = [
        packet(RESOLVER, 123, b"another port"),
        query[: IP + 6] + b"\x20\0" + query[IP + 8 :],  # a fragment
        query[: IP + 8] + b"\1" + query[IP + 9 :],  # its TTL ends here
        datagram.emit(CLIENT, 4711, bytes([224, 0, 0, 251]), 53, ask()),  # multicast
        datagram.emit(CLIENT, 4711, bytes(4), 53, ask()),
        query[:IP] + b"\x45\0\0\x1c" + query[IP + 4 : IP + 9] + bytes([icmp.PROTOCOL]) + query[IP + 10 : IP + 28],
        b"noise",
    ]

    async def scenario(one: World, client: socket.socket) -> None:
        for frame in others:
            client.send(frame)
        client.send(query)
        assert texts((await answered(client)).payloads[0]) == ANSWER
        assert await astray(one, len(others)) == others

    play(scenario)


def test_while_somebody_traces_queries_get_their_trace_from_tun_io():
    async def scenario(one: World, client: socket.socket) -> None:
        query = datagram.emit(CLIENT, 4711, RESOLVER, 53, ask())
        await one.trace()
        client.send(query)
        assert await astray(one, 1) == [query]
        one.send_frame(query, trace_id=42)
        got, trace_id = await one.datagram()
        assert (texts(got.payloads[0]), trace_id) == (ANSWER, 42)
        with pytest.raises(BlockingIOError):
            client.recv(1)

    play(scenario)
