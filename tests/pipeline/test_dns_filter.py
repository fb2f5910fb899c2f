"""The real dns_filter process between a tun_io and a tracker of the test's own, with real upstreams on loopback."""

import asyncio
import signal
import sys
import tempfile
import time
from pathlib import Path

import pytest

from netstack.packet import datagram
from netstack.wire.messages import Bye, Drain, Learn
from services.dns_filter.framing import frame
from tests.pipeline.dns_filter_world import CLIENT, RESOLVER, WITHIN, World, answering, run, world
from tests.services.dns_filter.messages import address, ask, errors, read, respond, texts
from tests.services.dns_filter.servers import silent, tcp_server, udp_server

CLIENT_V6 = bytes.fromhex("fd006e73000000000000000000000002")
ANY_RESOLVER = bytes([198, 18, 9, 9])
RESOLVER_V6 = bytes.fromhex("20010db8000000000000000000000053")
RECORD = "www.example.com. 600 A 198.18.1.1"


@pytest.mark.parametrize(
    ("client", "server"),
    [(CLIENT, RESOLVER), (CLIENT, ANY_RESOLVER), (CLIENT_V6, RESOLVER_V6)],
    ids=["our resolver's address", "any address", "any IPv6 address"],
)
def test_reply_comes_from_the_address_that_was_asked(client: bytes, server: bytes) -> None:
    async def scenario(one: World) -> None:
        one.send(ask("WWW.example.com.", number=77), client=client, port=4711, server=server)
        got, _ = await one.datagram()
        assert (got.client, got.client_port, got.server, got.server_port) == (server, 53, client, 4711)
        reply = got.payloads[0]
        assert (read(reply).id, texts(reply)) == (77, ["WWW.example.com. 300 A 198.18.1.1"])

    run(scenario, answering(RECORD))


def test_tracker_is_told_before_the_client_is() -> None:
    async def scenario(one: World) -> None:
        one.max_ttl = 240
        records = ["www.example.com. 900 CNAME b.test.", "b.test. 600 A 198.18.1.1", "b.test. 600 A 198.18.1.2"]
        reply = await one.query(ask())
        assert one.journal == ["learn", "answer"]
        (learn,) = one.learned
        assert (learn.name, learn.ttl, learn.client) == ("www.example.com", 600, CLIENT)
        assert set(learn.addresses) == {address("198.18.1.1"), address("198.18.1.2")}
        assert {rrset.ttl for rrset in read(reply).answer} == {240}, records

    run(
        scenario,
        answering("www.example.com. 900 CNAME b.test.", "b.test. 600 A 198.18.1.1", "b.test. 600 A 198.18.1.2"),
    )


@pytest.mark.parametrize(
    ("tracker", "says"), [("silent", "no answer within 2 s"), ("refused", "whitelist-full")], ids=["silent", "refuses"]
)
def test_without_the_trackers_word_there_is_no_answer(tracker: str, says: str) -> None:
    async def scenario(one: World) -> None:
        one.tracker = tracker
        began = time.monotonic()
        reply = await one.query(ask(edns=True))
        assert time.monotonic() - began < 3.0
        assert read(reply).rcode().name == "SERVFAIL"
        assert read(reply).answer == []
        ((code, text),) = errors(reply)
        assert (code, text) == (23, f"tracker-down: the addresses could not be leased: {says}")
        assert (await one.sample()).drops == {"tracker-down": 1}
        one.tracker = "ok"
        assert texts(await one.query(ask(number=2))) == ["www.example.com. 300 A 198.18.1.1"]
        # Late: the client has been refused, and is not answered twice.
        one.acknowledge(one.learned[0])
        assert texts(await one.query(ask(number=3)))
        assert one.frames.empty()

    run(scenario, answering(RECORD))


