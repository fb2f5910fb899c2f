"""The real tcp_fwd process: how flows are cut, told of, traced and handed over, and what it makes of noise."""

import asyncio
import os
import random
import signal
import socket

import pytest

from netstack.packet import tcp
from netstack.packet.seqnum import MASK
from netstack.packet.vnet import NO_OFFLOAD, VNET_LEN
from netstack.wire.messages import Bye, Check, Closed, Drain, Touch
from tests.pipeline.tcp_world import Accepted, Server, World, pair, run
from tests.pipeline.world import CLIENT, CLIENT_V6, LOOPBACK, NOBODY, WITHIN


async def reset_at(accepted: Accepted) -> None:
    with pytest.raises(ConnectionResetError):
        await accepted.read()


def test_a_revoked_address_resets_both_ends():
    async def scenario(one: World) -> None:
        with Server() as server, Server("::1") as other:
            client, accepted = await pair(one, server)
            spared, still = await pair(one, other)
            one.publish([LOOPBACK], 0.0)
            assert (await client.reset()).seq == client.ack
            await reset_at(accepted)
            await spared.write(b"still here")
            assert await still.read(10) == b"still here"
            sample = await one.sample()
            assert sample.drops == {"revoked": 1}
            assert sample.gauges["flows"] == 1

    run(scenario)


def test_an_idle_flow_is_reset_at_both_ends():
    async def scenario(one: World) -> None:
        with Server() as server:
            client, accepted = await pair(one, server)
            await client.reset()
            await reset_at(accepted)
            assert (await one.sample()).drops == {"idle-timeout": 1}

    run(scenario, "tcp.idle_timeout=0.3")


def test_a_lease_published_needs_no_question_and_its_use_is_reported():
    async def scenario(one: World) -> None:
        with Server() as server:
            one.silent = True
            one.publish([LOOPBACK], 300.0)
            while (await one.sample()).gauges["leases"] == 0:
                pass
            await pair(one, server)
            await one.until(lambda: Touch([LOOPBACK]) in one.said)
            assert not any(isinstance(message, Check) for message in one.said)

    run(scenario)


def test_a_tun_io_that_restarted_hears_which_flows_are_here():
    async def scenario(one: World) -> None:
        assert one.flows == []
        with Server() as server:
            client, _ = await pair(one, server)

            def told() -> bool:
                one.ask_who()  # again and again: a Hello so soon after the first would be one too many
                return bool(one.flows)

            await one.until(told)
            assert one.flows == [client.key]

    run(scenario)


def test_ports_that_are_used_again_at_once_are_not_reported_as_over():
    async def scenario(one: World) -> None:
        with Server() as server:
            client, _ = await pair(one, server)
            one.said.clear()
            reset = client.frame(tcp.RST)
            client.seq = (client.seq + 1000) & MASK
            one.send(reset, client.frame(tcp.SYN))  # in one batch: no heartbeat is between them
            client.seq += 1
            await client.synchronized()
            beats = one.beats
            await one.until(lambda: one.beats > beats + 1)
            assert not any(isinstance(message, Closed) for message in one.said)

    run(scenario)


def test_a_worker_told_to_drain_finishes_what_it_has_and_leaves():
    async def scenario(one: World) -> None:
        with Server() as server:
            client, accepted = await pair(one, server)
            assert one.process is not None
            one.process.send_signal(signal.SIGUSR1)
            await one.until(lambda: Drain("tcp_fwd-1") in one.said)
            await accepted.write(b"to the end")
            accepted.socket.close()
            assert await client.read() == b"to the end"
            assert one.process.returncode is None
            client.send(tcp.ACK | tcp.FIN)
            assert await one.ended() == 0
            await one.until(lambda: one.said[-1] == Bye("tcp_fwd-1"))

    run(scenario)


def test_a_worker_without_flows_that_is_told_to_drain_leaves_at_once():
    async def scenario(one: World) -> None:
        assert one.process is not None
        one.process.send_signal(signal.SIGUSR1)
        assert await one.ended() == 0
        await one.until(lambda: one.said[-2:] == [Drain("tcp_fwd-1"), Bye("tcp_fwd-1")])

    run(scenario)


def test_a_worker_that_is_stopped_resets_what_it_has():
    async def scenario(one: World) -> None:
        with Server() as server:
            client, accepted = await pair(one, server)
            one.silent = True
            one.allowed.clear()
            waiting = one.client(80, server=NOBODY, client_port=40001).syn()
            await one.until(lambda: one.said)
            assert one.process is not None
            one.process.send_signal(signal.SIGTERM)
            assert await one.ended() == 0
            assert (await client.reset()).seq == client.ack
            assert (await waiting.reset()).ack == waiting.seq
            await reset_at(accepted)
            await one.until(lambda: one.said[-1] == Bye("tcp_fwd-1"))

    run(scenario)


