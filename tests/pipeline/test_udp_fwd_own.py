"""The real udp_fwd process with a queue of its own: whose packets it takes by itself, and in which order."""

import os
from collections.abc import Callable, Coroutine

import pytest

from netstack.packet import icmp, ipv4
from netstack.packet.vnet import NO_OFFLOAD, VNET_LEN
from netstack.wire.messages import Fence
from tests.pipeline import world as worlds
from tests.pipeline.udp_world import (
    CLIENT,
    LOOPBACK,
    NOBODY,
    OwnWorld,
    Server,
    packet,
)

NUMBERED = int(os.environ.get("NETSTACK_E2E_DATAGRAMS", "3000"))

MAY_PING = (
    "unshare", "--net", "sh", "-c",
    'ip link set lo up && sysctl -qw net.ipv4.ping_group_range="0 2147483647" && exec "$@"', "sh",
)  # fmt: skip


def run(scenario: Callable[[OwnWorld], Coroutine[None, None, None]], *settings: str) -> None:
    worlds.play(OwnWorld, scenario, *settings)


def offloaded(server: bytes, port: int, payload: bytes, *, client_port: int = 5000, segment: int = 0) -> bytes:
    """As the client's kernel hands it over: its checksum left to us; with segment a train."""
    whole = packet(server, port, payload, client_port=client_port)
    kind = 5 if segment else 0  # VIRTIO_NET_HDR_GSO_UDP_L4
    head = b"\x01" + bytes([kind]) + (28).to_bytes(2, "little") + segment.to_bytes(2, "little") + b"\x14\0\x06\0"
    return head + whole[VNET_LEN:]


async def known(one: OwnWorld, server: Server, *, client_port: int = 5000) -> tuple[str, int]:
    """An endpoint becomes this worker's; gives the address by which the world knows it."""
    one.send(packet(LOOPBACK, server.port, b"first", client_port=client_port))
    data, client = await server.receive()
    assert data == b"first"
    return client


def test_an_endpoint_is_asked_for_once_and_then_comes_and_goes_by_the_queue_alone():
    async def scenario(one: OwnWorld) -> None:
        with Server() as server:
            client = await known(one, server)
            assert len(one.astray) == 1
            for number in range(5):
                one.send(offloaded(LOOPBACK, server.port, b"datagram %d" % number))
                assert await server.receive() == (b"datagram %d" % number, client)
                server.socket.sendto(b"answer %d" % number, client)
                assert (await one.datagram()).payloads == [b"answer %d" % number]
            assert (len(one.astray), one.fences, one.own_packets) == (1, 1, 5)
            assert (await one.sample()).drops == {}

    run(scenario)


