"""The real tcp_fwd process: how connections open and carry octets, with real servers on loopback."""

import asyncio
import ipaddress
import os
import socket
from pathlib import Path

import pytest

from netstack.packet import icmp, tcp
from netstack.packet.vnet import VNET_LEN
from netstack.wire.messages import Check, Closed
from tests.pipeline.tcp_world import BOTH_WAYS, SCALE, Client, Server, World, digest, pair, run, unreachable
from tests.pipeline.world import CLIENT, LOOPBACK, NOBODY

NOBODY_V6 = socket.inet_pton(socket.AF_INET6, "2001:db8::9")
MIB = 1 << 20
FLOWS = 60  # enough to fill the link to tun_io


# --- opening ----------------------------------------------------------------------------------------------------------


@BOTH_WAYS
def test_the_syn_is_answered_only_after_the_verdict_and_the_connect(kind):
    async def scenario(one: World) -> None:
        one.silent = True
        with Server() as server:
            client = one.client(server.port).syn()
            await one.until(lambda: one.said)
            assert one.said == [Check(1, CLIENT, LOOPBACK, server.port, tcp.PROTOCOL, 0)]
            assert (await one.sample()).packets_out == 0
            one.answer_all()
            await client.synchronized()
            await server.accept()

    run(scenario, kind=kind)


def test_a_server_that_does_not_answer_yet_leaves_the_syn_unanswered():
    async def scenario(one: World) -> None:
        with Server(backlog=0) as busy, Server() as server, socket.create_connection(("127.0.0.1", busy.port)):
            waiting = one.client(busy.port).syn()
            await one.client(server.port, client_port=40001).connect()
            assert waiting.segments.empty()
            await busy.accept()  # now there is room; the kernel sends its SYN again within a second
            await waiting.synchronized()

    run(scenario)


def test_a_connect_that_takes_too_long_ends_in_silence():
    async def scenario(one: World) -> None:
        with Server(backlog=0) as busy, socket.create_connection(("127.0.0.1", busy.port)):
            client = one.client(busy.port).syn()
            await one.until(lambda: Closed([client.key]) in one.said)
            sample = await one.sample()
            assert sample.drops == {"connect-timeout": 1}
            assert (sample.packets_out, sample.gauges["flows"]) == (0, 0)

    run(scenario, "tcp.connect_timeout=0.2")


@BOTH_WAYS
def test_a_closed_port_refuses(kind):
    async def scenario(one: World) -> None:
        with Server() as server:
            closed = server.port
        client = one.client(closed).syn()
        segment, _ = await client.receive()
        assert (segment.flags, segment.seq, segment.ack) == (tcp.RST | tcp.ACK, 0, client.seq)
        assert (await one.sample()).drops == {"connection-refused": 1}
        await one.over(client)

    run(scenario, kind=kind)


@pytest.mark.parametrize(
    ("reason", "slug"),
    [
        ("not-whitelisted", "not-whitelisted"),
        ("encrypted-dns", "encrypted-dns"),
        ("a reason of tomorrow", "not-whitelisted"),
    ],
    ids=["no lease", "a resolver's address", "a slug that this version does not know"],
)
def test_a_refused_destination_resets(reason, slug):
    async def scenario(one: World) -> None:
        one.reason = reason
        client = one.client(9999, server=NOBODY).syn()
        segment, _ = await client.receive()
        assert (segment.flags, segment.seq, segment.ack) == (tcp.RST | tcp.ACK, 0, client.seq)
        assert (await one.sample()).drops == {slug: 1}

    run(scenario)


