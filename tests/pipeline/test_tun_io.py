"""The real tun_io process: what it reads from the TUN goes to the right worker, and what workers say is written."""

import random

import pytest

from netstack.packet import icmp, tcp
from netstack.packet.flow import endpoint_key
from netstack.packet.frame import IP
from netstack.packet.vnet import NO_OFFLOAD
from netstack.wire.messages import VERSION
from services.tun_io.device import BURST
from tests.pipeline.tun_world import SERVER, World, key, run, segment
from tests.pipeline.udp_world import icmp_of, packet
from tests.pipeline.world import CLIENT, GATEWAY


def test_nothing_is_read_before_each_stage_has_a_worker():
    async def scenario(one: World) -> None:
        dns = await one.join("dns_filter-1")
        tcp_worker = await one.join("tcp_fwd-1")
        frames = [segment(tcp.SYN, port) for port in range(40000, 40010)]
        await one.send(*frames)
        sample = await one.sample()
        assert (sample.ready_since, sample.packets_in) == (0.0, 0)
        await one.join("udp_fwd-1")
        await one.ready()
        await one.until(lambda: tcp_worker.batches)
        assert [batch.packets for batch in tcp_worker.batches] == [frames]
        assert dns.batches == []
        sample = await one.sample()
        assert sample.ready_since > 0
        assert (sample.packets_in, sample.octets_in) == (10, sum(map(len, frames)))

    run(scenario)


def test_each_kind_of_packet_goes_to_its_stage():
    async def scenario(one: World) -> None:
        dns, tcp_worker, udp_worker = await one.up()
        question = packet(SERVER, 53, b"query")
        datagram = packet(SERVER, 123, b"time?")
        echo = bytearray(packet(SERVER, 0, bytes(8)))
        echo[IP + 9] = icmp.PROTOCOL
        echo[IP + 20 : IP + 28] = bytes([icmp.ECHO_REQUEST, 0, 0, 0, 1, 2, 0, 1])  # identifier 0x0102, number 1
        over_tcp = segment(tcp.SYN)
        await one.send(question, datagram, bytes(echo), over_tcp)
        await one.until(lambda: len(udp_worker.packets) == 2 and dns.packets and tcp_worker.packets)
        assert dns.packets == [question]
        assert udp_worker.packets == [datagram, bytes(echo)]
        assert tcp_worker.packets == [over_tcp]
        gauges = (await one.sample()).gauges
        assert gauges == {
            "fragmented": 0, "queues_lent": 0,
            "tcp_fwd_flows": 1, "udp_fwd_flows": 2,
            "dns_filter_workers": 1, "tcp_fwd_workers": 1, "udp_fwd_workers": 1,
        }  # fmt: skip

    run(scenario)


def test_a_batch_holds_at_most_a_quarter_of_a_mebibyte():
    async def scenario(one: World) -> None:
        await one.join("dns_filter-1")
        tcp_worker = await one.join("tcp_fwd-1")
        udp_worker = await one.join("udp_fwd-1", shares=False)
        await one.ready()
        await one.send(segment(tcp.SYN))
        large = [packet(SERVER, 9, bytes([number]) * 60000) for number in range(12)]
        await one.send(*large)
        await one.until(lambda: len(udp_worker.packets) == 12)
        assert udp_worker.packets == large
        assert all(sum(map(len, batch.packets)) <= 256 << 10 for batch in udp_worker.batches)
        await one.until(lambda: tcp_worker.packets == [segment(tcp.SYN)])

    run(scenario)


def test_flows_are_spread_and_each_stays_with_its_worker():
    async def scenario(one: World) -> None:
        _, first, _ = await one.up()
        second = await one.join("tcp_fwd-2")
        ports = range(40000, 40008)
        await one.send(*(segment(tcp.SYN, port) for port in ports))
        await one.until(lambda: len(first.packets) + len(second.packets) == 8)
        assert len(first.packets) == len(second.packets) == 4
        for worker in (first, second):
            opened = worker.packets
            worker.batches.clear()
            again = [one for port in ports for one in [segment(tcp.ACK, port)] if segment(tcp.SYN, port) in opened]
            await one.send(*again)
            await one.until(lambda worker=worker: len(worker.packets) == 4)
            assert worker.packets == again
        assert (await one.sample()).gauges["tcp_fwd_flows"] == 8

    run(scenario)


def test_a_flow_that_is_over_makes_room_at_its_worker():
    async def scenario(one: World) -> None:
        _, first, _ = await one.up()
        second = await one.join("tcp_fwd-2")
        await one.send(segment(tcp.SYN, 40000), segment(tcp.SYN, 40001))
        await one.until(lambda: first.packets and second.packets)
        second.close_flows(key(40000), key(40001))  # the other's is not its own to close
        while (await one.sample()).gauges["tcp_fwd_flows"] == 2:
            pass
        assert (await one.sample()).gauges["tcp_fwd_flows"] == 1
        first.batches.clear()
        second.batches.clear()
        await one.send(segment(tcp.SYN, 40002))
        await one.until(lambda: second.packets)
        assert first.packets == []

    run(scenario)


