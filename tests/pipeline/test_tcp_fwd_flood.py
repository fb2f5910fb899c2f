"""The real tcp_fwd process: 100,000 SYNs from everywhere, and clients beyond each limit."""

import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from netstack.packet import tcp
from netstack.packet.flow import Flow
from netstack.packet.seqnum import MASK, diff
from netstack.wire.messages import Closed, FromTun
from services.tcp_fwd.limits import FLOOR
from services.tcp_fwd.segment import Emitter
from tests.pipeline import world as worlds
from tests.pipeline.tcp_world import Client, Server, World, digest, pair, run
from tests.pipeline.world import LOOPBACK, NOBODY

FLOOD = 100_000  # SYNs
BATCH = 64
OPTIONS = tcp.emit_options(tcp.Options(mss=1460, window_scale=7))
MIB = 1 << 20


class Flooded(World):
    """What answers the flood goes nowhere: its clients do not exist."""

    answers = 0

    def __init__(self, run_dir: Path) -> None:
        super().__init__(run_dir)
        self.between: list[bytes] = []
        """What others send while the flood goes on."""

    def deliver(self, packet: bytes, trace_id: int) -> None:
        try:
            super().deliver(packet, trace_id)
        except KeyError:
            self.answers += 1

    async def forgotten(self) -> int:
        """How many flows tun_io need not remember any more, once that is told."""
        beats = self.beats
        await self.until(lambda: self.beats > beats + 1)
        return len({key for message in self.said if isinstance(message, Closed) for key in message.flows})

    async def flood(self, server: bytes, port: int, addresses: int) -> int:
        """FLOOD SYNs from so many addresses, as fast as they are taken; the most memory that was used, in octets."""
        most = 0
        for batch in _syns(server, port, addresses):
            frames = [*self.between, *batch]
            self.between = []
            while not self._tun.send(self._identity, FromTun(0.0, frames, [])):
                most = max(most, resident(self))
                await asyncio.sleep(0.001)
        for frame in self.between:
            await _offer(self, frame)
        return max(most, resident(self))


