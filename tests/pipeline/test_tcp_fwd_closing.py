"""The real tcp_fwd process: how connections close, from either end, alone and together."""

import asyncio
import os
import signal
import socket

import pytest

from netstack.packet import tcp
from netstack.wire.messages import Closed
from tests.pipeline.tcp_world import BOTH_WAYS, Server, World, digest, pair, run

MIB = 1 << 20


@BOTH_WAYS
def test_a_client_that_has_ended_still_reads(kind):
    async def scenario(one: World) -> None:
        with Server() as server:
            client, accepted = await pair(one, server)
            client.send(tcp.ACK | tcp.FIN, b"the request")
            assert await accepted.read() == b"the request"
            payload = os.urandom(MIB)
            got, _ = await asyncio.gather(client.read(len(payload)), accepted.write(payload))
            assert digest(got) == digest(payload)
            accepted.socket.close()
            assert await client.read() == b""
            await one.over(client)
            sample = await one.sample()
            assert sample.drops == {}
            assert (sample.gauges["flows"], sample.gauges["time_wait"]) == (0, 0)

    run(scenario, kind=kind)


@BOTH_WAYS
def test_what_a_server_sends_last_comes_with_its_fin(kind):
    async def scenario(one: World) -> None:
        with Server() as server:
            client, accepted = await pair(one, server)
            one.process.send_signal(signal.SIGSTOP)  # both are there when it looks
            accepted.socket.send(b"bye")
            accepted.socket.close()
            one.process.send_signal(signal.SIGCONT)
            segment, _ = await client.receive()
            assert (segment.flags, bytes(segment.payload)) == (tcp.ACK | tcp.PSH | tcp.FIN, b"bye")
            client.ack = (client.ack + 4) & 0xFFFFFFFF
            client.send(tcp.ACK | tcp.FIN)
            await one.over(client)
            assert (await one.sample()).drops == {}

    run(scenario, kind=kind)


@BOTH_WAYS
def test_a_server_that_has_ended_still_reads_and_a_repeated_fin_is_acknowledged(kind):
    async def scenario(one: World) -> None:
        with Server() as server:
            client, accepted = await pair(one, server)
            accepted.socket.shutdown(socket.SHUT_WR)
            assert await client.read() == b""
            payload = os.urandom(MIB)
            got, _ = await asyncio.gather(accepted.read(len(payload)), client.write(payload))
            assert digest(got) == digest(payload)
            client.send(tcp.ACK | tcp.FIN)
            assert await accepted.read() == b""
            while client.acknowledged != client.seq:
                await client.receive()
            assert (await one.sample()).gauges["time_wait"] == 1
            client.send(tcp.ACK | tcp.FIN, seq=client.seq - 1)  # as if that acknowledgement had been lost
            segment, _ = await client.receive()
            assert (segment.flags, segment.seq, segment.ack) == (tcp.ACK, client.ack, client.seq)
            assert (await one.sample()).drops == {}

    run(scenario, kind=kind)


@BOTH_WAYS
def test_the_same_ports_can_be_used_again_in_time_wait(kind):
    async def scenario(one: World) -> None:
        with Server() as server:
            client, accepted = await pair(one, server)
            accepted.socket.close()
            await client.read()
            client.send(tcp.ACK | tcp.FIN)
            await client.receive()
            old = one.client(server.port)
            old.syn()
            answer, _ = await old.receive()
            assert answer.flags == tcp.ACK  # it could be a duplicate of the SYN of before (RFC 6191)
            again = one.client(server.port)
            again.seq = client.seq + 1
            await again.connect()
            accepted = await server.accept()
            await again.write(b"again")
            assert await accepted.read(5) == b"again"
            assert (await one.sample()).gauges["time_wait"] == 0

    run(scenario, kind=kind)


def test_a_reset_of_the_client_is_a_reset_at_the_server():
    async def scenario(one: World) -> None:
        with Server() as server:
            client, accepted = await pair(one, server)
            client.send(tcp.RST)
            with pytest.raises(ConnectionResetError):
                await accepted.read()
            await one.until(lambda: Closed([client.key]) in one.said)

    run(scenario)


def test_a_reset_of_the_server_is_a_reset_at_the_client():
    async def scenario(one: World) -> None:
        with Server() as server:
            client, accepted = await pair(one, server)
            accepted.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes([1, 0, 0, 0, 0, 0, 0, 0]))
            accepted.socket.close()
            assert (await client.reset()).seq == client.ack
            assert (await one.sample()).drops == {"connection-reset": 1}

    run(scenario)


def test_a_reset_of_the_client_in_the_middle_of_a_download_is_a_reset_at_the_server():
    async def scenario(one: World) -> None:
        with Server() as server:
            client, accepted = await pair(one, server)
            writing = asyncio.ensure_future(accepted.write(os.urandom(16 * MIB)))
            await client.read(MIB)
            client.send(tcp.RST)
            with pytest.raises((ConnectionResetError, BrokenPipeError)):
                await writing
            await one.until(lambda: Closed([client.key]) in one.said)
            assert (await one.sample()).gauges["buffered"] == 0

    run(scenario)


def test_a_reset_of_the_server_in_the_middle_of_an_upload_is_a_reset_at_the_client():
    async def scenario(one: World) -> None:
        with Server(buffer=64 << 10) as server:
            client, accepted = await pair(one, server)
            await asyncio.gather(client.write(bytes(MIB)), accepted.read(MIB))
            for _ in range(32):
                client.send(tcp.ACK, bytes(32 << 10))
            await accepted.read(1)
            accepted.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes([1, 0, 0, 0, 0, 0, 0, 0]))
            accepted.socket.close()
            await client.reset()
            await one.until(lambda: Closed([client.key]) in one.said)
            sample = await one.sample()
            assert sample.drops.keys() <= {"connection-reset", "flow-unknown"}
            assert sample.drops["connection-reset"] == 1
            assert sample.gauges["buffered"] == 0

    run(scenario)


def test_urgent_data_is_ordinary_data_in_both_directions():
    async def scenario(one: World) -> None:
        with Server() as server:
            client, accepted = await pair(one, server)
            client.send(tcp.ACK | tcp.PSH, b"be")
            client.send(tcp.ACK | tcp.PSH | tcp.URG, b"for")
            client.send(tcp.ACK | tcp.PSH, b"e")
            assert await accepted.read(6) == b"before"
            accepted.socket.send(b"af")
            accepted.socket.send(b"te", socket.MSG_OOB)
            accepted.socket.send(b"r")
            assert await client.read(5) == b"after"

    run(scenario)
