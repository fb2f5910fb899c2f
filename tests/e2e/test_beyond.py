"""A machine beyond the captured one, for which that is the router: as a phone or a container that is routed into it."""

import sys
from collections.abc import Iterator

import pytest

from tests.e2e.calls import Client, client_in
from tests.internet import Internet, Sandbox, routers, wait_until, zones
from tests.internet.machine import Place
from tests.internet.zones import COUNTER_PORT, ECHO_PORT


class Captured(Place):
    """The captured network alone: its own view of /proc/sys is that of the command, which may not change it."""

    namespaces = ("--net",)


@pytest.fixture(scope="module")
def beyond(internet: Internet) -> Iterator[Client]:
    """A client with addresses that are not the TUN's."""
    with internet.sandbox() as sandbox, routers.behind(Captured(sandbox.target)) as place:
        sandbox.run(["dig", "+short", "echo.test", "A", "echo.test", "AAAA"]).ok()
        yield client_in(place)


@pytest.mark.parametrize(
    ("address", "sizes"),
    [
        (zones.ECHO_V4, ["0", "1", "1472", "1473", "4000", "65507"]),
        (zones.ECHO_V6, ["0", "1", "1452", "1453", "4000", "65487"]),
    ],
    ids=["IPv4", "IPv6"],
)
def test_datagrams_of_every_size_come_back_whole(beyond: Client, address: str, sizes: list[str]) -> None:
    (report,) = beyond("echo", address, str(ECHO_PORT), *sizes)
    assert report == {"same": [True] * len(sizes)}


LEAVES = f"""
import socket, sys
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
with socket.socket(family, socket.SOCK_DGRAM) as endpoint:
    endpoint.connect((sys.argv[1], {COUNTER_PORT}))
    endpoint.send(b"send 400 200 100")
    endpoint.recv(100)
"""


@pytest.mark.parametrize(
    ("address", "here", "error"),
    [
        (zones.ECHO_V4, zones.HOST_V4, "icmp[0] == 3 and icmp[1] == 3"),
        (zones.ECHO_V6, zones.HOST_V6, "icmp6[0] == 1 and icmp6[1] == 4"),
    ],
    ids=["IPv4", "IPv6"],
)
def test_a_server_hears_that_nobody_listens_any_more(
    internet: Internet, sandbox: Sandbox, address: str, here: str, error: str
) -> None:
    sandbox.run(["dig", "+short", "echo.test", "A", "echo.test", "AAAA"]).ok()
    before = sandbox.process("udp_fwd")["gauges"]["flows"]
    with internet.capture(error) as capture:
        sandbox.run([sys.executable, "-c", LEAVES, address]).ok()
        wait_until(capture.packets, 5, "this host says so to the server")
        assert (here, address) in {(packet.source, packet.destination) for packet in capture.stop()}
    wait_until(lambda: sandbox.process("udp_fwd")["gauges"]["flows"] <= before, 5, "the mapping is over")
