"""The real tcp_fwd process with a queue of its own: what it takes by itself, and what it gives to tun_io."""

import asyncio
import os
import signal
import socket
from collections.abc import Callable, Coroutine

import pytest

from netstack.packet import tcp
from netstack.packet.flow import tcp_key
from netstack.packet.vnet import VNET_LEN
from netstack.wire.messages import Closed, Opened
from tests.pipeline import world as worlds
from tests.pipeline.tcp_world import OwnWorld, Server, digest, pair
from tests.pipeline.udp_world import packet
from tests.pipeline.world import CLIENT, LOOPBACK, NOBODY

MIB = 1 << 20
TRACE = 77


def run(scenario: Callable[[OwnWorld], Coroutine[None, None, None]], *settings: str) -> None:
    worlds.play(OwnWorld, scenario, *settings)


def test_a_flow_comes_and_goes_by_the_queue_alone_and_tun_io_is_told_of_it():
    async def scenario(one: OwnWorld) -> None:
        with Server() as server:
            client, accepted = await pair(one, server)
            payload = os.urandom(MIB)
            got, _ = await asyncio.gather(client.read(MIB), accepted.write(payload))
            assert digest(got) == digest(payload)
            got, _ = await asyncio.gather(accepted.read(MIB), client.write(payload))
            assert digest(got) == digest(payload)
            await one.until(lambda: one.said)
            sample = await one.sample()
            assert one.own_packets == sample.packets_out
            assert sample.drops == {}
            client.send(tcp.RST)
            await one.until(lambda: len(one.said) > 1)
            assert one.said == [Opened([client.key]), Closed([client.key])]

    run(scenario)


def test_a_refused_flow_costs_tun_io_nothing():
    async def scenario(one: OwnWorld) -> None:
        client = one.client(80, server=NOBODY).syn()
        assert (await client.receive())[0].flags == tcp.RST | tcp.ACK
        await one.over(client)
        assert Opened([client.key]) not in one.said
        assert one.astray == []

    run(scenario)


def test_while_somebody_traces_new_flows_open_through_tun_io():
    async def scenario(one: OwnWorld) -> None:
        with Server() as server:
            before, accepted_before = await pair(one, server)
            await one.trace()
            traced = one.client(server.port, client_port=40001)
            one.returns = False
            one.send(traced.frame(tcp.SYN))
            await one.until(lambda: one.astray)
            assert one.astray == [traced.frame(tcp.SYN)]
            written = one.own_packets
            client = await traced.syn(TRACE).synchronized()
            accepted = await server.accept()
            assert one.own_packets == written
            assert [hop.event for hop in await one.hops("connected")] == ["received", "allowed", "connected"]
            await accepted_before.write(b"as before")
            assert await before.read(9) == b"as before"
            await accepted.write(b"not traced")
            assert await client.read(10) == b"not traced"
            assert one.own_packets > written

    run(scenario)


def fragment(frame: bytes) -> bytes:
    """More fragments follow."""
    return frame[: VNET_LEN + 6] + b"\x20" + frame[VNET_LEN + 7 :]


def last_hop(frame: bytes) -> bytes:
    return frame[: VNET_LEN + 8] + b"\x01" + frame[VNET_LEN + 9 :]


def with_options(frame: bytes) -> bytes:
    """Four octets of IP options: end of list."""
    return frame[:VNET_LEN] + b"\x46" + frame[VNET_LEN + 1 : VNET_LEN + 20] + bytes(4) + frame[VNET_LEN + 20 :]


@pytest.mark.parametrize("change", [fragment, last_hop, with_options])
def test_what_tun_io_looks_at_is_passed_on_as_it_came(change):
    async def scenario(one: OwnWorld) -> None:
        one.returns = False
        with Server() as server:
            client, accepted = await pair(one, server)
            odd = change(client.frame(tcp.ACK, b"odd"))
            one.send(odd)
            client.send(tcp.ACK, b"even")
            assert await accepted.read(4) == b"even"
            await one.until(lambda: one.astray)
            assert one.astray == [odd]

    run(scenario)


def test_what_is_no_segment_of_its_flows_is_passed_on_as_it_came():
    async def scenario(one: OwnWorld) -> None:
        one.returns = False
        stranger = one.client(9, client_port=41000)
        multicast = one.client(9, server=bytes([224, 0, 0, 1]))
        frames = [
            packet(LOOPBACK, 53, b"query"),
            stranger.frame(tcp.ACK, b"of another worker's flow"),
            stranger.frame(tcp.SYN | tcp.ACK),
            stranger.frame(tcp.RST),
            stranger.frame(tcp.ACK, bytes(50_000)),
            multicast.frame(tcp.SYN),
            bytes(9),
        ]
        one.send(*frames)
        await one.until(lambda: len(one.astray) == len(frames))
        assert one.astray == frames
        sample = await one.sample()
        assert (sample.packets_out, sample.drops) == (0, {})

    run(scenario)


def test_a_segment_with_a_wrong_checksum_is_dropped_here():
    async def scenario(one: OwnWorld) -> None:
        with Server() as server:
            client, _ = await pair(one, server)
            wrong = bytearray(client.frame(tcp.ACK, b"x"))
            wrong[:VNET_LEN] = bytes(VNET_LEN)
            one.send(bytes(wrong))
            await client.answers()
            assert (await one.sample()).drops == {"bad-checksum": 1}
            assert one.astray == []

    run(scenario)


def test_a_worker_that_drains_keeps_its_flows_and_passes_new_ones_on():
    async def scenario(one: OwnWorld) -> None:
        one.returns = False
        with Server() as server:
            client, accepted = await pair(one, server)
            assert one.process is not None
            one.process.send_signal(signal.SIGUSR1)
            await one.until(lambda: "drain" in repr(one.said).lower())
            other = one.client(server.port, client_port=40001).syn()
            client.send(tcp.ACK, b"goes on")
            assert await accepted.read(7) == b"goes on"
            await one.until(lambda: one.astray)
            assert other.segments.empty()
            accepted.socket.shutdown(socket.SHUT_WR)
            assert await client.read() == b""
            client.send(tcp.ACK | tcp.FIN)
            assert await one.ended() == 0

    run(scenario)


def test_syns_that_had_to_wait_for_their_turn_are_told_of_too():
    async def scenario(one: OwnWorld) -> None:
        one.silent = True
        clients = [one.client(80, client_port=40000 + number) for number in range(8)]
        one.send(*(client.frame(tcp.SYN) for client in clients))
        keys = {tcp_key(CLIENT, 40000 + number, LOOPBACK, 80) for number in range(8)}
        await one.until(lambda: {key for told in one.said if isinstance(told, Opened) for key in told.flows} == keys)

    run(scenario, "tcp.max_half_open=16")