def test_a_worker_that_drains_keeps_its_flows_and_gets_no_new_ones():
    async def scenario(one: World) -> None:
        _, first, _ = await one.up()
        await one.send(segment(tcp.SYN, 40000))
        await one.until(lambda: first.packets)
        second = await one.join("tcp_fwd-2")
        first.drain()
        await one.until(lambda: "tcp_fwd-1 drains" in one.log())
        later = [segment(tcp.SYN, port) for port in range(40001, 40005)]
        await one.send(*later, segment(tcp.ACK, 40000))
        await one.until(lambda: len(first.packets) == 2 and len(second.packets) == 4)
        assert first.packets[1] == segment(tcp.ACK, 40000)
        assert second.packets == later
        first.bye()
        await one.until(lambda: "tcp_fwd-1 left" in one.log())
        assert (await one.sample()).gauges["tcp_fwd_workers"] == 1

    run(scenario)


def test_a_worker_of_another_version_is_refused_and_told_of():
    async def scenario(one: World) -> None:
        _, tcp_worker, _ = await one.up()
        stranger = await one.join("tcp_fwd-2", version=VERSION + 1)
        line = f"tcp_fwd-2 speaks version {VERSION + 1} of stage 'tcp_fwd', this tun_io version {VERSION}: refused"
        await one.until(lambda: line in one.log())
        await one.send(*(segment(tcp.SYN, port) for port in range(40000, 40004)))
        await one.until(lambda: len(tcp_worker.packets) == 4)
        assert stranger.packets == []
        sample = await one.sample()
        assert sample.drops["wrong-version"] >= 1
        assert sample.gauges["tcp_fwd_workers"] == 1

    run(scenario)


# --- what it answers by itself ----------------------------------------------------------------------------------------


def test_quic_is_refused_at_once():
    async def scenario(one: World) -> None:
        _, _, udp_worker = await one.up()
        sent = packet(SERVER, 443, b"initial")
        await one.send(sent, packet(SERVER, 444, b"other"))
        assert icmp_of(await one.written()) == (SERVER, icmp.UNREACHABLE, icmp.PORT_UNREACHABLE, sent[IP:])
        await one.until(lambda: udp_worker.packets)
        assert udp_worker.packets == [packet(SERVER, 444, b"other")]
        assert (await one.sample()).drops == {"quic-blocked": 1}

    run(scenario)


@pytest.mark.parametrize(
    ("setting", "forwarded", "drops"),
    [("quic.answer=drop", 1, {"quic-blocked": 1}), ("quic.block=false", 2, {})],
    ids=["silently where it is so configured", "not at all where it is allowed"],
)
def test_quic_is_refused(setting, forwarded, drops):
    async def scenario(one: World) -> None:
        _, _, udp_worker = await one.up()
        await one.send(packet(SERVER, 443, b"initial"), packet(SERVER, 444, b"other"))
        await one.until(lambda: len(udp_worker.packets) == forwarded)
        assert one.nothing_written()
        assert (await one.sample()).drops == drops

    run(scenario, setting)


def test_a_packet_with_no_hop_left_gets_time_exceeded_from_the_gateway():
    async def scenario(one: World) -> None:
        await one.up()
        sent = packet(SERVER, 33434, b"x", ttl=1)
        await one.send(sent)
        assert icmp_of(await one.written()) == (GATEWAY, icmp.TIME_EXCEEDED, 0, sent[IP:])
        assert (await one.sample()).drops == {"ttl-exceeded": 1}

    run(scenario)


def test_fragments_are_forwarded_as_the_whole_that_they_make():
    async def scenario(one: World) -> None:
        _, _, udp_worker = await one.up()
        whole = packet(SERVER, 9, bytes(range(200)), fragment=0)
        upper = whole[IP + 20 :]
        first = packet(SERVER, 9, b"", fragment=0x2000)[: IP + 20] + upper[:104]  # more fragments
        second = packet(SERVER, 9, b"", fragment=13)[: IP + 20] + upper[104:]  # 13 * 8 octets in
        await one.send(_lengthened(second), _lengthened(first))
        await one.until(lambda: udp_worker.packets)
        assert udp_worker.packets[0][IP + 20 :] == upper
        assert (await one.sample()).drops == {}

    run(scenario)


def _lengthened(frame: bytes) -> bytes:
    """With the IP total length that it has, and a header checksum that fits."""
    head = bytearray(frame[IP : IP + 20])
    head[2:4] = (len(frame) - IP).to_bytes(2, "big")
    head[10:12] = bytes(2)
    head[10:12] = (0xFFFF - int.from_bytes(head, "big") % 0xFFFF).to_bytes(2, "big")
    return frame[:IP] + head + frame[IP + 20 :]


# --- traces, limits and noise -----------------------------------------------------------------------------------------


