"""ICMP errors about an established TCP connection: they pass, as with any TCP, and are no reason to end it."""

import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.e2e.calls import client_command, reports
from tests.internet import Internet, Sandbox, wait_until, zones
from tests.internet.zones import ECHO_PORT

FAMILIES = pytest.mark.parametrize(
    ("name", "family", "packets", "error"),
    [
        ("echo4.test", "ip", f"ip daddr {zones.ECHO_V4}", "icmp type host-unreachable"),
        ("echo6.test", "ip6", f"ip6 daddr {zones.ECHO_V6}", "icmpv6 type addr-unreachable"),
    ],
    ids=["IPv4", "IPv6"],
)


@contextmanager
def rejected(internet: Internet, family: str, packets: str, error: str) -> Iterator[None]:
    """A firewall before the server answers with an ICMP error; afterwards it must have had something to answer."""
    rules = f"""table {family} outage {{ chain input {{
        type filter hook input priority 0; {packets} tcp dport {ECHO_PORT} counter reject with {error};
    }}
    }}"""
    internet.net.run(["nft", "-f", "-"], stdin=rules.encode()).ok()
    try:
        yield
        # What is said while a packet is being sent is always soft; not so what is said of one that is sent again.
        wait_until(lambda: spoken(internet, family) >= 3, 5, "the firewall has spoken")
    finally:
        internet.net.run(["nft", "delete", "table", family, "outage"]).ok()


def spoken(internet: Internet, family: str) -> int:
    found = re.search(r"packets (\d+)", internet.net.run(["nft", "list", "table", family, "outage"]).ok().text)
    return int(found[1]) if found else 0


@FAMILIES
def test_a_connection_outlives_an_outage_that_routers_tell_of(
    internet: Internet, sandbox: Sandbox, name: str, family: str, packets: str, error: str
) -> None:
    running = sandbox.start(client_command("flow", name, str(ECHO_PORT)), stdin=subprocess.PIPE)
    try:
        running.stdout.readline()
        for _ in range(2):  # the second time the kernel keeps them from us, as it does without the error queue
            with rejected(internet, family, packets, error):
                pass
            over = time.time()
            while float(running.stdout.readline()) < over:
                pass
        (report,) = reports(running.wait(10, stdin=b""))
    finally:
        running.stop()
    assert report["error"] is None, report
    assert report["rounds"] >= 3, report
