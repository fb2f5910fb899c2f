"""TCP both ways at once, slow at either end, closed first by either end; every octet is checked."""

import itertools
import os
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.e2e.ordering import ask, orders_served, said, words
from tests.internet import Internet, Sandbox
from tests.internet.orders import ORDERS_PORT

SLOW = float(os.environ.get("NETSTACK_E2E_SLOW", "2"))
"""Seconds that what is slow takes; 60 is what a release is tested with."""

NAMES = pytest.mark.parametrize("name", ["v4.test", "v6.test"], ids=["IPv4", "IPv6"])
MEBIBYTE = 1 << 20
SIZES = (0, 1, 100_000, 8 * MEBIBYTE)
STEPS = 40  # pauses of whoever is slow

pytestmark = pytest.mark.timeout(60 + 2 * SLOW)


@pytest.fixture(scope="module", autouse=True)
def orders(internet: Internet) -> Iterator[None]:
    """The server of all tests here."""
    with orders_served(internet):
        yield


def check(report) -> None:
    assert report["error"] is None, report
    assert report["down_is_whole"], report
    assert report["up_is_whole"], report


@NAMES
def test_large_transfers_both_ways_at_once_are_whole(sandbox: Sandbox, name: str) -> None:
    check(ask(sandbox, "transfer", name, ORDERS_PORT, order={"send": 32 * MEBIBYTE}, send=32 * MEBIBYTE))


@NAMES
def test_server_that_closes_first_has_all_of_its_octets_read(sandbox: Sandbox, name: str) -> None:
    each = [{"order": {"send": octets, "closes_first": True}} for octets in SIZES]
    for report in ask(sandbox, "transfers", name, ORDERS_PORT, each=each)["each"]:
        check(report)


@NAMES
def test_client_that_closes_first_has_all_of_its_octets_read(sandbox: Sandbox, name: str) -> None:
    each = [{"order": {"send": 10}, "send": octets} for octets in SIZES]
    for report in ask(sandbox, "transfers", name, ORDERS_PORT, each=each)["each"]:
        check(report)


# Each at the pace that makes it last as long as it is to; the other end is as fast as it can be, and the window closes.
SLOW_ENDS = {
    "a client that reads slowly": (
        {"send": 8 * MEBIBYTE},
        {"read_size": 8 * MEBIBYTE // STEPS, "read_pause": SLOW / STEPS},
    ),
    "a server that reads slowly": (
        {"read_size": 8 * MEBIBYTE // STEPS, "read_pause": SLOW / STEPS},
        {"send": 8 * MEBIBYTE},
    ),
    # While the server does not read, many small pieces gather, more than one system call takes.
    "a server that reads small segments slowly": (
        {"read_size": MEBIBYTE // STEPS, "read_pause": SLOW / STEPS},
        {"send": MEBIBYTE, "write_size": 200, "no_delay": True},
    ),
    "a server that writes slowly": ({"send": 400, "write_size": 10, "write_pause": SLOW / STEPS}, {}),
    "a client that writes slowly": ({}, {"send": 400, "write_size": 10, "write_pause": SLOW / STEPS}),
    "a trickle down beside a flood up that stalls": (
        {"send": 400, "write_size": 10, "write_pause": SLOW / STEPS, "read_pause": SLOW / 128},
        {"send": 8 * MEBIBYTE},
    ),
}


def test_slow_ends_get_and_give_everything(sandbox: Sandbox) -> None:
    with ExitStack() as stack:
        running = {}
        for (name, (order, mine)), host in itertools.product(SLOW_ENDS.items(), ("v4.test", "v6.test")):
            command = words("transfer", host, ORDERS_PORT, order=order, timeout=60 + SLOW, **mine)
            running[name, host] = sandbox.start(command)
            stack.callback(running[name, host].stop)
        for name, program in running.items():
            report = said(program.wait(45 + 2 * SLOW).ok().text)
            print(f"{' to '.join(name)}: {report['seconds']:.1f} s")
            check(report)
            assert report["seconds"] > SLOW / 2, (name, report)
