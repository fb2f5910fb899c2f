"""The real udp_fwd process between a tun_io and a tracker of the test's own, with real servers on loopback."""

import asyncio
import itertools
import os
import socket

import pytest

from netstack.packet import datagram, frame, icmp, ipv4, udp, vnet
from netstack.packet.flow import endpoint_key
from netstack.packet.vnet import NO_OFFLOAD, VNET_LEN
from netstack.wire.messages import Closed
from services.tun_io.reassembly import Reassembler
from tests.pipeline.udp_world import (
    CLIENT,
    CLIENT_V6,
    GATEWAY,
    LOOPBACK,
    LOOPBACK_V6,
    NOBODY,
    WITHIN,
    Server,
    World,
    icmp_of,
    packet,
    packet_v6,
    run,
)


def test_datagrams_go_both_ways_and_keep_their_boundaries():
    async def scenario(one: World) -> None:
        with Server() as server:
            for size in (1, 0, 512, 1472, 9000, 65507):
                payload = os.urandom(size)
                one.send(packet(LOOPBACK, server.port, payload, fragment=0))
                got, client = await server.receive()
                assert got == payload
                server.socket.sendto(payload[::-1], client)
                back = await one.datagram()
                assert back.payloads == [payload[::-1]]
                assert (back.client, back.client_port) == (LOOPBACK, server.port)
                assert (back.server, back.server_port) == (CLIENT, 5000)

    run(scenario)


def test_ipv6_goes_both_ways():
    async def scenario(one: World) -> None:
        with Server(socket.AF_INET6, "::1") as server:
            for size in (1, 0, 1452):
                payload = os.urandom(size)
                one.send(packet_v6(server.port, payload))
                got, client = await server.receive()
                assert got == payload
                server.socket.sendto(payload, client)
                back = await one.datagram()
                assert (back.client, back.server, back.payloads) == (LOOPBACK_V6, CLIENT_V6, [payload])

    run(scenario)


def test_one_client_endpoint_has_one_socket_for_all_its_servers():
    async def scenario(one: World) -> None:
        with Server() as first, Server() as second:
            one.send(packet(LOOPBACK, first.port, b"a"), packet(LOOPBACK, second.port, b"b"))
            assert (await first.receive())[1] == (await second.receive())[1]
            one.send(packet(LOOPBACK, first.port, b"c", client_port=5001))
            other = (await first.receive())[1]
            one.send(packet(LOOPBACK, first.port, b"d"))
            assert (await first.receive())[1] != other

    run(scenario)


def test_another_port_of_the_same_address_may_answer_and_another_address_may_not():
    async def scenario(one: World) -> None:
        with Server() as server, Server() as sibling, Server(host="127.0.0.2") as stranger:
            one.send(packet(LOOPBACK, server.port, b"read file"))
            _, client = await server.receive()
            stranger.socket.sendto(b"not asked", client)
            sibling.socket.sendto(b"data", client)
            back = await one.datagram()
            assert (back.client_port, back.payloads) == (sibling.port, [b"data"])
            assert (await one.sample()).drops == {"flow-unknown": 1}

    run(scenario)


def test_datagrams_before_the_verdict_wait_in_order():
    async def scenario(one: World) -> None:
        with Server() as server:
            one.silent = True
            one.send(*(packet(LOOPBACK, server.port, bytes([number])) for number in range(20)))
            await one.until(lambda: one.said)
            assert (await one.sample()).gauges["waiting"] == 16
            one.answer_all()
            assert [(await server.receive())[0][0] for _ in range(16)] == list(range(16))
            sample = await one.sample()
            assert sample.drops == {"buffer-full": 4}
            assert sample.gauges == {"flows": 1, "echo_flows": 0, "waiting": 0}

    run(scenario)


