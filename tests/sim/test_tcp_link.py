"""Whole transfers through the translator's connection over links that lose, reorder, duplicate, delay and queue.

The far end is a TCP of its own (tests.sim.client). Every octet is compared as it arrives.
"""

import pytest

from services.tcp_fwd.connection import Connection
from tests.sim.goodput import CASES, SIZE, recorded, row
from tests.sim.link import Quality
from tests.sim.transfer import Outcome, transfer


def assert_whole(outcome: Outcome, size: int) -> None:
    assert not outcome.client.reset
    assert outcome.arrived, f"stuck: {outcome}"
    assert not outcome.client.garbled
    assert not outcome.host.garbled
    assert outcome.host.taken == size
    assert outcome.client.received == size + 1  # and the FIN


@pytest.mark.timeout(300)
@pytest.mark.parametrize("case", CASES, ids=" ".join)
def test_ten_mebibytes_both_ways_arrive_whole_and_as_fast_as_recorded(case):
    outcome = transfer(CASES[case], size=SIZE)
    assert_whole(outcome, SIZE)
    assert row(case, outcome) == recorded()[case], "see tests/sim/goodput.py where the change is meant"


LINKS = {
    "duplicates": Quality(delay=0.02, duplicate=0.05),
    "losses in bursts": Quality(delay=0.02, burst=0.005),
    "everything at once": Quality(delay=0.02, loss=0.02, reorder=0.02, duplicate=0.02, burst=0.002),
    "a narrow link with a long queue": Quality(delay=0.02, bandwidth=125e3, queue=256 << 10),
    "a narrow link with a short queue": Quality(delay=0.02, bandwidth=125e3, queue=16 << 10),
    "half of everything is lost": Quality(delay=0.01, loss=0.5),
}


@pytest.mark.parametrize("options", [True, False], ids=["SACK and timestamps", "neither"])
@pytest.mark.parametrize("quality", LINKS.values(), ids=LINKS)
@pytest.mark.parametrize("seed", [1, 2])
def test_worse_links_are_only_slower(quality, options, seed):
    size = 20_000 if quality.loss >= 0.5 else 1_000_000
    assert_whole(transfer(quality, size=size, options=options, seed=seed), size)


def test_a_client_with_a_small_window_gets_everything():
    assert_whole(transfer(Quality(delay=0.002, loss=0.01), size=300_000, window=4096), 300_000)


def test_a_host_that_takes_slowly_closes_the_window_and_gets_everything():
    outcome = transfer(Quality(delay=0.002, loss=0.01), size=4_000_000, rate=400e3)
    assert_whole(outcome, 4_000_000)
    assert (outcome.host.shut_at or 0.0) >= 4_000_000 / 400e3


def test_reordering_alone_costs_less_than_a_tenth():
    plain = transfer(Quality(delay=0.005), size=3_000_000).goodput(3_000_000)[0]
    reordered = transfer(Quality(delay=0.005, reorder=0.01), size=3_000_000).goodput(3_000_000)[0]
    assert reordered > 0.9 * plain


def test_no_timer_is_left_when_it_is_over():
    outcome = transfer(Quality(), size=300_000)
    outcome.host.clock.run(lambda: False, limit=700.0)
    assert outcome.host.finished is not None
    connection = outcome.host.connection
    assert isinstance(connection, Connection)
    assert connection.next_timeout() is None
