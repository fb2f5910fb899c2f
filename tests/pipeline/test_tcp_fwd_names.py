"""The real tcp_fwd process: the names that flows give, and which of them are refused."""

import asyncio

import pytest

from netstack.packet import tcp
from netstack.wire.messages import Check
from tests.pipeline.tcp_world import Server, World, pair, run
from tests.pipeline.world import LOOPBACK
from tests.services.tcp_fwd.hellos import python_hello

ENFORCE = "tcp.sni=enforce"
REQUEST = b"GET / HTTP/1.1\r\nHost: %s\r\n\r\n"
WWW = [python_hello("www.test"), REQUEST % b"www.test"]
OTHER = [python_hello("other.test"), REQUEST % b"other.test"]
IDS = ["TLS", "HTTP"]


async def gauges(one: World) -> tuple[int, int, int]:
    """Flows with a name, flows without one, and names that are wrong."""
    found = (await one.sample()).gauges
    return found["sni_named"], found["sni_unnamed"], found["sni_mismatch"]


def questions(one: World) -> int:
    return sum(isinstance(message, Check) for message in one.said)


@pytest.mark.parametrize("setting", ["tcp.sni=log", ENFORCE])
@pytest.mark.parametrize("octets", WWW, ids=IDS)
def test_the_right_name_passes(octets, setting):
    async def scenario(one: World) -> None:
        one.names = ["www.test"]
        with Server() as server:
            client, accepted = await pair(one, server)
            await client.write(octets)
            assert await accepted.read(len(octets)) == octets
            assert await gauges(one) == (1, 0, 0)

    run(scenario, setting)


@pytest.mark.parametrize("octets", OTHER, ids=IDS)
def test_a_wrong_name_is_reset_at_both_ends_and_nothing_of_it_gets_out(octets):
    async def scenario(one: World) -> None:
        one.names = ["www.test"]
        with Server() as server:
            client, accepted = await pair(one, server)
            client.send(tcp.ACK | tcp.PSH, octets)
            assert (await client.reset()).seq == client.ack
            with pytest.raises(ConnectionResetError):
                await accepted.read(1)
            sample = await one.sample()
            assert sample.drops == {"sni-mismatch": 1}
            assert (sample.gauges["sni_mismatch"], sample.gauges["flows"]) == (1, 0)

    run(scenario, ENFORCE)


@pytest.mark.parametrize("octets", OTHER, ids=IDS)
@pytest.mark.parametrize(
    "settings",
    [[], ["tcp.sni=log"], [ENFORCE, "whitelist.mode=audit"], [ENFORCE, "whitelist.mode=off"]],
    ids=["as it comes", "log", "the whitelist only audits", "the whitelist is off"],
)
def test_without_enforcement_a_wrong_name_is_counted_and_passes(octets, settings):
    async def scenario(one: World) -> None:
        one.names = ["www.test"]
        with Server() as server:
            client, accepted = await pair(one, server)
            await client.write(octets)
            assert await accepted.read(len(octets)) == octets
            assert await gauges(one) == (1, 0, 1)
            assert (await one.sample()).drops == {}

    run(scenario, *settings)


def test_off_looks_at_nothing():
    async def scenario(one: World) -> None:
        one.names = ["www.test"]
        with Server() as server:
            client, accepted = await pair(one, server)
            await client.write(OTHER[0])
            assert await accepted.read(len(OTHER[0])) == OTHER[0]
            assert not any(name.startswith("sni") for name in (await one.sample()).gauges)

    run(scenario, "tcp.sni=off")


def test_a_lease_that_was_published_needs_no_question():
    async def scenario(one: World) -> None:
        one.silent = True
        one.publish([LOOPBACK], 300.0, "www.test")
        while (await one.sample()).gauges["leases"] == 0:
            pass
        with Server() as server:
            client, accepted = await pair(one, server)
            await client.write(WWW[0])
            assert await accepted.read(len(WWW[0])) == WWW[0]
            assert questions(one) == 0

    run(scenario, ENFORCE)


def test_a_name_that_is_not_known_here_is_asked_for_and_may_be_right():
    async def scenario(one: World) -> None:
        one.publish([LOOPBACK], 300.0, "a.test")
        while (await one.sample()).gauges["leases"] == 0:
            pass
        one.names = ["a.test", "www.test"]
        one.silent = True
        with Server() as server:
            client, accepted = await pair(one, server)
            client.send(tcp.ACK | tcp.PSH, WWW[0])
            await one.until(lambda: questions(one) == 1)
            assert accepted.nothing()
            one.answer_all()
            assert await accepted.read(len(WWW[0])) == WWW[0]
            # From then on it is known.
            again, accepted = await pair(one, server, 40001)
            one.silent = True
            await again.write(WWW[1])
            assert await accepted.read(len(WWW[1])) == WWW[1]
            assert questions(one) == 1

    run(scenario, ENFORCE)