def test_a_refused_destination_gets_administratively_prohibited():
    async def scenario(one: World) -> None:
        sent = packet(NOBODY, 9999, b"x")
        one.send(sent)
        source, kind, code, quote = icmp_of(await one.frame())
        assert (source, kind, code) == (NOBODY, icmp.UNREACHABLE, icmp.ADMIN_PROHIBITED)
        assert quote == sent[VNET_LEN:]
        sample = await one.sample()
        assert sample.drops == {"not-whitelisted": 1}
        assert sample.gauges["flows"] == 0
        await one.until(lambda: Closed([endpoint_key(CLIENT, 5000)]) in one.said)

    run(scenario)


def test_the_fifty_first_refusal_is_silent():
    async def scenario(one: World) -> None:
        for _ in range(50):
            one.send(packet(NOBODY, 9999, b"x"))
            await one.frame()
        one.send(*[packet(NOBODY, 9999, b"x")] * 10)
        await asyncio.sleep(0.1)
        assert one.frames.empty()
        assert (await one.sample()).drops == {"not-whitelisted": 50, "refused-too-often": 10}

    run(scenario)


@pytest.mark.parametrize(
    ("destination", "slug"),
    [
        (bytes([224, 0, 0, 251]), "multicast"),
        (bytes([255, 255, 255, 255]), "multicast"),
        (bytes([10, 0, 0, 255]), "multicast"),
        (bytes(4), "malformed-ip"),
    ],
    ids=[
        "mDNS",
        "limited broadcast",
        "broadcast of the TUN's network",
        "the unspecified address, which Linux takes for itself",
    ],
)
def test_what_is_refused_at_sight_is_counted_and_not_answered(destination, slug):
    async def scenario(one: World) -> None:
        one.silent = True
        one.send(packet(destination, 5353, b"x"))
        await one.until(lambda: one.said)
        assert (await one.sample()).drops == {slug: 1}
        assert one.frames.empty()
        assert one.said == [Closed([endpoint_key(CLIENT, 5000)])], "tun_io need not remember whose it would be"

    run(scenario)


def test_a_closed_port_is_port_unreachable_quoting_the_clients_packet():
    async def scenario(one: World) -> None:
        with Server() as server:
            closed = server.port
        sent = packet(LOOPBACK, closed, b"anybody there?")
        one.send(sent)
        assert icmp_of(await one.frame()) == (LOOPBACK, icmp.UNREACHABLE, icmp.PORT_UNREACHABLE, sent[VNET_LEN:])

    run(scenario)


def test_a_closed_port_over_ipv6_is_port_unreachable():
    async def scenario(one: World) -> None:
        with Server(socket.AF_INET6, "::1") as server:
            closed = server.port
        one.send(packet_v6(closed, b"x"))
        octets = await one.frame()
        whole = frame.parse(octets)
        assert (whole.source, whole.protocol) == (LOOPBACK_V6, icmp.PROTOCOL_V6)
        assert octets[whole.upper : whole.upper + 2] == bytes([icmp.V6_UNREACHABLE, icmp.V6_PORT_UNREACHABLE])

    run(scenario)


def test_an_error_of_one_server_costs_no_datagram_to_another():
    async def scenario(one: World) -> None:
        with Server() as server:
            with Server() as gone:
                closed = gone.port
            one.publish([LOOPBACK], 300.0)
            await asyncio.sleep(0.1)
            for number in range(50):
                one.send(packet(LOOPBACK, closed, b"x"), packet(LOOPBACK, server.port, bytes([number])))
            assert [(await server.receive())[0][0] for _ in range(50)] == list(range(50))
            for _ in range(50):
                assert icmp_of(await one.frame())[1:3] == (icmp.UNREACHABLE, icmp.PORT_UNREACHABLE)

    run(scenario)


def test_a_packet_with_no_hop_left_gets_time_exceeded_from_the_gateway():
    async def scenario(one: World) -> None:
        sent = packet(LOOPBACK, 33434, b"x", ttl=1)
        one.send(sent)
        assert icmp_of(await one.frame()) == (GATEWAY, icmp.TIME_EXCEEDED, 0, sent[VNET_LEN:])
        assert (await one.sample()).drops == {"ttl-exceeded": 1}

    run(scenario)