def test_numbered_datagrams_leave_once_and_in_order_through_whichever_queue_they_came():
    async def scenario(one: OwnWorld) -> None:
        with Server() as server:
            await known(one, server)
            got: list[int] = []

            async def collect(until: int) -> None:
                while len(got) < until:
                    got.append(int.from_bytes((await server.receive())[0][:4], "big"))

            for start in range(0, NUMBERED, 60):
                numbers = range(start, min(start + 60, NUMBERED))
                frames = [
                    offloaded(LOOPBACK, server.port, number.to_bytes(4, "big").ljust(8 + number % 40 // 13))
                    for number in numbers
                ]
                # The kernel changes its mind where a flow belongs.
                half = len(frames) // 2 if start // 60 % 3 == 2 else len(frames)
                one.send(*frames[:half])
                await one.until(lambda: not one._unsent)
                if half < len(frames):
                    one.send_through_tun_io(*frames[half:])
                await collect(numbers.stop)
            assert got == list(range(NUMBERED))
            assert one.fences > 1

    run(scenario)


def test_what_came_to_tun_io_before_the_kernel_chose_our_queue_leaves_first():
    async def scenario(one: OwnWorld) -> None:
        with Server() as server:
            await known(one, server)
            one.returns = False
            one.said.clear()
            one.send(offloaded(LOOPBACK, server.port, b"younger"))
            await one.until(lambda: any(isinstance(message, Fence) for message in one.said))
            one.send_through_tun_io(offloaded(LOOPBACK, server.port, b"older"))
            assert (await server.receive())[0] == b"older"
            (fence,) = one.said
            one._tun.send(one._identity, fence)
            assert (await server.receive())[0] == b"younger"

    run(scenario)


def test_a_tun_io_that_does_not_answer_is_not_waited_for():
    async def scenario(one: OwnWorld) -> None:
        with Server() as server:
            await known(one, server)
            one.returns = False
            one.send(offloaded(LOOPBACK, server.port, b"held"), offloaded(LOOPBACK, server.port, b"behind it"))
            assert [(await server.receive())[0] for _ in range(2)] == [b"held", b"behind it"]

    run(scenario)


@pytest.mark.parametrize("segment", [0, 1000])
def test_a_burst_leaves_as_the_datagrams_that_it_was(segment: int):
    async def scenario(one: OwnWorld) -> None:
        with Server() as server:
            client = await known(one, server)
            payload = os.urandom(40_500)
            size = segment or 900
            if segment:
                frames = [offloaded(LOOPBACK, server.port, payload, segment=segment)]
            else:
                pieces = [payload[at : at + size] for at in range(0, len(payload), size)]
                frames = [offloaded(LOOPBACK, server.port, piece) for piece in pieces]
            for _ in range(3):
                one.send(*frames)
                expected = [payload[at : at + size] for at in range(0, len(payload), size)]
                assert [await server.receive() for _ in expected] == [(each, client) for each in expected]
            assert (await one.sample()).drops == {}

    run(scenario)


@pytest.mark.parametrize(
    "frame",
    [
        packet(LOOPBACK, 53, b"a question"),
        packet(LOOPBACK, 443, b"QUIC"),
        packet(LOOPBACK, 9, b"x", ttl=1),
        packet(LOOPBACK, 9, b"x", fragment=ipv4.MF),
        packet(LOOPBACK, 9, b"x", fragment=1),
        packet(bytes([224, 0, 0, 251]), 5353, b"x"),
        packet(bytes([255, 255, 255, 255]), 9, b"x"),
        packet(bytes(4), 9, b"x"),
        NO_OFFLOAD + ipv4.emit(CLIENT, LOOPBACK, 132, 20) + bytes(20),
        b"",
        b"noise",
    ],
    ids=[
        "DNS", "QUIC", "TTL 1", "first fragment", "later fragment", "multicast", "broadcast", "unspecified", "SCTP",
        "empty", "noise",
    ],
)  # fmt: skip
def test_what_tun_io_looks_at_is_passed_on_though_the_endpoint_is_ours(frame: bytes):
    async def scenario(one: OwnWorld) -> None:
        with Server() as server:
            await known(one, server)
            one.returns = False
            one.said.clear()
            one.send(*([frame] if frame else []), packet(NOBODY, 7, b"of another endpoint", client_port=6))
            await one.until(lambda: one.astray)
            assert one.astray[: 1 if frame else 0] == ([frame] if frame else [])

    run(scenario)


def test_a_wrong_checksum_or_length_does_not_pass_the_short_way():
    async def scenario(one: OwnWorld) -> None:
        with Server() as server:
            await known(one, server)
            good = offloaded(LOOPBACK, server.port, b"good")
            one.send(good, good)
            assert [(await server.receive())[0] for _ in range(2)] == [b"good"] * 2
            wrong_sum = good[:20] + bytes([good[20] ^ 1]) + good[21:]
            one.send(wrong_sum, good[:-1], good + b"padding", good)
            # Padding is cut off; what is no whole packet goes nowhere.
            assert [(await server.receive())[0] for _ in range(2)] == [b"good"] * 2
            drops = (await one.sample()).drops
            assert sum(drops.values()) == 2, drops

    run(scenario)


def test_an_echo_of_a_known_identifier_needs_no_tun_io():
    async def scenario(one: OwnWorld) -> None:
        for sequence in range(4):
            message = icmp.emit(icmp.ECHO_REQUEST, 0, 77 << 16 | sequence, b"are you there?")
            one.send(NO_OFFLOAD + ipv4.emit(CLIENT, LOOPBACK, icmp.PROTOCOL, len(message)) + message)
            answer = (await one.frame())[VNET_LEN + 20 :]
            assert (answer[0], answer[4:8]) == (icmp.ECHO_REPLY, message[4:8])
        assert (len(one.astray), one.fences) == (1, 1)

    worlds.play(OwnWorld, scenario, prefix=MAY_PING)


def test_a_worker_that_drains_goes_on_with_what_it_has_and_opens_nothing():
    async def scenario(one: OwnWorld) -> None:
        with Server() as server:
            client = await known(one, server)
            one.returns = False
            one.said.clear()
            one.send(packet(LOOPBACK, server.port, b"new", client_port=5002))
            await one.until(lambda: one.astray)
            assert (await one.sample()).gauges["flows"] == 1
            assert client[1] > 0

    run(scenario)
