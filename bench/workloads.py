"""What is measured: the program that makes the load, and how its output is read. No I/O.

Every workload runs in a contender's captured namespace against the servers of `bench.world`.
"""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

SERVER: Final = "198.18.1.1"  # benchmark addresses: RFC 2544, RFC 6890

_DATAGRAM: Final = 1400  # octets of payload; fits every tunnel's MTU
_UDP_OFFERED: Final = (80, 140, 200, 260)
"""kpps, one step after the other: from below what the slowest delivers to above what a veth delivers on two cores."""


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


def _iperf(*options: str) -> Callable[[float], Sequence[Sequence[str]]]:
    base = ("iperf3", "-J", "-c", SERVER, "--connect-timeout", "5000")
    return lambda seconds: [(*base, "-t", f"{seconds:.0f}", *options)]


def _udp(seconds: float) -> Sequence[Sequence[str]]:
    # iperf3 counts time in whole seconds.
    step = max(1, round(seconds / len(_UDP_OFFERED)))
    return [
        [
            *_iperf("-u", "-l", str(_DATAGRAM), "--pacing-timer", "200")(step)[0],
            *("-b", str(kpps * 1000 * _DATAGRAM * 8)),
        ]
        for kpps in _UDP_OFFERED
    ]


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
    Workload("udp-up", "UDP upload, 1400 octets", "kpps", Cost("us/datagram", 1e6), _udp, parse_iperf_udp, iperf=True),
    # The last one, for libslirp searches its list of sockets one by one and keeps a closed one for a minute.
    Workload("connect", "new connections", "conn/s", _PER_REQUEST, _wrk(16, "-H", "Connection: close"), parse_wrk),
)
