"""Real programs that speak UDP: each does its job by name, over IPv4 and IPv6."""

import json
import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.calls import reports, udp_client_command
from tests.internet import Internet, Running, Sandbox, wait_until, zones
from tests.internet.machine import Place
from tests.internet.zones import COUNTER_PORT, ECHO_PORT, IPERF_PORT, OTHER_DNS_PORT

STEADY = os.environ.get("NETSTACK_E2E_STEADY", "2")
"""Seconds of a game's 60 datagrams a second each way, and of a call's 50; 300 is what a release is tested with."""
NUMBERED = int(os.environ.get("NETSTACK_E2E_NUMBERED", "5000"))
"""Datagrams that arrive once and in order; 1,000,000 is what a release is tested with."""
RATE = int(os.environ.get("NETSTACK_E2E_RATE", "4000"))
"""Of them a second; half of what the machine delivers is what a release is tested with."""

pytestmark = pytest.mark.timeout(60 + 2 * max(float(STEADY), NUMBERED / RATE))

FAMILIES = pytest.mark.parametrize("family", ["-4", "-6"], ids=["IPv4", "IPv6"])
ADDRESSES = {"-4": zones.WWW_V4, "-6": zones.WWW_V6}
OURS = {"-4": zones.HOST_V4, "-6": zones.HOST_V6}
ECHO = pytest.mark.parametrize("name", ["echo4.test", "echo6.test"], ids=["IPv4", "IPv6"])


def bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address


