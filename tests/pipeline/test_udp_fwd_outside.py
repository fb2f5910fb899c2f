"""udp_fwd in front of a router and a server in network namespaces: echo, and what the network says of packets.

udp_fwd  198.18.1.1  ----  198.18.1.2  router  198.18.2.2  ----  198.18.2.1  server
     2001:db8:1::1         2001:db8:1::2       2001:db8:2::2     2001:db8:2::1
"""

import asyncio
import os
import socket
import subprocess
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path

import pytest

from netstack.packet import frame, icmp, ipv4, ipv6
from netstack.packet.vnet import NO_OFFLOAD, VNET_LEN
from tests.pipeline.udp_world import CLIENT, CLIENT_V6, World, icmp_of, packet, world

pytestmark = pytest.mark.e2e

SERVER = bytes([198, 18, 2, 1])
NEAR = bytes([198, 18, 1, 2])  # the router, as udp_fwd sees it
UNREACHABLE = bytes([198, 18, 3, 1])
PROHIBITED = bytes([198, 18, 4, 1])
NO_ROUTE = bytes([198, 18, 5, 1])
SERVER_V6 = socket.inet_pton(socket.AF_INET6, "2001:db8:2::1")
NEAR_V6 = socket.inet_pton(socket.AF_INET6, "2001:db8:1::2")
SMALL_MTU = 1400  # octets; between router and server

NETWORK = """
{host} ip link add out type veth peer name inn netns {router}
{router} ip link add out type veth peer name inn netns {server}
{host} sysctl -qw net.ipv4.ping_group_range="0 2147483647"
{router} sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
{router} sysctl -qw net.ipv4.icmp_ratemask=0 net.ipv6.icmp.ratelimit=0
{host} ip addr add 198.18.1.1/24 dev out
{host} ip addr add 2001:db8:1::1/64 dev out nodad
{router} ip addr add 198.18.1.2/24 dev inn
{router} ip addr add 2001:db8:1::2/64 dev inn nodad
{router} ip addr add 198.18.2.2/24 dev out
{router} ip addr add 2001:db8:2::2/64 dev out nodad
{server} ip addr add 198.18.2.1/24 dev inn
{server} ip addr add 2001:db8:2::1/64 dev inn nodad
{router} ip link set out mtu 1400
{host} ip link set out up
{router} ip link set inn up
{router} ip link set out up
{server} ip link set inn up
{server} ip link set lo up
{host} ip link set lo up
{host} ip route add 198.18.2.0/23 via 198.18.1.2
{host} ip route add 198.18.4.0/24 via 198.18.1.2
{host} ip route add 2001:db8:2::/64 via 2001:db8:1::2
{server} ip route add default via 198.18.2.2
{server} ip route add default via 2001:db8:2::2
{router} ip route add unreachable 198.18.3.0/24
{router} ip route add prohibit 198.18.4.0/24
"""


class Network:
    """Three namespaces without names, which end with the processes that hold them."""

    def __init__(self) -> None:
        self._holders = [
            subprocess.Popen(["unshare", "--net", "sleep", "120"], stdout=subprocess.DEVNULL) for _ in range(3)
        ]
        own = Path("/proc/self/ns/net").readlink()
        for holder in self._holders:
            while Path(f"/proc/{holder.pid}/ns/net").readlink() == own:
                os.sched_yield()
        pids = [str(holder.pid) for holder in self._holders]
        self.host, self.router, self.server = (("nsenter", "-t", pid, "-n") for pid in pids)

    def set_up(self) -> None:
        pids = [str(holder.pid) for holder in self._holders]
        for line in NETWORK.strip().splitlines():
            whose, rest = line.split(" ", 1)
            prefix = getattr(self, whose.strip("{}"))
            command = rest.format(host=pids[0], router=pids[1], server=pids[2])
            subprocess.run(["sh", "-c", f"exec {' '.join(prefix)} {command}"], check=True, timeout=10)

    def close(self) -> None:
        for holder in self._holders:
            holder.kill()
            holder.wait()


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    one = Network()
    try:
        one.set_up()
        yield one
    finally:
        one.close()