def _syns(server: bytes, port: int, addresses: int) -> Iterator[list[bytes]]:
    """Each from an address and a port of its own."""
    batch = []
    for number in range(FLOOD):
        client = bytes([172, 16]) + (number % addresses).to_bytes(2, "big")
        flow = Flow(tcp.PROTOCOL, server, port, client, 1024 + number // addresses)
        batch.append(Emitter(flow, 1460).emit(number, 0, tcp.SYN, 0xFFFF, b"", OPTIONS))
        if len(batch) == BATCH:
            yield batch
            batch = []
    yield batch


def resident(one: World) -> int:
    """Octets of memory that the process holds (proc(5))."""
    assert one.process is not None
    return int(Path(f"/proc/{one.process.pid}/statm").read_text().split()[1]) * 4096


@pytest.mark.parametrize(
    ("target", "addresses"),
    [("reached", 2), ("reached", 60_000), ("silent", 60_000), ("not allowed", 2)],
)
def test_a_flood_of_syns_leaves_memory_bounded_and_lets_others_through(target, addresses):
    async def scenario(one: Flooded) -> None:
        with Server() as server, Server(backlog=0) as busy, socket.create_connection(("127.0.0.1", busy.port)):
            client, accepted = await pair(one, server)
            before = resident(one)
            address = NOBODY if target == "not allowed" else LOOPBACK
            most = await one.flood(address, busy.port if target == "silent" else server.port, addresses)
            with Server() as other:
                took = [await _connect(one, other, number) for number in range(3)]
            assert min(took) < 1.0
            assert most - before < 48 * MIB
            await asyncio.gather(client.write(b"still here"), accepted.read(10))
            sample = await one.sample()
            assert await one.forgotten() > FLOOD - 2 * 4096, "all but those that are here or wait"
            assert sample.drops["half-open-limit"] > FLOOD / 2
            assert set(sample.drops) <= {"half-open-limit", "not-whitelisted", "refused-too-often"}
            assert sample.gauges["half_open"] <= 4096

    worlds.play(Flooded, scenario)


def test_while_a_flood_goes_on_others_get_through():
    async def scenario(one: Flooded) -> None:
        with Server() as server, Server() as other:
            flood = asyncio.ensure_future(one.flood(LOOPBACK, server.port, 2))
            clock = asyncio.get_running_loop().time
            took = []
            while not flood.done():
                began = clock()
                one.between.append(one.client(other.port, client_port=50000 + len(took)).frame(tcp.SYN))
                await other.accept()
                took.append(clock() - began)
            assert min(took) < 1.0

    worlds.play(Flooded, scenario)


async def _offer(one: World, *frames: bytes) -> None:
    """Send segments in one batch as soon as the link has room."""
    while not one._tun.send(one._identity, FromTun(0.0, list(frames), [])):
        await asyncio.sleep(0.001)


async def _connect(one: World, server: Server, number: int) -> float:
    """The seconds until a connection is open, a SYN that was lost being sent again as RFC 6298 has it."""
    clock = asyncio.get_running_loop().time
    began = clock()
    client = one.client(server.port, client_port=50000 + number)
    accepting = asyncio.ensure_future(server.accept())
    while not accepting.done():
        await _offer(one, client.frame(tcp.SYN))
        await asyncio.wait([accepting], timeout=1.0)
    await accepting
    return clock() - began


def test_flows_of_one_client_beyond_its_limit_are_refused_and_others_are_not():
    async def scenario(one: World) -> None:
        with Server() as server, Server("::1") as other:
            await pair(one, server)
            await pair(one, server, 40001)
            refused = one.client(server.port, client_port=40002).syn()
            segment, _ = await refused.receive()
            assert (segment.flags, segment.ack) == (tcp.RST | tcp.ACK, refused.seq)
            await pair(one, other)  # the client's IPv6 address counts for itself
            assert (await one.sample()).drops == {"client-limit": 1}
            await one.over(refused)

    run(scenario, "tcp.max_flows_per_client=2")


def test_the_oldest_half_open_flow_gives_way_without_a_word_and_may_ask_again():
    async def scenario(one: World) -> None:
        with Server(backlog=0) as busy, Server() as server, socket.create_connection(("127.0.0.1", busy.port)):
            first = one.client(busy.port, client_port=40001).syn()
            while (await one.sample()).gauges["half_open"] < 1:
                pass
            one.client(busy.port, client_port=40002).syn()
            while (await one.sample()).gauges["half_open"] < 2:
                pass
            await pair(one, server)
            while (sample := await one.sample()).gauges["half_open"] == 2:
                pass  # the last acknowledgement of the handshake is on its way
            assert sample.drops == {"half-open-limit": 1}
            assert (sample.gauges["half_open"], sample.gauges["flows"]) == (1, 2)
            assert first.segments.empty()

    run(scenario, "tcp.max_half_open=2")


# --- octets that wait -------------------------------------------------------------------------------------------------


def test_octets_in_all_are_bounded_and_arrive_whole():
    async def scenario(one: World) -> None:
        payload = os.urandom(12 * MIB)  # more than the kernel's buffers hold
        with Server(buffer=16 << 10) as server:
            ends = [await pair(one, server, 40000 + number) for number in range(3)]
            uploads = [asyncio.ensure_future(_upload(one, client, payload)) for client, _ in ends]
            used = 0
            async with asyncio.timeout(10):
                while not (await one.sample()).drops.get("buffer-full"):
                    await asyncio.sleep(0.01)
            for _ in range(20):
                used = max(used, (await one.sample()).gauges["buffered"])
            # What was in the batch that filled it is beyond the limit.
            assert MIB <= used <= MIB + (256 << 10)
            refused = one.client(server.port, client_port=40009).syn()
            assert (await refused.receive())[0].flags == tcp.RST | tcp.ACK
            got = await asyncio.gather(*(accepted.read(len(payload)) for _, accepted in ends))
            assert {digest(octets) for octets in got} == {digest(payload)}
            await asyncio.gather(*uploads)
            assert (await one.sample()).gauges["buffered"] == 0

    run(scenario, f"tcp.max_buffered={MIB}")


async def _upload(one: World, client: Client, payload: bytes) -> None:
    """Send all of it, from the last acknowledgement on whenever a while passes without another."""
    first, end = client.seq, (client.seq + len(payload)) & MASK
    while client.acknowledged != end:
        room = min(client.peer_window, diff(end, client.acknowledged)) - diff(client.seq, client.acknowledged)
        if room > 0:
            at = diff(client.seq, first)
            data = payload[at : at + min(room, 30_000)]
            await _offer(one, client.frame(tcp.ACK | tcp.PSH, data))
            client.seq = (client.seq + len(data)) & MASK
        try:
            while room <= 0 or not client.segments.empty():
                before = client.acknowledged
                async with asyncio.timeout(0.2):
                    await client.receive()
                room = 1 if client.acknowledged != before else room
        except TimeoutError:
            client.seq = client.acknowledged
        await asyncio.sleep(0)


def test_a_client_that_does_not_acknowledge_is_given_its_share_and_the_rest_waits_in_the_kernel():
    async def scenario(one: World) -> None:
        with Server() as server:
            ends = [await pair(one, server, 40000 + number) for number in range(4)]
            stuffed = [0] * len(ends)
            for index, (client, accepted) in enumerate(ends):
                # What is acknowledged first makes the congestion window wider than the share.
                await asyncio.gather(accepted.write(bytes(4 * MIB)), client.read(4 * MIB))
                while taken := accepted.stuff(bytes(MIB)):
                    stuffed[index] += taken
                    await asyncio.sleep(0.01)
            sample = await one.sample()
            assert MIB // 4 < sample.gauges["buffered"] <= MIB + len(ends) * FLOOR
            assert sample.drops == {}
            # Whoever acknowledges is given more.
            client, _ = ends[0]
            assert len(await client.read(stuffed[0])) == stuffed[0] > MIB

    run(scenario, f"tcp.max_buffered={MIB}")


def test_clients_that_send_only_out_of_order_leave_memory_bounded_and_others_go_on():
    flows = 2000

    async def scenario(one: World) -> None:
        with Server(backlog=flows) as server:
            busy, accepted = await pair(one, server, 1024)
            ends = [one.client(server.port, client_port=2000 + number) for number in range(flows)]
            for begin in range(0, flows, 100):
                await asyncio.gather(*(client.connect() for client in ends[begin : begin + 100]))
            before = resident(one)
            for client in ends:
                one_by_one = [client.frame(tcp.ACK, b"x", seq=client.seq + 60_010 + 2 * at) for at in range(20)]
                await _offer(one, client.frame(tcp.ACK, bytes(60_000), seq=client.seq + 1), *one_by_one)
            await asyncio.gather(busy.write(bytes(MIB)), accepted.read(MIB))
            sample = await one.sample()
            assert sample.drops["out-of-order-limit"] > flows
            assert sample.gauges["buffered"] <= MIB
            assert resident(one) - before < 16 * MIB  # of 120 MiB
            # What was dropped was not acknowledged, and comes again.
            first = ends[-1]
            await first.write(bytes(60_100))
            for begin in range(0, flows, 100):
                await _offer(one, *(client.frame(tcp.RST) for client in ends[begin : begin + 100]))
            while (sample := await one.sample()).gauges["flows"] > 1:
                await asyncio.sleep(0.01)
            assert sample.gauges["buffered"] == 0

    run(scenario, f"tcp.max_buffered={4 * MIB}", "tcp.max_flows_per_client=4096")
