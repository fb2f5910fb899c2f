"""A client behind a link of a smaller MTU, beyond the TUN, of which neither the client nor the TUN knows."""

import hashlib
from collections.abc import Iterator

import pytest

from tests.e2e.calls import reports, udp_client_command
from tests.e2e.test_beyond import Captured
from tests.internet import Internet, routers, zones
from tests.internet.machine import Place
from tests.internet.zones import COUNTER_PORT

MEBIBYTES = 8
ADDRESSES = pytest.mark.parametrize("address", [zones.WWW_V4, zones.WWW_V6], ids=["IPv4", "IPv6"])


@pytest.fixture(scope="module", params=[1280, 1400])
def narrow(internet: Internet, request: pytest.FixtureRequest) -> Iterator[Place]:
    with internet.sandbox() as sandbox:
        for name in ("www.test", "echo.test"):
            sandbox.run(["dig", "+short", name, "A", name, "AAAA"]).ok()
        with routers.narrow(Captured(sandbox.target), request.param) as place:
            yield place


@ADDRESSES
def test_a_download_over_tcp_is_whole_and_does_not_stall(internet: Internet, narrow: Place, address: str) -> None:
    path, digest = internet.file("narrow", MEBIBYTES << 20)
    host = f"[{address}]" if ":" in address else address
    for _ in range(2):  # the second connection knows the path from its beginning
        done = narrow.run(["curl", "-sS", "-m", "10", f"http://{host}{path}"], timeout=15).ok()
        assert hashlib.sha256(done.out).hexdigest() == digest
        assert done.seconds < 4, "a stall waits for timeouts that double"


@pytest.mark.parametrize("address", [zones.ECHO_V4, zones.ECHO_V6], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize("size", ["1390", "4000"])
def test_answers_over_udp_are_cut_to_what_the_path_takes(narrow: Place, address: str, size: str) -> None:
    words = udp_client_command("download", address, str(COUNTER_PORT), "100", "200", size)
    (report,) = reports(narrow.run(words, timeout=15))
    # Those before the router spoke are lost, as they are behind any router; a server on the way would send them again.
    assert 90 <= report["received"] <= 100, report
    assert (report["twice"], report["late"]) == (0, 0)