def test_a_traced_packet_is_read_and_its_answer_written_under_one_id():
    async def scenario(one: World) -> None:
        _, tcp_worker, _ = await one.up()
        await one.send(segment(tcp.SYN, 39999))
        await one.until(lambda: tcp_worker.batches)
        assert tcp_worker.batches[0].traced == []
        await one.trace()
        syn = segment(tcp.SYN)
        await one.send(syn)
        await one.until(lambda: len(tcp_worker.batches) == 2)
        [[index, trace_id]] = tcp_worker.batches[1].traced
        assert index == 0
        tcp_worker.write(syn, b"the answer", traced=[[1, trace_id], [7, 5]])  # there is no eighth packet
        read, wrote = await one.hops("wrote")
        assert (read.event, read.trace_id, read.detail) == ("read", trace_id, f"TCP {len(syn)} octets")
        assert (wrote.event, wrote.trace_id, wrote.detail) == ("wrote", trace_id, "10 octets")
        assert 0 < wrote.queue_wait < 5
        assert [await one.written(), await one.written()] == [syn, b"the answer"]

    run(scenario)


def test_a_worker_that_is_behind_costs_only_its_own_packets():
    async def scenario(one: World) -> None:
        _, tcp_worker, udp_worker = await one.up()
        udp_worker.stop_reading()
        sent = 0
        while "queue-full" not in (await one.sample()).drops:
            await one.send(*[packet(SERVER, 9, bytes(1000))] * 400)
            sent += 400
        await one.send(segment(tcp.SYN))
        await one.until(lambda: tcp_worker.packets)
        lost = (await one.sample()).drops["queue-full"]
        udp_worker.read_on()
        await one.until(lambda: len(udp_worker.packets) == sent - lost)

    run(scenario)


def test_what_the_tun_refuses_or_has_no_room_for_is_counted():
    async def scenario(one: World) -> None:
        _, tcp_worker, _ = await one.up()
        tcp_worker.write(bytes(1 << 20), b"fits")  # longer than a packet of any device
        assert await one.written() == b"fits"
        sample = await one.sample()
        assert (sample.drops, sample.packets_out, sample.octets_out) == ({"malformed-ip": 1}, 1, 4)
        for number in range(100):
            tcp_worker.write(*[bytes([number]) * 60000] * 4)
        while sum((await one.sample()).drops.values()) + (await one.sample()).packets_out < 402:
            pass
        sample = await one.sample()
        assert sample.drops["tun-full"] == 402 - sample.packets_out - 1
        assert sample.packets_out > 1

    run(scenario)


def test_octets_that_are_no_message_are_counted():
    async def scenario(one: World) -> None:
        await one.up()
        chance = random.Random(9)
        noise = [b"", b"\xc1", b"\x90", b"\x91\x06", *(chance.randbytes(chance.randrange(3000)) for _ in range(200))]
        one.raw("stranger", *noise)
        while (await one.sample()).drops.get("malformed-frame", 0) < len(noise):
            pass
        assert (await one.sample()).drops == {"malformed-frame": len(noise)}

    run(scenario)


def test_flows_with_impossible_keys_do_no_harm():
    async def scenario(one: World) -> None:
        _, tcp_worker, _ = await one.up()
        odd = await one.join("tcp_fwd-2", flows=(b"", b"x", bytes(13), bytes(100), key(40007)))
        odd.bye()
        await one.until(lambda: "tcp_fwd-2 left" in one.log())
        while (await one.written())[IP + 12 : IP + 20] != SERVER + CLIENT:
            pass
        await one.send(segment(tcp.SYN))
        await one.until(lambda: tcp_worker.packets)

    run(scenario)


def test_noise_from_the_tun_is_counted_and_everything_else_goes_on():
    chance = random.Random(10)

    async def scenario(one: World) -> None:
        _, tcp_worker, udp_worker = await one.up()
        good = packet(SERVER, 9, b"payload")
        noise = [bytes(9), bytes(60), NO_OFFLOAD + b"\x45" + bytes(30), NO_OFFLOAD + b"\x60" + bytes(70)]
        noise += [good[:length] for length in range(1, IP + 28)]
        noise += [chance.randbytes(chance.randrange(1, 200)) for _ in range(5 * BURST)]
        await one.send(*noise, segment(tcp.SYN))
        await one.until(lambda: tcp_worker.packets)
        assert udp_worker.packets == []
        sample = await one.sample()
        assert sample.packets_in == len(noise) + 1
        assert sum(sample.drops.values()) == len(noise)

    run(scenario)


def test_the_flow_table_of_a_stage_is_bounded():
    async def scenario(one: World) -> None:
        _, _, udp_worker = await one.up()
        await one.send(*(packet(SERVER, 9, b"x", client_port=5000 + number) for number in range(6)))
        await one.until(lambda: len(udp_worker.packets) == 4)
        udp_worker.close_flows(endpoint_key(CLIENT, 5000))
        while (await one.sample()).gauges["udp_fwd_flows"] == 4:
            pass
        assert (await one.sample()).drops == {"flow-table-full": 2}
        await one.send(packet(SERVER, 9, b"x", client_port=6000))
        await one.until(lambda: len(udp_worker.packets) == 5)

    run(scenario, "tcp.max_flows=2", "udp.max_flows=2")