def test_what_holds_no_address_needs_no_tracker() -> None:
    async def scenario(one: World) -> None:
        one.tracker = "silent"
        reply = await one.query(ask(edns=True))
        assert read(reply).rcode().name == "NXDOMAIN"
        assert errors(reply) == [(15, "on a list of the upstream")]
        assert one.learned == []

    soa = "example.com. 300 SOA ns.test. admin.test. 1 2 3 4 60"
    run(scenario, answering(rcode="NXDOMAIN", authority=(soa,), errors=((15, "on a list of the upstream"),)))


@pytest.mark.parametrize("rcode", ["SERVFAIL", "REFUSED", "NOTIMP"])
def test_rcode_of_the_upstream_is_passed_on(rcode: str) -> None:
    async def scenario(one: World) -> None:
        assert read(await one.query(ask())).rcode().name == rcode

    assert b"down" not in run(scenario, answering(rcode=rcode)).messages


def test_hit_renews_the_lease_and_ages() -> None:
    async def scenario(one: World) -> None:
        one.max_ttl = 1000
        await one.query(ask())
        await asyncio.sleep(1.1)
        (rrset,) = read(await one.query(ask(number=2))).answer
        assert rrset.ttl == 599
        assert one.journal == ["learn", "answer"] * 2
        assert [learn.ttl for learn in one.learned] == [600, 599]
        sample = await one.sample()
        assert (sample.gauges["queries"], sample.gauges["cache_hits"], sample.gauges["cache_entries"]) == (2, 1, 1)

    run(scenario, answering(RECORD))


def test_equal_questions_in_flight_are_asked_once() -> None:
    asked: list[bytes] = []

    def slowly(octets: bytes) -> list[bytes]:
        asked.append(octets)
        return [respond(octets, RECORD)] if len(asked) == 2 else []  # the first datagram is lost

    async def scenario(one: World) -> None:
        for number in range(1, 4):
            one.send(ask(number=number))
        one.send(ask(number=1))
        one.send(ask(number=9), client=bytes([10, 0, 0, 3]))
        ids = {read(await one.answer()).id for _ in range(4)}
        assert ids == {1, 2, 3, 9}
        assert len(asked) == 2
        assert {learn.client for learn in one.learned} == {CLIENT, bytes([10, 0, 0, 3])}
        assert len(one.learned) == 2
        assert one.frames.empty()

    run(scenario, slowly, "dns.timeout=2")


def test_denied_name_and_alias_of_one() -> None:
    async def scenario(one: World) -> None:
        for name in ("ads.test.", "x.ads.test.", "www.example.com."):
            reply = await one.query(ask(name, edns=True))
            assert read(reply).rcode().name == "NXDOMAIN"
            assert errors(reply) == [(15, 'name-denied: deny.names "ads.test"')]
        assert one.learned == []
        assert (await one.sample()).drops == {"name-denied": 3}

    records = ("www.example.com. 60 CNAME ads.test.", "ads.test. 60 A 198.18.1.1")
    run(scenario, answering(*records), 'deny.names=["ads.test"]')


def test_private_address_is_removed() -> None:
    async def scenario(one: World) -> None:
        reply = await one.query(ask(edns=True))
        assert (read(reply).rcode().name, texts(reply)) == ("NOERROR", [])
        ((code, text),) = errors(reply)
        assert (code, text) == (15, "rebind: removed 10.1.2.3; dns.private_names or allow.networks allows it")
        assert one.learned == []
        assert (await one.sample()).drops == {"rebind": 1}

    run(scenario, answering("www.example.com. 60 A 10.1.2.3"))


def test_upstream_that_says_no_with_the_address_of_nothing() -> None:
    async def scenario(one: World) -> None:
        reply = await one.query(ask(edns=True))
        assert errors(reply) == [(15, "rebind: the upstream answered 0.0.0.0: blocked there")]

    run(scenario, answering("www.example.com. 60 A 0.0.0.0"))


