"""A phone behind a bad link: transfers arrive whole, whatever the link does. How fast: `python -m bench.lossy`."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.ordering import ask, orders_served
from tests.internet import Internet, Sandbox
from tests.internet.impairment import Quality
from tests.internet.machine import Machine
from tests.internet.orders import ORDERS_PORT
from tests.internet.phone import GATEWAY_V4, phone_at
from tests.internet.zones import WWW_V4, WWW_V6

MEBIBYTE = 1 << 20

pytestmark = pytest.mark.timeout(120)

# A radio link at its better hours: 2 ms each way keep the test short. What is sent too fast overflows the queue.
LINK = {"delay": 0.002, "bandwidth": 50e6, "queue": 100_000}


@pytest.fixture(scope="module")
def captured(internet: Internet) -> Iterator[Sandbox]:
    """A captured network of its own: it becomes a router."""
    with orders_served(internet), internet.sandbox({"allow.networks": '["198.18.0.0/15", "2001:2::/48"]'}) as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
def phone() -> Iterator[Machine]:
    """A machine without any network of its own."""
    with Machine("phone") as phone:
        yield phone


def namespace(pid: int) -> Path:
    return Path(f"/proc/{pid}/ns/net")


def test_link_takes_the_time_that_it_was_given(captured: Sandbox, phone: Machine) -> None:
    with phone_at(namespace(phone.target), namespace(captured.target), Quality(delay=0.02), seed=1) as link:
        said = phone.run(["ping", "-q", "-c", "5", "-i", "0.02", GATEWAY_V4]).ok().text
    least = float(said.rpartition("=")[2].split("/")[0])
    assert 40 <= least < 50, said
    assert link.report.tally.delivered >= 10


@pytest.mark.parametrize(
    ("bad", "octets"),
    [
        ({}, 4 * MEBIBYTE),
        ({"loss": 0.01}, MEBIBYTE),
        ({"loss": 0.05}, MEBIBYTE // 2),
        ({"loss": 0.03, "burst": 4}, MEBIBYTE // 2),
        ({"reorder": 0.02, "duplicate": 0.02}, MEBIBYTE),
    ],
    ids=["no loss", "1 % lost", "5 % lost", "3 % lost in runs of four", "some overtaken, some twice"],
)
def test_transfers_over_a_bad_link_are_whole_both_ways(captured: Sandbox, phone: Machine, bad, octets: int) -> None:
    quality = Quality(**LINK, **bad)
    each = [
        {"order": {"send": octets, "closes_first": True}},
        {"order": {"send": 10}, "send": octets},
        {"order": {"send": octets // 4}, "send": octets // 4},
    ]
    with phone_at(namespace(phone.target), namespace(captured.target), quality, seed=1) as link:
        reports = ask(phone, "transfers", WWW_V4, ORDERS_PORT, each=each)["each"]
        reports += ask(phone, "transfers", WWW_V6, ORDERS_PORT, each=each[2:])["each"]
    print(link.report, *reports, sep="\n")
    assert all(one["down_is_whole"] and one["up_is_whole"] and one["error"] is None for one in reports), reports
    # The link did what it was asked to.
    tally = link.report.tally
    assert bool(tally.lost) == bool(quality.loss)
    assert bool(tally.reordered) == bool(quality.reorder)
    assert bool(tally.duplicated) == bool(quality.duplicate)