def test_ttl_and_tos_are_carried_over():
    async def scenario(one: World) -> None:
        with Server() as server:
            server.socket.setsockopt(socket.IPPROTO_IP, socket.IP_RECVTOS, 1)
            server.socket.setsockopt(socket.IPPROTO_IP, 12, 1)  # IP_RECVTTL
            for ttl, tos in ((64, 0), (64, 0xB8), (2, 0xB8), (255, 0)):
                one.send(packet(LOOPBACK, server.port, b"x", ttl=ttl, tos=tos))
                await one.until(lambda: _readable(server.socket))
                _, ancillary, _, _ = server.socket.recvmsg(100, 100)
                values = {kind: int.from_bytes(data, "little") for _, kind, data in ancillary}
                assert values == {socket.IP_TTL: ttl - 1, socket.IP_TOS: tos}

    run(scenario)


def test_ttl_and_tos_of_an_answer_reach_the_client_and_its_port_the_server():
    async def scenario(one: World) -> None:
        with Server() as probe:
            free = probe.port
        with Server() as server:
            one.send(packet(LOOPBACK, server.port, b"x", client_port=free))
            _, client = await server.receive()
            assert client == ("127.0.0.1", free)
            for ttl, tos in ((64, 0xB9), (2, 0)):
                server.socket.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, ttl)
                server.socket.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, tos)
                server.socket.sendto(b"answer", client)
                got = await one.datagram()
                assert (got.payloads, got.ttl, got.tos) == ([b"answer"], ttl - 1, tos)
            server.socket.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 1)
            server.socket.sendto(b"a router would not pass this on", client)
            server.socket.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 64)
            server.socket.sendto(b"but this", client)
            assert (await one.datagram()).payloads == [b"but this"]
            assert (await one.sample()).drops == {"ttl-exceeded": 1}

    run(scenario)


def test_an_answer_above_the_mtu_is_whole_for_the_tuns_own_client_and_fragmented_for_one_beyond_it():
    async def scenario(one: World) -> None:
        beyond = bytes([10, 0, 0, 77])
        answer = os.urandom(5000)
        with Server() as server:
            one.send(packet(LOOPBACK, server.port, b"x"))
            server.socket.sendto(answer, (await server.receive())[1])
            assert (await one.datagram()).payloads == [answer]
            upper = udp.emit(beyond, LOOPBACK, 5000, server.port, b"x")
            one.send(NO_OFFLOAD + ipv4.emit(beyond, LOOPBACK, udp.PROTOCOL, len(upper)) + upper)
            server.socket.sendto(answer, (await server.receive())[1])
            reassembler = Reassembler()
            whole = None
            while whole is None:
                piece = await one.frame()
                assert len(piece) <= VNET_LEN + 1500
                whole = reassembler.add(piece, 0.0).frame
            got = datagram.parse(whole)
            assert (got.client, got.server, got.payloads) == (LOOPBACK, beyond, [answer])

    run(scenario)


def _readable(one: socket.socket) -> bool:
    try:
        one.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    return True


def test_a_train_of_the_client_arrives_as_its_datagrams():
    async def scenario(one: World) -> None:
        payload = os.urandom(1200 * 7 + 100)
        whole = datagram.emit(CLIENT, 5000, LOOPBACK, 0, payload)
        with Server() as server:
            header = vnet.emit(vnet.GSO_UDP_L4, 28, 1200, 20, 6)
            whole = header + datagram.emit(CLIENT, 5000, LOOPBACK, server.port, payload)[VNET_LEN:]
            one.send(whole, packet(LOOPBACK, server.port, b"after"))
            got = [(await server.receive())[0] for _ in range(9)]
            assert [len(each) for each in got] == [1200] * 7 + [100, 5]
            assert b"".join(got) == payload + b"after"

    run(scenario)


