"""What is measured: the program that makes the load, and how its output is read. No I/O.

Every workload runs in a contender's captured namespace against the servers of `bench.world`.
"""

import json
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

SERVER: Final = "198.18.1.1"  # benchmark addresses: RFC 2544, RFC 6890
COUNTER: Final = 7100
"""UDP port of the server's that counts datagrams."""

DATAGRAMS: Final = (sys.executable, str(Path(__file__).with_name("datagrams.py")))

_DATAGRAM: Final = 1400  # octets of payload; fits every tunnel's MTU
_SMALL: Final = 100  # octets; what calls and games send
_UDP_OFFERED: Final = (80, 140, 200, 260)
"""kpps, one step after the other: from below what the slowest delivers to above what a veth delivers on two cores."""

_TRAINS_OFFERED: Final = (100, 200, 400, 800)
"""kpps that a sender with UDP_SEGMENT offers."""

_PING_EVERY: Final = 0.01  # seconds; one at a time, each on an idle path


class WorkloadError(Exception):
    """The load generator failed, or says that not all went well."""


class Reading(NamedTuple):
    """One figure, and the amount of work that was done to get it (for CPU time per piece of work)."""

    value: float
    work: float
    note: str = ""
    """What went wrong beside it, where the figure still is one."""


class Cost(NamedTuple):
    """CPU time of the forwarder per piece of work: its unit, and what seconds/work is multiplied by."""

    unit: str
    scale: float


_PER_GIGABYTE: Final = Cost("s/GB", 1e9)
_PER_REQUEST: Final = Cost("us/request", 1e6)
_PER_DATAGRAM: Final = Cost("us/datagram", 1e6)


@dataclass(frozen=True)
class Workload:
    """One row of the table. Several commands are steps of which the best one counts."""

    name: str
    title: str
    unit: str
    cost: Cost
    commands: Callable[[float], Sequence[Sequence[str]]]
    """The seconds of one measurement -> what to run."""
    parse: Callable[[str], Reading]
    iperf: bool = False
    """Whether each command needs an iperf3 server of its own, and `-p` with its port."""
    less_is_better: bool = False
    """A time; the best step is the least, and ratios are turned over, so that above 1 is always faster."""


def _iperf(*options: str) -> Callable[[float], Sequence[Sequence[str]]]:
    base = ("iperf3", "-J", "-c", SERVER, "--connect-timeout", "5000")
    return lambda seconds: [(*base, "-t", f"{seconds:.0f}", *options)]


def _udp(octets: int, *options: str) -> Callable[[float], Sequence[Sequence[str]]]:
    def commands(seconds: float) -> Sequence[Sequence[str]]:
        # iperf3 counts time in whole seconds.
        step = max(1, round(seconds / len(_UDP_OFFERED)))
        base = _iperf("-u", "-l", str(octets), "--pacing-timer", "200", *options)(step)[0]
        return [(*base, "-b", str(kpps * 1000 * octets * 8)) for kpps in _UDP_OFFERED]

    return commands


def _trains(seconds: float) -> Sequence[Sequence[str]]:
    step = seconds / len(_TRAINS_OFFERED)
    return [
        (*DATAGRAMS, "send", SERVER, str(COUNTER), str(step), str(kpps), str(_DATAGRAM)) for kpps in _TRAINS_OFFERED
    ]


def _ping(seconds: float) -> Sequence[Sequence[str]]:
    return [("ping", "-q", "-n", "-c", str(round(seconds / _PING_EVERY)), "-i", str(_PING_EVERY), SERVER)]


def _wrk(connections: int, *options: str) -> Callable[[float], Sequence[Sequence[str]]]:
    url = f"http://{SERVER}/tiny"
    return lambda seconds: [("wrk", "-t1", f"-c{connections}", f"-d{seconds:.0f}s", *options, url)]


def parse_iperf_tcp(output: str) -> Reading:
    """Gbit/s that the receiving end got, and the octets."""
    received = _iperf_end(output)["sum_received"]
    return Reading(received["bits_per_second"] / 1e9, received["bytes"])


def parse_iperf_udp(output: str) -> Reading:
    """Thousand datagrams a second that arrived, and how many datagrams did."""
    received = _iperf_end(output)["sum_received"]
    delivered = received["packets"] - received["lost_packets"]
    if not delivered or not received["seconds"]:
        raise WorkloadError("no datagram arrived")
    return Reading(delivered / received["seconds"] / 1e3, delivered)


