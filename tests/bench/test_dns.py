"""What `python -m bench.dns` makes of dnsperf's words, and its table."""

import pytest

from bench.dns import Figure, parse_dnsperf, table
from bench.resolvers import HITS, MISSES, zone
from bench.workloads import WorkloadError

REPORT = """
> NOERROR hit1.bench.example A 0.000123
> NOERROR hit2.bench.example A 0.002000
> T t1.bench.example A
Statistics:

  Queries sent:         3
  Queries completed:    2 (66.67%)
  Queries lost:         1 (33.33%)

  Response codes:       NOERROR 2 (100.00%)
  Run time (s):         1.000000
  Queries per second:   2.000000
"""


def rows(figures):
    return [" ".join(line.split()) for line in table(figures).splitlines()]


def test_rate_latencies_and_what_was_lost_are_read():
    load = parse_dnsperf(REPORT)

    assert (load.rate, load.answers, load.latencies) == (2.0, 2, [0.000123, 0.002])
    assert load.problem == "Queries lost: 1 (33.33%)"


def test_answers_that_are_refusals_are_a_problem():
    load = parse_dnsperf(REPORT.replace("NOERROR 2 (100.00%)", "NOERROR 1 (50.00%), SERVFAIL 1 (50.00%)"))

    assert "SERVFAIL 1 (50.00%)" in load.problem


@pytest.mark.parametrize("output", ["", REPORT.replace("completed:    2", "completed:    0")])
def test_no_answer_is_a_failure(output):
    with pytest.raises(WorkloadError):
        parse_dnsperf(output)


def test_ours_is_held_against_each_of_the_others():
    figures = [
        *(Figure("hits", "netstack", turn, value) for turn, value in enumerate((10_000.0, 15_000.0, 20_000.0))),
        Figure("hits", "dnsmasq", 1, 60_000.0),
        Figure("p99", "netstack", 1, 2.5),
        Figure("p99", "dnsmasq", 1, None, "failed"),
    ]

    assert rows(figures) == [
        "unit netstack dnsmasq / dnsmasq",
        "from the cache q/s 15.0k 60.0k 0.25",
        "p99 at the rate ms 2.50 - -",
    ]


def test_the_zone_has_each_name_that_is_asked():
    owners = {line.split()[0] for line in zone()}

    assert {f"hit{HITS - 1}", f"miss{MISSES - 1}", "*.text"} <= owners
