"""How long mappings live, in a real udp_fwd process: idle, evicted, revoked, used, drained."""

import asyncio
import signal

from netstack.packet import icmp
from netstack.packet.flow import endpoint_key
from netstack.wire.messages import Check, Closed, Drain, Touch
from tests.pipeline.udp_world import (
    CLIENT,
    LOOPBACK,
    WITHIN,
    Server,
    World,
    icmp_of,
    packet,
    run,
)


def test_idle_mappings_end_and_are_given_back():
    async def scenario(one: World) -> None:
        with Server() as server:
            one.send(packet(LOOPBACK, server.port, b"unanswered"))
            one.send(packet(LOOPBACK, server.port, b"answered", client_port=5001))
            await server.receive()
            server.socket.sendto(b"reply", (await server.receive())[1])
            await one.frame()
            await one.until(lambda: Closed([endpoint_key(CLIENT, 5000)]) in one.said)
            assert (await one.sample()).gauges["flows"] == 1
            await one.until(lambda: Closed([endpoint_key(CLIENT, 5001)]) in one.said)

    run(scenario, "udp.idle_timeout=0.1", "udp.stream_timeout=1.5")


def test_the_idlest_mapping_makes_room():
    async def scenario(one: World) -> None:
        with Server() as server:
            for port in range(5000, 5005):
                one.send(packet(LOOPBACK, server.port, b"x", client_port=port))
                await server.receive()
            sample = await one.sample()
            assert sample.gauges["flows"] == 3
            assert sample.drops == {"flow-table-full": 2}

    run(scenario, "udp.max_flows=3")


def test_a_revoked_address_is_neither_sent_to_nor_heard():
    async def scenario(one: World) -> None:
        with Server() as server:
            one.send(packet(LOOPBACK, server.port, b"x"))
            _, client = await server.receive()
            one.allowed.clear()
            one.publish([LOOPBACK], 0.0)
            await asyncio.sleep(0.2)
            server.socket.sendto(b"too late", client)
            one.send(packet(LOOPBACK, server.port, b"y"))
            assert icmp_of(await one.frame())[1:3] == (icmp.UNREACHABLE, icmp.ADMIN_PROHIBITED)
            await asyncio.sleep(0.1)
            assert one.frames.empty()
            assert (await one.sample()).drops == {"not-whitelisted": 1, "flow-unknown": 1}

    run(scenario)


def test_a_lease_published_needs_no_question_and_its_use_is_reported():
    async def scenario(one: World) -> None:
        with Server() as server:
            one.silent = True
            one.publish([LOOPBACK], 300.0)
            await asyncio.sleep(0.2)
            one.send(packet(LOOPBACK, server.port, b"x"))
            await server.receive()
            await asyncio.sleep(1.1)
            one.send(packet(LOOPBACK, server.port, b"x"))
            await one.until(lambda: Touch([LOOPBACK]) in one.said)
            assert not any(isinstance(message, Check) for message in one.said)

    run(scenario)


def test_a_tun_io_that_restarted_hears_which_flows_are_here():
    async def scenario(one: World) -> None:
        assert one.flows == []
        with Server() as server:
            one.send(packet(LOOPBACK, server.port, b"x"))
            await server.receive()
            await asyncio.sleep(0.3)  # a Hello so soon after the first would be one too many
            one.ask_who()
            await one.until(lambda: one.flows)
            assert one.flows == [endpoint_key(CLIENT, 5000)]

    run(scenario)


def test_a_worker_told_to_drain_leaves_after_its_last_mapping():
    async def scenario(one: World) -> None:
        with Server() as server:
            one.send(packet(LOOPBACK, server.port, b"x"))
            _, client = await server.receive()
            one.process.send_signal(signal.SIGUSR1)
            await one.until(lambda: Drain("udp_fwd-1") in one.said)
            server.socket.sendto(b"still heard", client)
            assert (await one.datagram()).payloads == [b"still heard"]
            assert await asyncio.wait_for(one.process.wait(), WITHIN) == 0

    run(scenario, "udp.stream_timeout=1")