def parse_trains(output: str) -> Reading:
    """Thousand datagrams a second that arrived, and how many did, as bench/datagrams.py says."""
    try:
        said = json.loads(output)
    except ValueError:
        raise WorkloadError(f"no count of datagrams: {output.strip()[:200]!r}") from None
    if not said["received"]:
        raise WorkloadError("no datagram arrived")
    return Reading(said["received"] / said["seconds"] / 1e3, said["received"])


def parse_ping(output: str) -> Reading:
    """The mean round trip in microseconds, and how many were answered."""
    mean = re.search(r"^rtt min/avg/max/mdev = [\d.]+/([\d.]+)/", output, re.MULTILINE)
    count = re.search(r"^(\d+) packets transmitted, (\d+) received", output, re.MULTILINE)
    if not mean or not count:
        raise WorkloadError(f"no echo was answered: {output.strip()[:200]!r}")
    lost = int(count[1]) - int(count[2])
    return Reading(float(mean[1]) * 1e3, int(count[2]), f"{lost} echoes were not answered" if lost else "")


def _iperf_end(output: str) -> dict[str, Any]:
    try:
        report = json.loads(output)
    except ValueError:
        raise WorkloadError(f"iperf3 wrote no JSON: {output.strip()[:200]!r}") from None
    if "error" in report:
        raise WorkloadError(f"iperf3: {report['error']}")
    end: dict[str, Any] = report["end"]
    return end


def parse_wrk(output: str) -> Reading:
    """Requests a second, and how many requests."""
    rate = re.search(r"^Requests/sec: +([\d.]+)$", output, re.MULTILINE)
    count = re.search(r"^ +(\d+) requests in ", output, re.MULTILINE)
    if not rate or not count or int(count[1]) == 0:
        raise WorkloadError(f"wrk finished no request: {output.strip()[:200]!r}")
    if refused := re.search(r"^ +Non-2xx or 3xx responses: +\d+", output, re.MULTILINE):
        raise WorkloadError(f"wrk: {refused[0].strip()}")
    # Requests that failed are not among those counted above.
    errors = re.search(r"Socket errors: .*[1-9].*$", output, re.MULTILINE)
    return Reading(float(rate[1]), int(count[1]), errors[0] if errors else "")


WORKLOADS: Final = (
    Workload("tcp-up", "TCP upload", "Gbit/s", _PER_GIGABYTE, _iperf(), parse_iperf_tcp, iperf=True),
    Workload("tcp-down", "TCP download", "Gbit/s", _PER_GIGABYTE, _iperf("-R"), parse_iperf_tcp, iperf=True),
    Workload("http-1", "HTTP, 1 connection", "req/s", _PER_REQUEST, _wrk(1), parse_wrk),
    Workload("http-64", "HTTP, 64 connections", "req/s", _PER_REQUEST, _wrk(64), parse_wrk),
    Workload("udp-up", "UDP upload, 1400 octets", "kpps", _PER_DATAGRAM, _udp(_DATAGRAM), parse_iperf_udp, iperf=True),
    Workload(
        "udp-down",
        "UDP download, 1400 octets",
        "kpps",
        _PER_DATAGRAM,
        _udp(_DATAGRAM, "-R"),
        parse_iperf_udp,
        iperf=True,
    ),
    Workload("udp-up-100", "UDP upload, 100 octets", "kpps", _PER_DATAGRAM, _udp(_SMALL), parse_iperf_udp, iperf=True),
    Workload(
        "udp-down-100",
        "UDP download, 100 octets",
        "kpps",
        _PER_DATAGRAM,
        _udp(_SMALL, "-R"),
        parse_iperf_udp,
        iperf=True,
    ),
    Workload("udp-gso", "UDP upload, trains (GSO)", "kpps", _PER_DATAGRAM, _trains, parse_trains),
    Workload("echo", "echo round trip", "us", Cost("us/echo", 1e6), _ping, parse_ping, less_is_better=True),
    # The last one, for libslirp searches its list of sockets one by one and keeps a closed one for a minute.
    Workload("connect", "new connections", "conn/s", _PER_REQUEST, _wrk(16, "-H", "Connection: close"), parse_wrk),
)