def test_the_fifty_first_refusal_is_silent():
    async def scenario(one: World) -> None:
        clients = [one.client(9999, server=NOBODY, client_port=40000 + number) for number in range(60)]
        one.send(*(client.frame(tcp.SYN) for client in clients))
        for client in clients[:50]:
            assert (await client.receive())[0].flags == tcp.RST | tcp.ACK
        sample = await one.sample()
        assert sample.drops["refused-too-often"] == 10
        assert sample.packets_out == 50
        assert sample.gauges["flows"] == 0

    run(scenario)


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("server", "route", "expected"),
    [
        (NOBODY, "true", (icmp.UNREACHABLE, 0)),
        (NOBODY, "ip link set lo up; ip route add unreachable 198.18.0.0/24", (icmp.UNREACHABLE, 1)),
        (NOBODY_V6, "true", (icmp.V6_UNREACHABLE, 0)),
        (NOBODY_V6, "ip link set lo up; ip route add unreachable 2001:db8::/64", (icmp.V6_UNREACHABLE, 3)),
        (NOBODY, "ip link set lo up; ip route add prohibit 198.18.0.0/24", (icmp.UNREACHABLE, 13)),
        (NOBODY_V6, "ip link set lo up; ip route add prohibit 2001:db8::/64", (icmp.V6_UNREACHABLE, 1)),
    ],
    ids=[
        "no route is network unreachable",
        "a router's no is host unreachable",
        "no IPv6 route",
        "an IPv6 router's no",
        "a route that prohibits",
        "an IPv6 route that prohibits",
    ],
)
def test_what_the_network_says_of_the_syn_is_passed_on_as_icmp(server, route, expected):
    async def scenario(one: World) -> None:
        one.allowed.add(server)
        client = one.client(80, server=server)
        syn = client.frame(tcp.SYN)
        client.syn()
        source, *said, quote = unreachable(await one.frame())
        assert tuple(said) == expected
        gateway = ipaddress.ip_address("10.0.0.1" if len(server) == 4 else "fd00:6e73::1").packed
        assert (source, quote) == (gateway, syn[VNET_LEN:])
        assert client.segments.empty()
        assert set((await one.sample()).drops) <= {"host-unreachable", "net-unreachable", "admin-prohibited"}

    run(scenario, prefix=("unshare", "--net", "sh", "-c", f'{route}; exec "$@"', "sh"))


def test_a_tracker_that_is_silent_for_two_seconds_is_a_refusal():
    async def scenario(one: World) -> None:
        one.silent = True
        client = one.client(80).syn()
        assert (await client.receive())[0].flags == tcp.RST | tcp.ACK
        assert (await one.sample()).drops == {"tracker-down": 1}

    run(scenario)


def test_a_full_flow_table_refuses():
    async def scenario(one: World) -> None:
        with Server() as server:
            await pair(one, server)
            other = one.client(server.port, client_port=40001).syn()
            segment, _ = await other.receive()
            assert (segment.flags, segment.ack) == (tcp.RST | tcp.ACK, other.seq)
            assert (await one.sample()).drops == {"flow-table-full": 1}

    run(scenario, "tcp.max_flows=1")


# --- octets -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"], ids=["IPv4", "IPv6"])
@BOTH_WAYS
def test_octets_go_both_ways(host, kind):
    async def scenario(one: World) -> None:
        with Server(host) as server:
            client, accepted = await pair(one, server)
            for size in (1, 1460, 4096, 200_000):
                payload = os.urandom(size)
                await asyncio.gather(client.write(payload), accepted.read(size))
                reader = asyncio.ensure_future(client.read(size))
                await accepted.write(payload)
                assert digest(await reader) == digest(payload)

    run(scenario, kind=kind)


@BOTH_WAYS
def test_an_upload_arrives_whole_and_in_order(kind):
    async def scenario(one: World) -> None:
        payload = os.urandom(4 * MIB)
        with Server() as server:
            client, accepted = await pair(one, server)
            got, _ = await asyncio.gather(accepted.read(len(payload)), client.write(payload))
            assert digest(got) == digest(payload)

    run(scenario, kind=kind)


def test_a_download_arrives_whole_in_large_segments():
    async def scenario(one: World) -> None:
        payload = os.urandom(4 * MIB)
        with Server() as server:
            client, accepted = await pair(one, server)
            got, _ = await asyncio.gather(client.read(len(payload)), accepted.write(payload))
            assert digest(got) == digest(payload)
            assert (await one.sample()).packets_out < 400

    run(scenario)


@BOTH_WAYS
def test_a_large_segment_without_offload_marks_is_verified_and_written_whole(kind):
    async def scenario(one: World) -> None:
        with Server() as server:
            client, accepted = await pair(one, server)
            payload = os.urandom(9000)
            whole = client.frame(tcp.ACK | tcp.PSH, payload)
            segment = bytearray(whole)
            at = VNET_LEN + 20 + tcp.CHECKSUM_OFFSET
            segment[:VNET_LEN] = bytes(VNET_LEN)  # forwarded into the TUN by a kernel: complete
            one.send(bytes(segment))
            segment[at : at + 2] = (0xFFFF - _ones_sum(segment[VNET_LEN + 20 :])).to_bytes(2, "big")
            one.send(bytes(segment))
            assert await accepted.read(9000) == payload
            assert (await one.sample()).drops == {"bad-checksum": 1}

    run(scenario, kind=kind)