# --- DNS --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("server", "client"),
    [(NOBODY, CLIENT), (socket.inet_pton(socket.AF_INET6, "2001:db8::9"), CLIENT_V6)],
    ids=["IPv4", "IPv6"],
)
def test_port_53_of_any_address_is_handed_to_dns_filter_with_who_asked(server, client):
    async def scenario(one: World) -> None:
        one.topology.dns.mkdir()
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(one.topology.dns / "dns_filter-1"))
            listening.listen()
            listening.setblocking(False)
            asking = await one.client(53, server=server).connect()
            accepted = Accepted((await asyncio.wait_for(loop.sock_accept(listening), WITHIN))[0])
            await asking.write(b"\x00\x05query")
            preface = bytes([len(client)]) + client + (40000).to_bytes(2, "big")
            assert await accepted.read(len(preface) + 7) == preface + b"\x00\x05query"
            await accepted.write(b"\x00\x06answer")
            assert await asking.read(8) == b"\x00\x06answer"
            assert not any(isinstance(message, Check) for message in one.said)
            accepted.socket.close()
            assert await asking.read() == b""

    run(scenario)


def test_port_53_resets_while_there_is_no_dns_filter():
    async def scenario(one: World) -> None:
        one.topology.dns.mkdir()
        client = one.client(53, server=NOBODY).syn()
        assert (await client.receive())[0].flags == tcp.RST | tcp.ACK
        assert (await one.sample()).drops == {"connection-refused": 1}

    run(scenario)


# --- traces, and noise ------------------------------------------------------------------------------------------------


def test_a_traced_syn_and_its_answer_carry_one_id():
    async def scenario(one: World) -> None:
        with Server() as server:
            await one.trace()
            client = one.client(server.port).syn(trace_id=77)
            segment, trace_id = await client.receive()
            assert (segment.flags, trace_id) == (tcp.SYN | tcp.ACK, 77)
            hops = await one.hops("connected")
            assert [hop.event for hop in hops] == ["received", "allowed", "connected"]
            assert {(hop.trace_id, hop.stage, hop.worker) for hop in hops} == {(77, "tcp_fwd", "tcp_fwd-1")}
            assert hops[-1].detail == f"10.0.0.2:40000 > 127.0.0.1:{server.port}"
            refused = one.client(80, server=NOBODY).syn(trace_id=78)
            assert (await refused.receive())[1] == 78
            assert (await one.hops("refused"))[-1].detail.endswith("> 198.18.0.9:80 not-whitelisted")
            closed = server.port
        failed = one.client(closed, client_port=40001).syn(trace_id=79)
        assert (await failed.receive())[1] == 79
        assert (await one.hops("connect failed"))[-1].detail.endswith("connection-refused")

    run(scenario)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [(tcp.ACK, (tcp.RST, 0x1234, 0)), (tcp.FIN, (tcp.RST | tcp.ACK, 0, 0xFFFFF006)), (tcp.RST, None)],
    ids=["with ACK: reset at its number", "without ACK: reset that acknowledges it", "a reset: nothing"],
)
def test_a_segment_of_no_flow_is_answered_as_a_closed_port_would(flags, expected):
    async def scenario(one: World) -> None:
        stray = one.client(80)
        stray.ack = 0x1234
        stray.send(flags, b"stray")
        if expected is None:
            other = one.client(80, client_port=40001)
            other.send(tcp.ACK)
            assert (await other.receive())[0].flags == tcp.RST
            assert stray.segments.empty()
            assert (await one.sample()).packets_out == 1
            return
        segment, _ = await stray.receive()
        assert (segment.flags, segment.seq, segment.ack) == expected
        assert (await one.sample()).drops == {"flow-unknown": 1}

    run(scenario)


def test_noise_is_counted_and_everything_else_goes_on():
    chance = random.Random(7)

    async def scenario(one: World) -> None:
        with Server() as server:
            client, accepted = await pair(one, server)
            good = client.frame(tcp.ACK | tcp.PSH, b"payload" * 400)
            noise = [b"", bytes(9), bytes(3000), os.urandom(40), NO_OFFLOAD + b"\x45" + bytes(30)]
            noise += [good[:length] for length in range(0, len(good), 97)]
            noise += [chance.randbytes(chance.randrange(4000)) for _ in range(200)]
            for number in range(0, len(noise), 50):
                one.send(*noise[number : number + 50])
            await client.answers()
            drops = (await one.sample()).drops
            assert sum(drops.values()) == len(noise)
            assert all(slug.startswith(("malformed-", "bad-checksum", "fragment", "unknown-p")) for slug in drops)
            await client.write(b"alive")
            assert await accepted.read(5) == b"alive"

    run(scenario)


def test_octets_of_a_segment_changed_at_random_do_no_harm():
    chance = random.Random(8)

    async def scenario(one: World) -> None:
        with Server() as server, Server() as other:
            client, _ = await pair(one, server)
            for flags in (tcp.SYN, tcp.ACK, tcp.ACK | tcp.FIN, tcp.RST):
                good = client.frame(flags, b"x" * 10)
                for _ in range(4):
                    batch = []
                    for _ in range(50):
                        bad = bytearray(good)
                        # Not the server's address, nor its port: whatever comes of it stays here.
                        for at in chance.choices([*range(VNET_LEN), *range(VNET_LEN + 24, len(good))], k=3):
                            bad[at] = chance.randrange(256)
                        bad[VNET_LEN + 22 : VNET_LEN + 24] = good[VNET_LEN + 22 : VNET_LEN + 24]
                        batch.append(bytes(bad))
                    one.send(*batch)
            alive, accepted = await pair(one, other)
            await alive.write(b"alive")
            assert await accepted.read(5) == b"alive"

    run(scenario)