def run(network: Network, scenario: Callable[[World], Coroutine[None, None, None]]) -> None:
    async def play() -> None:
        async with world(prefix=network.host) as one:
            one.allowed |= {SERVER, SERVER_V6, UNREACHABLE, PROHIBITED, NO_ROUTE}
            await scenario(one)

    asyncio.run(play())


def echo(server: bytes, sequence: int, body: bytes, *, identifier: int = 0x1234, ttl: int = 64) -> bytes:
    rest = identifier << 16 | sequence
    if len(server) == 4:
        message = icmp.emit(icmp.ECHO_REQUEST, 0, rest, body)
        return NO_OFFLOAD + ipv4.emit(CLIENT, server, icmp.PROTOCOL, len(message), ttl=ttl) + message
    message = icmp.emit_v6(CLIENT_V6, server, icmp.V6_ECHO_REQUEST, 0, rest, body)
    return NO_OFFLOAD + ipv6.emit(CLIENT_V6, server, icmp.PROTOCOL_V6, len(message), hop_limit=ttl) + message


def message_of(octets: bytes) -> tuple[bytes, bytes]:
    """The source of an ICMP or ICMPv6 packet and its message, its checksum left out."""
    whole = frame.parse(octets)
    message = octets[whole.upper : whole.end]
    return whole.source, message[:2] + message[4:]


@pytest.mark.parametrize(
    ("server", "reply"), [(SERVER, icmp.ECHO_REPLY), (SERVER_V6, icmp.V6_ECHO_REPLY)], ids=["ICMP", "ICMPv6"]
)
def test_an_echo_is_answered_by_the_server_under_the_clients_identifier(network, server, reply):
    async def scenario(one: World) -> None:
        for sequence, size in enumerate((56, 0, 1, 1300), 65530):
            body = os.urandom(size)
            one.send(echo(server, sequence, body))
            source, message = message_of(await one.frame())
            assert source == server
            assert message == bytes([reply, 0]) + b"\x12\x34" + sequence.to_bytes(2, "big") + body
        assert (await one.sample()).gauges == {"flows": 0, "echo_flows": 1, "waiting": 0}

    run(network, scenario)


def test_two_pings_at_once_get_their_own_replies(network):
    async def scenario(one: World) -> None:
        one.send(echo(SERVER, 1, b"first", identifier=1), echo(SERVER, 1, b"second", identifier=2))
        got = {message_of(await one.frame())[1][2:] for _ in range(2)}
        assert got == {b"\0\1\0\1first", b"\0\2\0\1second"}

    run(network, scenario)


def test_echo_to_an_address_without_a_lease_is_prohibited(network):
    async def scenario(one: World) -> None:
        one.allowed.clear()
        sent = echo(SERVER, 1, b"x")
        one.send(sent)
        assert icmp_of(await one.frame()) == (SERVER, icmp.UNREACHABLE, icmp.ADMIN_PROHIBITED, sent[VNET_LEN:])
        one.send(echo(SERVER_V6, 1, b"x"))
        source, message = message_of(await one.frame())
        assert (source, message[:2]) == (SERVER_V6, bytes([icmp.V6_UNREACHABLE, icmp.V6_ADMIN_PROHIBITED]))

    run(network, scenario)


def test_traceroute_sees_each_hop_with_udp_and_with_echo(network):
    async def scenario(one: World) -> None:
        for probe in (
            lambda ttl: packet(SERVER, 33434 + ttl, b"x" * 32, ttl=ttl),
            lambda ttl: echo(SERVER, ttl, b"x" * 32, ttl=ttl),
        ):
            one.send(probe(1), probe(2))
            answers = [icmp_of(await one.frame()) for _ in range(2)]
            assert answers == [
                (bytes([10, 0, 0, 1]), icmp.TIME_EXCEEDED, 0, probe(1)[VNET_LEN:]),
                (NEAR, icmp.TIME_EXCEEDED, 0, probe(2)[VNET_LEN:]),
            ]
        one.send(packet(SERVER, 33437, b"x", ttl=3))
        assert icmp_of(await one.frame())[:3] == (SERVER, icmp.UNREACHABLE, icmp.PORT_UNREACHABLE)
        one.send(echo(SERVER, 3, b"x", ttl=3))
        assert message_of(await one.frame())[0] == SERVER

    run(network, scenario)