@contextmanager
def server(internet: Internet, *command: str | Path, port: int, address: str) -> Iterator[Running]:
    """A server of the small internet, once it listens on that UDP port."""
    running = internet.net.start(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wanted = f"{bracketed(address)}:{port} "
        wait_until(
            lambda: running.ended or wanted in internet.net.run(["ss", "-Hlnu"]).text, 10, f"{command[0]} listens"
        )
        assert not running.ended, f"{command[0]} ended: {running.wait(1)}"
        yield running
    finally:
        running.stop()


def udp(place: Place, *words: str, timeout: float = 20) -> dict[str, object]:
    (report,) = reports(place.run(udp_client_command(*words), timeout=timeout))
    return report


@ECHO
def test_netcat_has_its_line_echoed(sandbox: Sandbox, name: str) -> None:
    done = sandbox.run(["sh", "-c", f"echo good day | nc -u -w 1 {name} {ECHO_PORT}"]).ok()
    assert done.text == "good day\n"


@FAMILIES
@pytest.mark.parametrize("direction", [[], ["-R"], ["--bidir"]], ids=["up", "down", "both ways"])
def test_iperf3_goes_both_ways(sandbox: Sandbox, family: str, direction: list[str]) -> None:
    # Its server answers from the address of the machine, whichever was asked: another would be heard by no client.
    words = ["-u", "-b", "6M", "-l", "1200", "-t", "1", "-p", str(IPERF_PORT), "-J"]
    done = sandbox.run(["iperf3", family, "-c", "ns.test", *words, *direction], timeout=20).ok()
    end = json.loads(done.text)["end"]
    sums = [end[key] for key in end if key.startswith("sum") and "packets" in end[key]]
    # What is under way when the second is over counts as lost; that nothing else is lost is shown below.
    assert len(sums) >= 2
    assert all(each["packets"] > 500 and each["bytes"] > 400 * 1200 for each in sums), sums


@FAMILIES
def test_an_ntp_client_reads_the_time(sandbox: Sandbox, family: str) -> None:
    done = sandbox.run(["ntpdig", family, "-t", "3", "echo.test"]).ok()
    address = {"-4": zones.ECHO_V4, "-6": zones.ECHO_V6}[family]
    offset = re.search(rf"([+-][\d.]+) \+/- [\d.]+ (?:\S+ )?{address} s2", done.text)
    assert offset, done
    assert abs(float(offset[1])) < 1, "both have the same clock"


@FAMILIES
def test_dig_asks_a_resolver_on_another_port(sandbox: Sandbox, family: str) -> None:
    sandbox.run(["dig", "+short", "ns.test", "A", "ns.test", "AAAA"]).ok()
    done = sandbox.run(["dig", family, "+notcp", "@ns.test", "-p", str(OTHER_DNS_PORT), "v4.test", "A"]).ok()
    assert "198.18.1.11" in done.text
    assert f"#{OTHER_DNS_PORT}" in done.text


@FAMILIES
def test_tftp_fetches_a_file_from_a_server_that_answers_from_another_port(
    internet: Internet, sandbox: Sandbox, folder: Path, family: str
) -> None:
    (folder / "served").mkdir(mode=0o755)
    content = bytes(number % 251 for number in range(300_000))
    (folder / "served" / "firmware").write_bytes(content)
    (folder / "served" / "firmware").chmod(0o644)
    address = ADDRESSES[family]
    command: list[str | Path] = [
        "in.tftpd",
        "-L",
        "-u",
        "root",
        "-a",
        f"{bracketed(address)}:69",
        "-s",
        folder / "served",
    ]
    with server(internet, *command, port=69, address=address):
        words: list[str | Path] = ["-m", "binary", "www.test", "69", "-c", "get", "firmware", folder / "got"]
        sandbox.run(["tftp", family, *words], timeout=20).ok()
    assert (folder / "got").read_bytes() == content


@FAMILIES
def test_stun_says_which_address_and_port_the_world_sees(internet: Internet, sandbox: Sandbox, family: str) -> None:
    address = ADDRESSES[family]
    # A second address is not there: the test is of the binding request, not of the kind of NAT.
    words = [
        "-S",
        "-n",
        "-L",
        address,
        "-p",
        "3478",
        "--no-cli",
        "--no-tls",
        "--no-dtls",
        "--no-tcp",
        "--log-file=stdout",
    ]
    with server(internet, "turnserver", *words, port=3478, address=address):
        sandbox.run(["dig", "+short", "www.test", "A", "www.test", "AAAA"]).ok()
        done = sandbox.run(["turnutils_stunclient", "-p", "3478", address])
    seen = re.search(r"UDP reflexive addr: (\S+):(\d+)", done.text)
    assert seen, done
    assert seen[1].strip("[]") == OURS[family]


@FAMILIES
def test_a_sip_call_with_rtp_is_set_up_held_and_ended(
    internet: Internet, sandbox: Sandbox, folder: Path, family: str
) -> None:
    address = bracketed(ADDRESSES[family])
    own = bracketed({"-4": "10.0.0.2", "-6": "fd00:6e73::2"}[family])
    quiet = ["-nostdin", "-timeout", f"{15 + float(STEADY):.0f}"]
    answering = ["sipp", "-sn", "uas", "-i", address, "-p", "5060", "-mi", address, "-rtp_echo", *quiet]
    with server(internet, *answering, port=5060, address=ADDRESSES[family]):
        sandbox.run(["dig", "+short", "www.test", "A", "www.test", "AAAA"]).ok()
        calling = ["-sn", "uac", "-i", own, "-p", "5062", "-m", "5", "-r", "5", "-d", "500", *quiet]
        calls = sandbox.run(["sipp", *calling, f"{address}:5060"], timeout=20)
        # sipp echoes RTP on its media port: a stream of 50 packets a second, as G.711 has it.
        media = udp(sandbox, "steady", ADDRESSES[family], "6000", "50", STEADY, timeout=20 + float(STEADY))
    assert calls.code == 0, calls
    assert (media["received"], media["twice"], media["late"]) == (media["sent"], 0, 0), media


@ECHO
def test_a_flow_of_sixty_datagrams_a_second_has_no_gap_and_no_loss(sandbox: Sandbox, name: str) -> None:
    report = udp(sandbox, "steady", name, str(ECHO_PORT), "60", STEADY, timeout=20 + float(STEADY))
    assert (report["received"], report["twice"], report["late"]) == (60 * int(STEADY), 0, 0), report
    # On an idle machine there is none above 50 ms; a test machine may stall now and then.
    assert int(str(report["over_50_ms"])) <= 2 + int(STEADY), report


@ECHO
@pytest.mark.parametrize("direction", ["upload", "download"])
def test_numbered_datagrams_arrive_once_and_in_order(sandbox: Sandbox, name: str, direction: str) -> None:
    words = direction, name, str(COUNTER_PORT), str(NUMBERED), str(RATE), "200"
    report = udp(sandbox, *words, timeout=20 + 2 * NUMBERED / RATE)
    assert (report["twice"], report["late"]) == (0, 0), report
    # A machine that stalls loses some in the buffers of its sockets; an idle one loses none.
    assert int(str(report["received"])) >= 0.98 * NUMBERED, report


def test_what_is_for_a_group_or_for_everybody_does_not_leave(internet: Internet, sandbox: Sandbox) -> None:
    before = sandbox.drops("multicast")
    to = ["224.0.0.251:5353", "239.255.255.250:1900", "255.255.255.255:137", "10.0.0.255:137", "ff02::fb%tun0:5353"]
    with internet.capture("udp") as capture:
        assert udp(sandbox, "groups", *to) == {"errors": {}}
        wait_until(lambda: sandbox.drops("multicast") >= before + len(to), 5, "each is counted")
        assert not [packet for packet in capture.stop() if packet.destination_port in (5353, 1900, 137)]
