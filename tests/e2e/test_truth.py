"""The yardstick of truth: whatever is allowed, a program must not be able to tell ours from a kernel router.

The same checks are run behind both, in one network, and must have the same outcome; what it is, is in the table too, so
that both being wrong is seen. Times are left out, and who the first hop is.
"""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, NamedTuple

import pytest

from tests.e2e.calls import client_command, reports, udp_client_command
from tests.internet import Internet, Sandbox, routers, zones
from tests.internet.machine import Place
from tests.internet.zones import CLOSED_PORT, COUNTER_PORT, ECHO_PORT, MIRROR_PORT

GATEWAYS: Final = {"10.0.0.1", "fd00:6e73::1", routers.ROUTED_GATEWAY_V4, routers.ROUTED_GATEWAY_V6}
NAMES: Final = ("echo", "far", "fartoo", "unreachable", "silent", "prohibited", "prohibited6", "rejected")


class Check(NamedTuple):
    """What is done, by which program, and what comes of it: ... is whatever comes of it behind the kernel."""

    what: str
    program: str
    words: tuple[str, ...]
    outcome: Any


FAMILIES: Final[dict[str, dict[str, Any]]] = {
    "IPv4": {
        "echo": zones.ECHO_V4, "far": zones.FAR_V4, "unreachable": "198.18.3.1", "silent": "198.18.2.1",
        "far_too": routers.FAR_TOO_V4,
        "router": zones.ROUTER_V4, "most": "1472", "large": "65507", "unreached": "EHOSTUNREACH", "label": "0",
        "prohibited": "198.18.4.1", "banned": "EHOSTUNREACH",
        "unreached_type": 3, "expired_type": 11,
        "rejected": [("198.18.10.1", "EHOSTUNREACH", 1), ("198.18.10.3", "ECONNREFUSED", 3),
                     ("198.18.10.9", "ENETUNREACH", 9), ("198.18.10.10", "EHOSTUNREACH", 10),
                     ("198.18.10.13", "EHOSTUNREACH", 13)],
    },
    # The kernel says "no route" (ENETUNREACH) of an IPv6 route that is unreachable; IPv4's error is a firewall's.
    "IPv6": {
        "echo": zones.ECHO_V6, "far": zones.FAR_V6, "unreachable": "2001:2:0:4::1", "silent": "2001:2:0:3::1",
        "far_too": routers.FAR_TOO_V6,
        "router": zones.ROUTER_V6, "most": "1452", "large": "65487", "unreached": "ENETUNREACH", "label": "703710",
        "prohibited": "2001:2:0:5::1", "banned": "EACCES",
        "unreached_type": 1, "expired_type": 3,
        "rejected": [("2001:2:0:10::1", "EACCES", 1), ("2001:2:0:10::3", "EHOSTUNREACH", 3),
                     ("2001:2:0:10::4", "ECONNREFUSED", 4), ("2001:2:0:10::5", "EACCES", 5),
                     ("2001:2:0:10::6", "EACCES", 6)],
    },
}  # fmt: skip


def checks(family: str) -> Iterator[Check]:
    """The table of one family."""
    at = FAMILIES[family]
    echo, far, unreachable, silent = at["echo"], at["far"], at["unreachable"], at["silent"]
    hops = ["gateway", at["router"], far]
    yield Check("echo to nobody", "ping", (silent,), (1, ["1 packets transmitted, 0 received, 100% packet loss, "]))
    yield Check("echo to an unreachable host", "ping", (unreachable,), ...)
    yield Check("echo, and the TTL of the reply", "ping", (far,), ...)
    yield Check("echo with just enough TTL", "ping", ("-t", "3", far), ...)
    yield Check("echo with a TTL that ends on the way", "ping", ("-t", "2", "-s", "1300", far), ...)
    yield Check("echo that the path is too small for", "ping", ("-M", "do", "-s", "1440", far), ...)
    yield Check("echo in fragments", "ping", ("-s", "4000", far), ...)
    yield Check("traceroute with UDP", "traceroute", ("-U", "-p", "33434", far), hops)
    yield Check("traceroute with UDP, a port for each probe", "traceroute", (far,), hops)
    yield Check("traceroute with echo", "traceroute", ("-I", far), hops)
    yield Check("traceroute with TCP to a closed port", "traceroute", ("-T", "-p", str(CLOSED_PORT), far), hops)
    to_open = "-T", "-p", str(ECHO_PORT), echo
    yield Check("traceroute with TCP to an open port", "traceroute", to_open, ["gateway", echo])
    yield Check("traceroute with TCP to an unreachable host", "traceroute", ("-T", "-p", "80", unreachable), ...)
    yield Check("tracepath", "tracepath", (at["far_too"],), ...)
    yield Check("the path MTU", "udp_client", ("path_mtu", far, "9", at["most"]), {"error": "EMSGSIZE", "mtu": 1400})
    for size in ("0", "1", at["most"], "4000", at["large"]):
        yield Check(f"a datagram of {size} octets", "client", ("echo", echo, str(ECHO_PORT), size), {"same": [True]})
    refused, unreached, nothing = {"error": "ECONNREFUSED"}, {"error": at["unreached"]}, {"error": "timeout"}
    yield Check("a closed UDP port", "client", ("datagram", echo, str(CLOSED_PORT)), refused)
    yield Check("a closed TCP port", "client", ("connect", echo, str(CLOSED_PORT)), refused)
    yield Check("UDP to an unreachable host", "client", ("datagram", unreachable, "7"), unreached)
    yield Check("TCP to an unreachable host", "client", ("connect", unreachable, "7"), unreached)
    prohibited = {"error": at["banned"]}
    yield Check("UDP to a prohibited host", "client", ("datagram", at["prohibited"], "7"), prohibited)
    yield Check("TCP to a prohibited host", "client", ("connect", at["prohibited"], "7"), prohibited)
    yield Check("UDP to nobody", "client", ("datagram", silent, "7", "0.5"), nothing)
    yield Check("TCP to nobody", "client", ("connect", silent, "7", "0.5"), nothing)
    for address, error, code in at["rejected"]:
        said = {"error": error, "icmp": [at["unreached_type"], code], "by": at["router"]}
        yield Check(f"a SYN that a router answers with code {code}", "client", ("told", address, "80"), said)
    for ttl, by in (("1", "gateway"), ("2", at["router"])):
        said = {"error": "EHOSTUNREACH", "icmp": [at["expired_type"], 0], "by": by}
        yield Check(f"a SYN with a TTL of {ttl}", "client", ("told", far, str(CLOSED_PORT), ttl), said)
    reset = {"error": "ECONNREFUSED", "icmp": None}
    yield Check("a SYN with just enough TTL", "client", ("told", far, str(CLOSED_PORT), "3"), reset)
    for ttl, tos in (("64", "0"), ("255", "184"), ("9", "1"), ("64", "3")):
        words = ("mirror", echo, str(MIRROR_PORT), ttl, tos, at["label"])
        yield Check(f"TTL {ttl} and TOS {tos} both ways", "udp_client", words, ...)
    words = ("upload", echo, str(COUNTER_PORT), "500", "2000", "1000")
    yield Check("datagrams in their order", "udp_client", words, {"received": 500, "twice": 0, "late": 0})