def test_names_that_came_with_a_lease_that_goes_on_are_not_those_of_every_address():
    async def scenario(one: World) -> None:
        one.publish([LOOPBACK], 300.0, "www.test", "other.test")  # a Touch: the names of all the addresses together
        while (await one.sample()).gauges["leases"] == 0:
            pass
        one.names = ["www.test"]
        with Server() as server:
            client, _ = await pair(one, server)
            client.send(tcp.ACK | tcp.PSH, OTHER[0])
            await client.reset()

    run(scenario, ENFORCE)


def test_while_the_tracker_is_silent_a_name_that_is_not_known_is_refused():
    async def scenario(one: World) -> None:
        one.publish([LOOPBACK], 300.0, "a.test")
        while (await one.sample()).gauges["leases"] == 0:
            pass
        one.silent = True
        with Server() as server:
            client, _ = await pair(one, server)
            client.send(tcp.ACK | tcp.PSH, WWW[0])
            await client.reset()
            assert (await one.sample()).drops == {"tracker-down": 1}

    run(scenario, ENFORCE)


@pytest.mark.parametrize(
    ("octets", "settings"),
    [
        (REQUEST % b"127.0.0.1", []),
        (REQUEST % b"127.0.0.1:8080", []),
        (OTHER[0], ['allow.networks=["127.0.0.0/8"]']),
        (python_hello(None), []),
    ],
    ids=["the address itself", "the address with a port", "an address that needs no name", "no name at all"],
)
def test_what_no_name_can_be_held_against_passes(octets, settings):
    async def scenario(one: World) -> None:
        one.names = ["www.test"]
        with Server() as server:
            client, accepted = await pair(one, server)
            await client.write(octets)
            assert await accepted.read(len(octets)) == octets
            assert (await gauges(one))[2] == 0

    run(scenario, ENFORCE, *settings)


def test_an_address_that_is_allowed_without_any_name_lets_every_name_through():
    async def scenario(one: World) -> None:
        with Server() as server:
            client, accepted = await pair(one, server)
            await client.write(OTHER[0])
            assert await accepted.read(len(OTHER[0])) == OTHER[0]
            assert await gauges(one) == (1, 0, 0)

    run(scenario, ENFORCE)


# --- in pieces --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("octets", OTHER, ids=IDS)
def test_enforced_octet_by_octet_nothing_gets_out_before_the_name_is_known(octets):
    async def scenario(one: World) -> None:
        one.names = ["www.test"]
        with Server() as server:
            client, accepted = await pair(one, server)
            numbered = enumerate(octets[:-1], start=client.seq)
            one.send(*(client.frame(tcp.ACK, bytes([octet]), seq=number) for number, octet in numbered))
            client.seq = (client.seq + len(octets) - 1) & 0xFFFFFFFF
            await client.answers()
            assert accepted.nothing()
            client.send(tcp.ACK | tcp.PSH, octets[-1:])
            await client.reset()
            assert (await one.sample()).drops == {"sni-mismatch": 1}

    run(scenario, ENFORCE)


def test_only_logged_no_octet_waits():
    async def scenario(one: World) -> None:
        one.names = ["www.test"]
        with Server() as server:
            client, accepted = await pair(one, server)
            for octet in WWW[0]:
                client.send(tcp.ACK | tcp.PSH, bytes([octet]))
                assert await accepted.read(1) == bytes([octet])
            assert await gauges(one) == (1, 0, 0)

    run(scenario)


def test_half_a_client_hello_waits_a_second_and_no_longer():
    async def scenario(one: World) -> None:
        one.names = ["www.test"]
        half, rest = WWW[0][:100], WWW[0][100:]
        with Server() as server:
            client, accepted = await pair(one, server)
            clock = asyncio.get_running_loop().time
            began = clock()
            await client.write(half)
            assert accepted.nothing()
            assert await accepted.read(len(half)) == half
            assert 0.9 < clock() - began < 2.0
            await client.write(rest)
            assert await accepted.read(len(rest)) == rest
            assert await gauges(one) == (1, 0, 0)

    run(scenario, ENFORCE)


