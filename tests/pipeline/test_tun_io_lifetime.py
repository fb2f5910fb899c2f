"""The real tun_io process: workers that end, come back, or fall silent, and tun_io itself killed and started anew."""

from netstack.packet import tcp
from netstack.packet.frame import IP
from netstack.packet.vnet import NO_OFFLOAD
from services.tcp_fwd.segment import parse
from tests.pipeline.tun_world import SERVER, World, key, run, segment
from tests.pipeline.udp_world import packet
from tests.pipeline.world import CLIENT


async def nudged(one: World) -> int:
    """The next packet written is a SYN of the server in a flow of the client's; the client's port."""
    frame = await one.written()
    nudge = parse(frame)  # its checksum holds
    assert frame[:IP] == NO_OFFLOAD
    assert (nudge.flags, nudge.key[:10]) == (tcp.SYN, SERVER + CLIENT + (80).to_bytes(2, "big"))
    return int.from_bytes(nudge.key[10:], "big")


async def with_flows(one: World, *ports: int):
    """A tcp_fwd worker that has been given these flows."""
    _, worker, _ = await one.up()
    await one.send(*(segment(tcp.SYN, port) for port in ports))
    await one.until(lambda: len(worker.packets) == len(ports))
    return worker


def test_a_worker_that_came_back_as_another_process_has_lost_its_flows():
    async def scenario(one: World) -> None:
        worker = await with_flows(one, 40000, 40001, 40002)
        worker.pid += 1
        worker.flows = [key(40001)]
        worker.hello()
        assert {await nudged(one), await nudged(one)} == {40000, 40002}
        sample = await one.sample()
        assert sample.gauges["tcp_fwd_flows"] == 1
        assert sample.drops == {"worker-lost": 2}

    run(scenario)


def test_the_flows_of_a_worker_that_died_are_nudged_and_the_other_workers_go_on():
    async def scenario(one: World) -> None:
        worker = await with_flows(one, 40000, 40001)
        other = await one.join("tcp_fwd-2")
        await one.send(segment(tcp.SYN, 40002))
        await one.until(lambda: other.packets)
        worker.die()
        assert {await nudged(one), await nudged(one)} == {40000, 40001}
        assert "tcp_fwd-1 has gone away; 2 flows were its own" in one.log()
        await one.send(segment(tcp.ACK, 40002), segment(tcp.SYN, 40003))
        await one.until(lambda: len(other.packets) == 3)
        assert one.nothing_written()
        assert (await one.sample()).drops == {"worker-lost": 2}

    run(scenario)


def test_a_worker_that_is_there_but_silent_is_gone_too():
    async def scenario(one: World) -> None:
        worker = await with_flows(one, 40000)
        await one.join("tcp_fwd-2")
        worker.beats = False
        assert await nudged(one) == 40000
        assert "tcp_fwd-1 is silent; 1 flows were its own" in one.log()

    run(scenario)


def test_lost_flows_wait_for_a_worker_that_can_reset_them():
    async def scenario(one: World) -> None:
        worker = await with_flows(one, 40000)
        worker.die()
        await one.until(lambda: "has gone away" in one.log())
        await one.send(segment(tcp.SYN, 40001))
        while "no-worker" not in (await one.sample()).drops:
            pass
        assert one.nothing_written()
        await one.join("tcp_fwd-2")
        assert await nudged(one) == 40000
        assert (await one.sample()).drops == {"worker-lost": 1, "no-worker": 1}

    run(scenario)


def test_the_mappings_of_a_udp_worker_move_to_another():
    async def scenario(one: World) -> None:
        _, _, worker = await one.up()
        datagram = packet(SERVER, 9, b"x")
        await one.send(datagram)
        await one.until(lambda: worker.packets)
        other = await one.join("udp_fwd-2")
        worker.die()
        await one.until(lambda: "udp_fwd-1 has gone away" in one.log())
        await one.send(datagram)
        await one.until(lambda: other.packets == [datagram])
        assert one.nothing_written()

    run(scenario)


def test_a_tun_io_that_was_killed_adopts_the_flows_of_its_workers():
    async def scenario(one: World) -> None:
        worker = await with_flows(one, 40000)
        other = await one.join("tcp_fwd-2")
        worker.flows = [key(40000)]
        assert one.process is not None
        one.process.kill()
        await one.ended()
        await one.start()  # the workers find it by themselves, and it asks them who they are
        await one.ready()
        while (await one.sample()).gauges.get("tcp_fwd_workers") != 2:
            pass
        worker.batches.clear()
        # Nobody has claimed the first: a worker would reset it. Its client sends it again later.
        await one.send(segment(tcp.ACK, 40001), segment(tcp.ACK, 40000), segment(tcp.SYN, 40002))
        await one.until(lambda: worker.packets and other.packets)
        assert worker.packets == [segment(tcp.ACK, 40000)]
        assert other.packets == [segment(tcp.SYN, 40002)]
        sample = await one.sample()
        assert sample.drops == {"flow-unknown": 1}
        assert sample.gauges["tcp_fwd_flows"] == 2

        worker.batches.clear()
        other.batches.clear()
        strays = 0
        while not worker.packets and not other.packets:  # until adoption is over
            await one.send(segment(tcp.ACK, 40001))
            await one.sample()
            strays += 1
        assert strays > 1

    run(scenario)