TABLE: Final = {(family, check.what): check for family in FAMILIES for check in checks(family)}
Key = tuple[str, str]


def ping(place: Place, words: tuple[str, ...]) -> Any:
    done = place.run(["ping", "-n", "-c", "1", "-W", "0.4", *words])
    lines = [line for line in (done.text + done.messages).splitlines() if not re.match(r"PING|---|rtt|$", line)]
    return done.code, [re.sub(r"time[= ].*", "", line) for line in lines]


def traceroute(place: Place, words: tuple[str, ...]) -> Any:
    done = place.run(["traceroute", "-n", "-q", "1", "-w", "1", "-m", "5", *words]).ok()
    hops = re.findall(r"^ *\d+  (\S+)(?:  [\d.]+ ms)?(.*)$", done.text, re.MULTILINE)
    return [("gateway" if hop in GATEWAYS else hop) + mark.rstrip() for hop, mark in hops]


def tracepath(place: Place, words: tuple[str, ...]) -> Any:
    text = place.run(["tracepath", "-n", *words]).ok().text
    lines = [line.split() for line in re.sub(r" [\d.]+ms", "", text).splitlines()]
    return [["gateway" if word in GATEWAYS else word for word in line] for line in lines]


PROGRAMS: Final = {"ping": ping, "traceroute": traceroute, "tracepath": tracepath}


def outcomes(place: Place) -> dict[Key, Any]:
    """What comes of each check by a program of others."""
    return {
        key: PROGRAMS[check.program](place, check.words) for key, check in TABLE.items() if check.program in PROGRAMS
    }


def reported(place: Place) -> dict[Key, Any]:
    """What comes of each check by a client of ours."""
    found: dict[Key, Any] = {}
    for program, command in (("client", client_command), ("udp_client", udp_client_command)):
        keys = [key for key, check in TABLE.items() if check.program == program]
        words = [word for key in keys for word in ("--", *TABLE[key].words)][1:]
        said = reports(place.run(command(*words), timeout=40))
        for key, report in zip(keys, said, strict=True):
            report.pop("seconds", None)
            if report.get("by") in GATEWAYS:
                report["by"] = "gateway"
            found[key] = report
    return found


@pytest.fixture(scope="module")
def both(internet: Internet, sandbox: Sandbox) -> Iterator[tuple[dict[Key, Any], dict[Key, Any]]]:
    """The outcomes behind ours, and behind the kernel."""
    with routers.routed(internet) as kernels, routers.far(internet):
        for name in NAMES:  # ours lets nothing through that was no answer; then both use the addresses alone
            sandbox.run(["dig", "+short", f"{name}.test", "A", f"{name}.test", "AAAA"]).ok()
        # The kernel's first: from ours the user's machine learns path MTUs, which it would then tell itself.
        places = (kernels, sandbox)
        seen = [outcomes(place) for place in places]
        with ThreadPoolExecutor() as pool:
            behind_kernel, behind_ours = (
                {**some, **more} for some, more in zip(seen, pool.map(reported, places), strict=True)
            )
        yield behind_ours, behind_kernel


@pytest.mark.parametrize("key", TABLE, ids=[f"{family}: {what}" for family, what in TABLE])
def test_ours_is_as_a_kernel_router(both: tuple[dict[Key, Any], dict[Key, Any]], key: Key) -> None:
    ours, kernels = (outcome[key] for outcome in both)
    assert ours == kernels
    assert TABLE[key].outcome in (..., kernels)