def test_a_batch_of_datagrams_of_every_size_arrives_once_and_in_order():
    async def scenario(one: World) -> None:
        sizes = [1200] * 40 + [0, 1200, 1, 1, 1200, 0, 0, 7, 1300] + [1400] * 64
        sent = [bytes([number]) * size for number, size in enumerate(sizes)]
        with Server() as server, Server() as other:
            one.publish([LOOPBACK], 300.0)
            await asyncio.sleep(0.1)
            one.send(*(packet(LOOPBACK, server.port, payload) for payload in sent))
            got = [(await server.receive())[0] for _ in sent]
            assert got == sent
            mixed = [packet(LOOPBACK, (server, other)[n % 2].port, bytes([n])) for n in range(20)]
            one.send(*mixed)
            assert [(await server.receive())[0][0] for _ in range(10)] == list(range(0, 20, 2))
            assert [(await other.receive())[0][0] for _ in range(10)] == list(range(1, 20, 2))

    run(scenario)


def test_a_train_of_the_server_comes_back_whole():
    async def scenario(one: World) -> None:
        with Server() as server:
            one.send(packet(LOOPBACK, server.port, b"go"))
            _, client = await server.receive()
            payload = os.urandom(1200 * 20 + 33)
            segment = [(socket.IPPROTO_UDP, 103, (1200).to_bytes(2, "little"))]
            server.socket.sendmsg([payload], segment, 0, client)
            got = b""
            while len(got) < len(payload):
                back = await one.datagram()
                assert {len(each) for each in back.payloads[:-1]} <= {1200}
                got += b"".join(back.payloads)
            assert got == payload

    run(scenario)


def test_while_tun_io_is_behind_nothing_is_read_from_servers_and_nothing_is_lost():
    async def scenario(one: World) -> None:
        with Server() as server, Server() as other:
            one.send(packet(LOOPBACK, server.port, b"go"))
            _, client = await server.receive()
            one.stop_reading()
            numbers = itertools.count()
            # Those of two senders in turn join no train.
            senders = itertools.cycle((server, other))

            def come(count: int) -> None:
                for number in itertools.islice(numbers, count):
                    next(senders).socket.sendto(number.to_bytes(4, "big") * 50, client)

            while not (await one.sample()).queue:
                come(200)
            come(1000)  # the socket holds 4 MiB
            sample = await one.sample()
            assert 0 < sample.queue < 4
            count = next(numbers)
            assert sample.packets_out < count
            one.read_on()
            got = [(await one.datagram()).payloads[0] for _ in range(count)]
            assert got == [number.to_bytes(4, "big") * 50 for number in range(count)]

    run(scenario)


def test_a_traced_datagram_and_its_answer_carry_one_id():
    async def scenario(one: World) -> None:
        with Server() as server:
            await one.trace()
            one.send(packet(LOOPBACK, server.port, b"ping"), trace_id=77)
            _, client = await server.receive()
            server.socket.sendto(b"pong", client)
            assert (await asyncio.wait_for(one.frames.get(), WITHIN))[1] == 77
            hops = await one.hops("answered")
            assert [hop.event for hop in hops] == ["received", "asked tracker", "sent", "answered"]
            assert hops[2].detail == f"127.0.0.1:{server.port} 4 octets"
            assert {hop.trace_id for hop in hops} == {77}
            one.send(packet(NOBODY, 1, b"x"), trace_id=78)
            assert (await one.hops("refused"))[-1].detail == "not-whitelisted"

    run(scenario)


def test_noise_is_counted_and_everything_else_goes_on():
    async def scenario(one: World) -> None:
        with Server() as server:
            one.send(b"", b"\x00" * 9, os.urandom(40), NO_OFFLOAD + b"\x45" + bytes(30), packet(LOOPBACK, 1, b"x")[:-1])
            one.send(packet(LOOPBACK, server.port, b"x"))
            await server.receive()
            drops = (await one.sample()).drops
            assert sum(drops.values()) == 5
            assert all(slug.startswith(("malformed-", "bad-checksum", "fragment")) for slug in drops)

    run(scenario)
