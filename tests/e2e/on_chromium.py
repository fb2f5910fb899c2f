"""Chromium in a captured network: a page whose server offers HTTP/3 loads over TCP, without a pause.

Chromium is large, and not every Debian or Ubuntu has it as a package, so this is not among the tests that `make test`
collects: `make test-browser` installs it, runs this, and fails where it cannot.
"""

import json
import re
import statistics
import sys
from collections.abc import Iterator
from typing import Any, Final

import pytest

from tests.e2e.browser import IMAGES, page
from tests.e2e.calls import client_in
from tests.internet import Internet, Sandbox
from tests.internet.routers import Namespace

ROUNDS: Final = 10
OFFERS, PLAIN = "https://offers.test/page", "https://plain.test/page"

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def captured(internet: Internet) -> Iterator[Sandbox]:
    for name, octets in page().items():
        (internet.directory / "files" / name).write_bytes(octets)
    with internet.sandbox() as sandbox:
        yield sandbox


def loads(internet: Internet, captured: Sandbox) -> list[dict[str, Any]]:
    """Load both pages in turn."""
    place = Namespace(captured.target)  # it looks at its own processes, by the numbers that they have there
    words = str(internet.directory / "server.pem"), str(ROUNDS), OFFERS, PLAIN
    done = place.run([sys.executable, "-m", "tests.e2e.browser", *words], timeout=120).ok()
    return [json.loads(line) for line in done.text.splitlines()]


def test_a_page_whose_server_offers_http3_loads_over_tcp_as_fast_as_one_whose_does_not(
    internet: Internet, captured: Sandbox
) -> None:
    ratios = []
    for _ in range(3):  # on a machine that does something else a load takes one time and a half what the next takes
        before = captured.drops("quic-blocked")
        rows = loads(internet, captured)
        assert len(rows) == 2 * ROUNDS
        assert {(row.get("protocol"), row.get("images")) for row in rows} == {("http/1.1", IMAGES)}, rows
        assert captured.drops("quic-blocked") >= before + ROUNDS, "the browser has tried HTTP/3 each time"
        offers, plain = (
            statistics.median(row["milliseconds"] for row in rows if row["url"] == url) for url in (OFFERS, PLAIN)
        )
        ratios.append(round(offers / plain, 3))
        sys.stdout.write(f"median of {ROUNDS}: {offers:.0f} ms where HTTP/3 is offered, {plain:.0f} ms where not\n")
        if ratios[-1] <= 1.1:
            return
    pytest.fail(f"where HTTP/3 is offered a page takes so many times as long: {ratios}")


def test_the_browsers_own_resolver_asks_ours_also_for_https_records(internet: Internet, captured: Sandbox) -> None:
    asked = re.findall(r"(\S+)\. (A|AAAA|HTTPS) IN$", (internet.directory / "unbound.log").read_text(), re.MULTILINE)
    assert {("offers.test", kind) for kind in ("A", "AAAA", "HTTPS")} <= set(asked)
    assert captured.run(["dig", "+short", "offers.test", "HTTPS"]).ok().text == '1 . alpn="h2"\n'


@pytest.mark.parametrize("name", ["v4.test", "v6.test"], ids=["IPv4", "IPv6"])
def test_quic_is_refused_within_a_millisecond(captured: Sandbox, name: str) -> None:
    words = ["--", "datagram", name, "443"] * 101
    first, *reports = client_in(captured)(*words[1:])
    assert first["error"] == "ECONNREFUSED"
    times = [report["seconds"] for report in reports]
    sys.stdout.write(f"{name}: median {statistics.median(times) * 1e3:.2f} ms, fastest {min(times) * 1e3:.2f} ms\n")
    assert statistics.median(times) < 1e-3  # as its sender sees it, with the kernel's part on both ways