def test_silent_upstream_gives_servfail_in_time_and_one_message() -> None:
    async def scenario(one: World) -> None:
        for number in range(4):
            began = time.monotonic()
            reply = await one.query(ask(f"n{number}.test.", edns=True))
            assert time.monotonic() - began < 1.0
            assert read(reply).rcode().name == "SERVFAIL"
            ((code, text),) = errors(reply)
            assert code == 22
            assert str(text).startswith("upstream-timeout: udp://127.0.0.1:")
        sample = await one.sample()
        assert sample.drops == {"upstream-timeout": 4}
        assert sample.notes
        assert sample.notes[0].startswith("no upstream answers")

    messages = run(scenario, silent, "dns.timeout=0.5").messages
    assert messages.count(b"is down") == 1
    assert b"n1.test" not in messages


def test_upstream_that_refuses_and_comes_back() -> None:
    async def play() -> None:
        async with udp_server(silent) as (_, port):
            pass
        async with world(f'dns.upstreams=["udp://127.0.0.1:{port}"]') as one:
            reply = await one.query(ask(edns=True))
            assert errors(reply) == [(23, f"upstream-down: udp://127.0.0.1:{port}: Connection refused")]
            async with udp_server(answering(RECORD), port):
                assert texts(await one.query(ask(number=2)))
                sample = await one.sample()
                assert (sample.drops, sample.notes) == ({"upstream-down": 1}, [])
        assert one.messages.count(b"is down: Connection refused") == 1
        assert one.messages.count(b"is up again") == 1

    asyncio.run(play())


def test_next_upstream_is_asked() -> None:
    async def play() -> None:
        async with udp_server(silent) as (_, dead), tcp_server(answering(RECORD)) as (_, alive):
            upstreams = f'dns.upstreams=["udp://127.0.0.1:{dead}", "tcp://127.0.0.1:{alive}"]'
            async with world(upstreams, "dns.timeout=1") as one:
                assert texts(await one.query(ask()))

    asyncio.run(play())


def test_large_answer_is_truncated_and_then_whole_over_tcp() -> None:
    records = [f"www.example.com. 60 A 198.18.1.{index}" for index in range(100)]

    async def scenario(one: World) -> None:
        reply = await one.query(ask())
        assert len(reply) <= 512
        assert "TC" in str(read(reply))
        async with one.stream() as (reader, writer):
            # Twice, and malformed octets between, split in the middle.
            octets = frame(ask(number=1)) + frame(b"\x12") + frame(ask("b.test.", "TXT", number=2))
            writer.write(octets[:20])
            await writer.drain()
            writer.write(octets[20:])
            got = {}
            for _ in range(2):
                length = int.from_bytes(await asyncio.wait_for(reader.readexactly(2), WITHIN), "big")
                message = await reader.readexactly(length)
                got[read(message).id] = message
            assert len(texts(got[1])) == 100
            assert read(got[2]).rcode().name == "NOERROR"
        assert one.learned[-1].client == CLIENT

    run(scenario, answering(*records))


def test_upstream_that_truncates_is_asked_over_tcp() -> None:
    async def play() -> None:
        async with (
            udp_server(answering(flags="QR TC RD RA")) as (_, port),
            tcp_server(answering(RECORD), port),
            world(f'dns.upstreams=["udp://127.0.0.1:{port}"]') as one,
        ):
            assert texts(await one.query(ask())) == ["www.example.com. 300 A 198.18.1.1"]

    asyncio.run(play())


def test_garbage_is_counted_and_nothing_else_happens() -> None:
    async def scenario(one: World) -> None:
        one.send(b"")
        one.send(b"\x12\x34garbage")
        one.send(respond(ask()))
        one.send_frame(b"\x00" * 30)
        good = datagram.emit(CLIENT, 5000, RESOLVER, 53, ask())
        one.send_frame(bytes(10) + good[10:-1] + b"\xff")
        form_error = await one.query(bytes.fromhex("4242 0100 0001 0000 0000 0000"))
        assert (form_error[:2], form_error[3] & 15) == (b"\x42\x42", 1)
        assert texts(await one.query(ask()))
        drops = (await one.sample()).drops
        assert drops == {"malformed-dns": 4, "malformed-ip": 1, "bad-checksum": 1}
        assert one.frames.empty()

    run(scenario, answering(RECORD))