def test_a_wrong_name_that_comes_late_is_refused_all_the_same():
    async def scenario(one: World) -> None:
        one.names = ["www.test"]
        half, rest = OTHER[0][:100], OTHER[0][100:]
        with Server() as server:
            client, accepted = await pair(one, server)
            await client.write(half)
            assert await accepted.read(len(half)) == half
            client.send(tcp.ACK | tcp.PSH, rest)
            await client.reset()
            assert (await one.sample()).drops == {"sni-mismatch": 1}

    run(scenario, ENFORCE)


def test_a_client_that_ends_without_having_named_anything_waits_no_longer():
    async def scenario(one: World) -> None:
        with Server() as server:
            client, accepted = await pair(one, server)
            clock = asyncio.get_running_loop().time
            began = clock()
            client.send(tcp.ACK | tcp.PSH | tcp.FIN, b"a word")
            assert await accepted.read() == b"a word"
            assert clock() - began < 0.8
            assert await gauges(one) == (0, 1, 0)

    run(scenario, ENFORCE)


def test_a_reset_while_octets_wait_ends_the_flow():
    async def scenario(one: World) -> None:
        with Server() as server:
            client, accepted = await pair(one, server)
            client.send(tcp.ACK | tcp.PSH, WWW[0][:100])
            await client.answers()
            client.send(tcp.RST)
            with pytest.raises(ConnectionResetError):
                await accepted.read()
            assert (await one.sample()).gauges["flows"] == 0
            # Another flow goes on when the second is over that the first would have waited.
            other, accepted = await pair(one, server, 40001)
            await other.write(WWW[0][:100])
            assert await accepted.read(100) == WWW[0][:100]

    run(scenario, ENFORCE)


@pytest.mark.parametrize(
    "octets",
    [b"GET / HTTP/1.1\r\nX: " + b"x" * (32 << 10), b"\x16\x03\x01\x40\x00\x01\x00\xff\xff" + bytes(32 << 10)],
    ids=IDS,
)
def test_more_than_the_limit_without_a_name_passes_at_once(octets):
    async def scenario(one: World) -> None:
        one.names = ["www.test"]
        with Server() as server:
            client, accepted = await pair(one, server)
            clock = asyncio.get_running_loop().time
            began = clock()
            await asyncio.gather(client.write(octets), accepted.read(len(octets)))
            assert clock() - began < 0.8
            assert await gauges(one) == (0, 1, 0)

    run(scenario, ENFORCE)


# --- other protocols --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "octets",
    [b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n", b"*1\r\n$4\r\nPING\r\n", bytes.fromhex("00000008 04d2162f"), bytes(100)],
    ids=["SSH", "Redis", "PostgreSQL", "zeros"],
)
def test_enforced_other_protocols_do_not_wait(octets):
    async def scenario(one: World) -> None:
        one.names = ["www.test"]
        with Server() as server:
            client, accepted = await pair(one, server)
            clock = asyncio.get_running_loop().time
            began = clock()
            client.send(tcp.ACK | tcp.PSH, octets)
            assert await accepted.read(len(octets)) == octets
            assert clock() - began < 0.8
            assert await gauges(one) == (0, 1, 0)

    run(scenario, ENFORCE)


def test_enforced_a_server_that_speaks_first_is_heard_at_once_and_its_client_never_waits():
    async def scenario(one: World) -> None:
        one.names = ["www.test"]
        with Server() as server:
            client, accepted = await pair(one, server)
            clock = asyncio.get_running_loop().time
            began = clock()
            await accepted.write(b"login: ")
            assert await client.read(7) == b"login: "
            for octet in b"root":  # each could be the beginning of a request
                client.send(tcp.ACK | tcp.PSH, bytes([octet]))
                assert await accepted.read(1) == bytes([octet])
            assert clock() - began < 0.8
            assert await gauges(one) == (0, 1, 0)

    run(scenario, ENFORCE)


def test_a_traced_flow_tells_its_name():
    async def scenario(one: World) -> None:
        one.names = ["www.test"]
        await one.trace()
        with Server() as server:
            client = await one.client(server.port).syn(trace_id=77).synchronized()
            accepted = await server.accept()
            await client.write(OTHER[0])
            hop = (await one.hops("refused"))[-1]
            assert hop.trace_id == 77
            assert hop.detail == f"10.0.0.2:40000 > 127.0.0.1:{server.port} sni-mismatch"
            with pytest.raises(ConnectionResetError):
                await accepted.read()
            again = await one.client(server.port, client_port=40001).syn(trace_id=78).synchronized()
            await again.write(WWW[0])
            assert (await one.hops("named"))[-1].detail.endswith(f"127.0.0.1:{server.port} tls www.test")

    run(scenario, ENFORCE)