def _ones_sum(octets: bytearray) -> int:
    """The sum that completes a checksum field which holds the pseudo-header's (RFC 1071)."""
    return int.from_bytes(octets + bytes(len(octets) % 2), "big") % 0xFFFF


@BOTH_WAYS
def test_octets_out_of_order_wait_for_their_turn(kind):
    async def scenario(one: World) -> None:
        with Server() as server:
            client, accepted = await pair(one, server)
            first = client.seq
            client.send(tcp.ACK, b"world", seq=first + 6)
            segment, _ = await client.receive()
            assert segment.ack == first
            client.send(tcp.ACK, b"hello ", seq=first)
            assert await accepted.read(11) == b"hello world"

    run(scenario, kind=kind)


# --- back-pressure ----------------------------------------------------------------------------------------------------


def test_a_server_that_does_not_read_closes_the_window_and_what_is_kept_is_bounded():
    async def scenario(one: World) -> None:
        payload = os.urandom(24 * MIB)
        with Server(buffer=64 << 10) as server:
            client, accepted = await pair(one, server)
            before = _resident(one)
            upload = asyncio.ensure_future(client.write(payload))
            await one.until(lambda: client.acknowledged == client.seq and client.peer_window < 1460)
            assert _resident(one) - before < 12 * MIB
            assert not upload.done()
            assert digest(await accepted.read(len(payload))) == digest(payload)
            await upload

    run(scenario)


def _resident(one: World) -> int:
    """Octets of memory that the process holds (proc(5))."""
    assert one.process is not None
    return int(Path(f"/proc/{one.process.pid}/statm").read_text().split()[1]) * 4096


def test_a_client_that_does_not_read_stops_the_server():
    async def scenario(one: World) -> None:
        payload = os.urandom(16 * MIB)
        with Server() as server:
            client = one.client(server.port)
            client.window = 64 << 10
            await client.connect()
            accepted = await server.accept()
            sending = asyncio.ensure_future(accepted.write(payload))
            got = bytearray()
            while len(got) < 60 << 10:  # what is acknowledged does not open the window again
                segment, _ = await client.receive()
                behind = (client.ack - segment.seq) & 0xFFFFFFFF
                got += segment.payload[behind:]
                client.ack = (client.ack + len(segment.payload[behind:])) & 0xFFFFFFFF
                client.window = (64 << 10) - len(got)
                client.send()
            sample = await one.sample()
            assert sample.octets_out < 80 << 10
            assert not sending.done()
            client.window = 0
            client.send()
            probe, _ = await client.receive()
            assert (probe.seq, probe.length) == ((client.ack - 1) & 0xFFFFFFFF, 0)
            client.window = 0xFFFF << SCALE
            client.send()
            got += await client.read(len(payload) - len(got))
            assert digest(got) == digest(payload)
            await sending

    run(scenario)


def test_while_tun_io_is_behind_what_it_cannot_take_waits_and_nothing_is_lost():
    async def scenario(one: World) -> None:
        chunk = os.urandom(700)
        sent: dict[Client, bytearray] = {}
        with Server(backlog=FLOWS) as server:
            pairs = [await pair(one, server, client_port=40000 + number) for number in range(FLOWS)]
            await pairs[-1][0].answers()
            one.stop_reading()
            for client, accepted in pairs:
                # The initial congestion window of each, in messages of their own: nothing is acknowledged.
                sent[client] = bytearray()
                for _ in range(20):
                    sent[client] += chunk[: accepted.stuff(chunk)]
                    await asyncio.sleep(0.001)
                if (await one.sample()).queue:
                    break
            assert (await one.sample()).queue > 0
            # It has stopped: the rest stays in the kernel until that is full too.
            more = os.urandom(MIB)
            await one.until(lambda: not _stuffed(accepted, more, sent[client]))
            one.read_on()
            for each, octets in sent.items():
                assert digest(await each.read(len(octets))) == digest(octets)
            assert (await one.sample()).queue == 0

    run(scenario)


def _stuffed(accepted, data: bytes, sent: bytearray) -> int:
    taken = accepted.stuff(data)
    sent += data[:taken]
    return taken