def test_trace_tells_what_was_done() -> None:
    async def scenario(one: World) -> None:
        await one.trace()
        one.send(ask(), trace_id=42)
        _, trace_id = await one.datagram()
        assert trace_id == 42
        hops = await one.hops(4)
        assert [hop.event for hop in hops] == ["received", "asked upstream", "asked tracker", "answered"]
        assert {(hop.trace_id, hop.stage, hop.worker) for hop in hops} == {(42, "dns_filter", "dns_filter-1")}
        assert hops[1].detail.startswith("www.example.com A udp://127.0.0.1:")
        assert hops[1].service > 0
        assert hops[3].detail == "www.example.com A NOERROR"
        assert one.learned[0].trace_id == 42

    run(scenario, answering(RECORD))


def test_drained_process_finishes_what_it_has_and_leaves() -> None:
    answered: list[bytes] = []

    def slowly(octets: bytes) -> list[bytes]:
        answered.append(octets)
        return [respond(octets, RECORD)] if len(answered) == 2 else []

    async def scenario(one: World) -> None:
        one.send(ask())
        await asyncio.sleep(0.2)
        assert one.process is not None
        one.process.send_signal(signal.SIGUSR1)
        assert texts(await one.answer())
        await one.ended()
        assert [type(message) for message in one.said] == [Drain, Learn, Bye]

    run(scenario, slowly, "dns.timeout=2")


def test_it_is_ready_soon() -> None:
    async def scenario(one: World) -> None:
        # 0.2 s, and twice that of CPU on a machine that others keep busy; what is slow to import comes later.
        assert 0 < one.cpu_until_ready < 1.0

    run(scenario, answering(RECORD))


def test_certificates_that_cannot_be_read_are_said_at_the_start() -> None:
    async def play() -> None:
        with tempfile.TemporaryDirectory(prefix="ns-") as run_dir:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "services.dns_filter", "--run-dir", run_dir, "-s", f'dns.tls_ca="{__file__}"',
                stderr=asyncio.subprocess.PIPE,
            )  # fmt: skip
            _, messages = await asyncio.wait_for(process.communicate(), WITHIN)
            assert process.returncode == 1
            assert b"cannot start: dns.tls_ca = " in messages
            assert b"is no readable file of CA certificates in PEM form" in messages

    asyncio.run(play())


def test_lists_are_in_use_before_the_first_answer_and_read_again_on_sighup(tmp_path: Path) -> None:
    path = tmp_path / "ads.txt"
    path.write_text("0.0.0.0 www.example.com\n")

    async def scenario(one: World) -> None:
        reply = await one.query(ask(edns=True))
        assert read(reply).rcode().name == "NXDOMAIN"
        ((code, text),) = errors(reply)
        assert (code, text.startswith("name-denied: deny.lists"), text.endswith(':1 "www.example.com"')) == (
            15,
            True,
            True,
        )
        sample = await one.sample()
        assert (sample.drops, sample.gauges["listed"]) == ({"name-denied": 1}, 1)
        path.write_text("0.0.0.0 www.example.net\n")
        number = 1
        while one.process.returncode is None and not texts(reply):
            one.process.send_signal(signal.SIGHUP)
            number += 1
            reply = await one.query(ask(number=number))
            await asyncio.sleep(0.05)
        assert texts(reply) == ["www.example.com. 300 A 198.18.1.1"]
        path.unlink()
        while not any("is missing" in note for note in (await one.sample()).notes):
            await asyncio.sleep(0.05)

    run(scenario, answering(RECORD), f'deny.lists=["{path}"]')