def test_traceroute_over_ipv6_with_several_echoes_in_flight(network):
    async def scenario(one: World) -> None:
        sent = [echo(SERVER_V6, number, b"y" * 24, ttl=2) for number in range(8)]
        one.send(*sent)
        for expected in sent:
            source, message = message_of(await one.frame())
            assert (source, message[:2]) == (NEAR_V6, bytes([icmp.V6_TIME_EXCEEDED, 0]))
            assert message[6:] == expected[VNET_LEN:]

    run(network, scenario)


@pytest.mark.parametrize(
    ("server", "expected"),
    [
        (UNREACHABLE, (NEAR, icmp.UNREACHABLE, icmp.HOST_UNREACHABLE)),
        (PROHIBITED, (NEAR, icmp.UNREACHABLE, icmp.ADMIN_PROHIBITED)),
        (NO_ROUTE, (bytes([10, 0, 0, 1]), icmp.UNREACHABLE, icmp.NET_UNREACHABLE)),
    ],
    ids=["a router's host unreachable", "a router's prohibition", "no route here: the gateway says so"],
)
def test_unreachable_is_said_to_the_client(network, server, expected):
    async def scenario(one: World) -> None:
        sent = packet(server, 9, b"x")
        one.send(sent)
        assert icmp_of(await one.frame()) == (*expected, sent[VNET_LEN:])
        sent = echo(server, 1, b"x")
        one.send(sent)
        assert icmp_of(await one.frame()) == (*expected, sent[VNET_LEN:])

    run(network, scenario)


def test_a_smaller_mtu_on_the_path_is_said_to_the_client_and_obeyed_for_it(network):
    async def scenario(one: World) -> None:
        sent = packet(SERVER, 9, bytes(1472))
        for teller in (NEAR, bytes([10, 0, 0, 1])):  # the router the first time; then the host knows
            one.send(sent)
            octets = await one.frame()
            source, kind, code, quote = icmp_of(octets)
            assert (source, kind, code) == (teller, icmp.UNREACHABLE, icmp.FRAGMENTATION_NEEDED)
            assert int.from_bytes(octets[VNET_LEN + 26 : VNET_LEN + 28], "big") == SMALL_MTU
            assert quote == sent[VNET_LEN : VNET_LEN + 548]
        # Without DF the same datagram is fragmented on the way: the closed port is what answers.
        one.send(packet(SERVER, 9, bytes(1472), fragment=0))
        assert icmp_of(await one.frame())[:3] == (SERVER, icmp.UNREACHABLE, icmp.PORT_UNREACHABLE)
        # A train above the path MTU is told so too, and one below it arrives.
        one.send(*[packet(SERVER, 9, bytes(1400))] * 3)
        assert icmp_of(await one.frame())[2] == icmp.FRAGMENTATION_NEEDED
        one.send(*[packet(SERVER, 10, bytes(1300))] * 3)
        await one.until(one.frames.qsize)
        codes = set()
        while not one.frames.empty():
            codes.add(icmp_of(await one.frame())[2])
        assert icmp.PORT_UNREACHABLE in codes

    run(network, scenario)


def test_without_the_sysctl_the_status_says_what_to_type(network):
    def allow(groups: str) -> None:
        subprocess.run([*network.host, "sysctl", "-qw", f"net.ipv4.ping_group_range={groups}"], check=True, timeout=10)

    async def refused(one: World) -> None:
        one.send(echo(SERVER, 1, b"x"))
        await asyncio.sleep(0.2)
        sample = await one.sample()
        assert sample.drops == {"no-ping-socket": 1}
        (note,) = sample.notes
        assert note.startswith("ICMP echo is not forwarded: net.ipv4.ping_group_range (1 0) does not hold group 0 ")
        assert note.endswith('type: sysctl -w net.ipv4.ping_group_range="0 2147483647"')
        allow("0 2147483647")
        one.send(echo(SERVER, 2, b"x"))
        await one.frame()
        assert (await one.sample()).notes == []

    allow("1 0")
    try:
        run(network, refused)
    finally:
        allow("0 2147483647")
