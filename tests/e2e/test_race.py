"""The race between an answer and its lease: whoever connects the moment a name is answered is never refused."""

import json
import os
import re
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path

import dns.message
import dns.rdatatype
import pytest
from scapy.utils import RawPcapReader

from tests.internet import Internet, Sandbox, wait_until, zones
from tests.internet.capture import Capture
from tests.internet.fresh_names import address_of
from tests.internet.machine import started

TIMES = int(os.environ.get("NETSTACK_E2E_RACE", "400"))
AT_ONCE = 16
DELAY = (0, 40)  # milliseconds that what goes to Redis, and what comes from it, waits
STOP_AND_GO = ("60", "200")  # milliseconds for which the tracker is stopped, and goes on in between, at most
SET = re.compile(r'^(\d+\.\d+) \[\d+ lua\] "SET" "netstack:lease:([0-9a-f.:]+)"')


@contextmanager
def fresh_names(internet: Internet) -> Iterator[str]:
    """The upstream whose every name has an address of its own, where nginx answers."""
    routes = [["-4", zones.FRESH_V4], ["-6", zones.FRESH_V6]]
    for family, network in routes:
        internet.net.run(["ip", family, "route", "add", "local", network, "dev", "lo"]).ok()
    try:
        with started(internet.net, "tests.internet.fresh_names", zones.DNS, str(zones.FRESH_PORT)):
            yield f'["udp://{zones.DNS}:{zones.FRESH_PORT}"]'
    finally:
        for family, network in routes:
            internet.net.run(["ip", family, "route", "del", "local", network, "dev", "lo"]).ok()


@contextmanager
def answers_seen(sandbox: Sandbox, path: Path) -> Iterator[Capture]:
    """What arrives from port 53 in the captured network."""
    options = ["-i", "tun0", "-n", "-U", "--immediate-mode", "-B", "8192", "-s", "512", "-Z", "root", "-w", str(path)]
    running = sandbox.start(["tcpdump", *options, "udp src port 53"])
    capture = Capture(running, path)
    try:
        capture.wait_ready()
        yield capture
    finally:
        running.stop()


def when_answered(path: Path) -> dict[str, float]:
    """By address: when the answer that told it first came out of the TUN, in Unix time."""
    answered: dict[str, float] = {}
    with RawPcapReader(str(path)) as reader:
        for packet, meta in reader:
            datagram = packet[(packet[0] & 0x0F) * 4 :]
            message = dns.message.from_wire(datagram[8 : struct.unpack_from(">H", datagram, 4)[0]])
            for rrset in message.answer:
                for record in rrset:
                    answered.setdefault(record.address, meta.sec + meta.usec / 1e6)
    return answered


def when_stored(path: Path) -> dict[str, float]:
    """By address: when Redis, by its own clock, first set its lease, in Unix time."""
    stored: dict[str, float] = {}
    for line in path.read_text().splitlines():
        if match := SET.match(line):
            stored.setdefault(str(ip_address(match[2])), float(match[1]))
    return stored


@pytest.mark.timeout(60 + TIMES / 20)
def test_who_connects_at_once_is_not_refused_and_no_answer_is_released_before_its_lease_is_stored(
    internet: Internet, folder: Path
) -> None:
    slow, log, seen = folder / "slow.sock", folder / "monitor", folder / "answers.pcap"
    with internet.redis() as redis, fresh_names(internet) as upstreams, log.open("wb") as monitored:
        monitor = internet.host.start(["redis-cli", "-s", redis, "monitor"], stdout=monitored)
        wait_until(lambda: log.read_bytes() == b"OK\n", 5, "Redis tells what it does")
        settings = {
            "dns.upstreams": upstreams, "whitelist.store": f"unix://{slow}",
            "workers.dns_filter": "2", "workers.tcp_fwd": "2",
        }  # fmt: skip
        with (
            started(internet.host, "tests.internet.slow_socket", slow, redis, *map(str, DELAY)),
            internet.sandbox(settings) as sandbox,
            answers_seen(sandbox, seen) as capture,
        ):
            tracker = str(sandbox.process("tracker")["pid"])
            with started(internet.host, "tests.internet.stop_and_go", tracker, *STOP_AND_GO):
                client = [sys.executable, "-m", "tests.e2e.race_client", "10.0.0.1", str(TIMES), str(AT_ONCE)]
                came = json.loads(sandbox.run(client, timeout=50 + TIMES / 20).ok().text)
            assert came == {"connected": TIMES}
            capture.stop()
            processes = sandbox.status()
        monitor.stop()
    refused = {reason for process in processes for reason in process["drops"]}
    assert not refused & {"not-whitelisted", "tracker-down", "refused-too-often"}, processes
    # All of them had to do with it.
    for stage, least in (("dns_filter", TIMES // 10), ("tcp_fwd", TIMES // 10)):
        took = [process["packets_in"] for process in processes if process["stage"] == stage]
        assert len(took) == 2, processes
        assert min(took) > least, took
    answered, stored = when_answered(seen), when_stored(log)
    wanted = {address_of(number) for number in range(TIMES)}
    assert set(answered) == wanted
    early = {address for address in wanted if answered[address] <= stored[address]}
    assert not early
