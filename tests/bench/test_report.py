"""The benchmark's table: medians, ratios and what failed."""

import pytest

from bench.report import Measurement, cost_table, problems, summarize, table
from bench.workloads import WORKLOADS

UP = next(w for w in WORKLOADS if w.name == "tcp-up")
HTTP = next(w for w in WORKLOADS if w.name == "http-1")
ECHO = next(w for w in WORKLOADS if w.name == "echo")


def run(contender, value, *, workload=UP, cpu=None, work=1e9, problem=""):
    return Measurement(workload.name, contender, 1, value, cpu, work, problem)


THREE_ROUNDS = [
    *(run("netstack", value, cpu=2.0) for value in (6.0, 9.0, 7.0)),
    *(run("slirp4netns", value, cpu=1.0) for value in (5.0, 3.5, 4.0)),
    *(run("kernel", value) for value in (20.0, 20.0, 20.0)),
    *(run("netstack", value, workload=HTTP, cpu=1.0, work=10_000) for value in (3400.0, 3000.0, 3100.0)),
    *(run("slirp4netns", value, workload=HTTP) for value in (11_940.0, 12_000.0, 11_000.0)),
    *(run("kernel", value, workload=HTTP) for value in (145_000.0, 145_400.0, 140_000.0)),
]


def test_a_table_has_medians_with_their_range_and_our_ratio_to_each_other():
    lines = table(THREE_ROUNDS, [UP, HTTP], ["netstack", "slirp4netns", "kernel"]).splitlines()

    assert [" ".join(line.split()) for line in lines] == [
        "unit netstack slirp4netns kernel / slirp4netns / kernel",
        "TCP upload Gbit/s 7.00 (6.00-9.00) 4.00 (3.50-5.00) 20.0 1.75 0.35",
        "HTTP, 1 connection req/s 3100 (3000-3400) 11.9k (11.0k-12.0k) 145k (140k-145k) 0.26 0.02",
    ]


def test_a_time_that_is_half_of_the_other_s_is_twice_as_fast():
    measurements = [run("netstack", 100.0, workload=ECHO), run("pasta", 200.0, workload=ECHO)]

    row = table(measurements, [ECHO], ["netstack", "pasta"]).splitlines()[1]

    assert row.split()[-3:] == ["100", "200", "2.00"]


def test_columns_are_aligned_figures_to_the_right():
    lines = table(THREE_ROUNDS, [UP, HTTP], ["netstack", "kernel"]).splitlines()

    assert len({len(line) for line in lines}) == 1


def test_without_ours_there_are_no_ratios():
    header = table(THREE_ROUNDS, [UP], ["slirp4netns", "kernel"]).splitlines()[0]

    assert header.split() == ["unit", "slirp4netns", "kernel"]


def test_the_median_is_taken_over_the_rounds_that_succeeded():
    measurements = [run("pasta", None, problem="no route"), run("pasta", 1.0), run("pasta", 3.0)]

    assert summarize(measurements, UP, "pasta").middle == 2.0


def test_a_contender_that_never_succeeded_is_shown_as_failed_without_a_ratio():
    measurements = [run("netstack", 5.0), run("pasta", None, problem="no route")]

    row = table(measurements, [UP], ["netstack", "pasta"]).splitlines()[1]

    assert row.split()[-2:] == ["failed", "-"]


def test_cpu_time_is_given_per_piece_of_work_and_not_for_the_kernel():
    lines = cost_table(THREE_ROUNDS, [UP, HTTP], ["netstack", "slirp4netns", "kernel"]).splitlines()

    assert [" ".join(line.split()) for line in lines] == [
        "unit netstack slirp4netns kernel",
        "TCP upload s/GB 2.00 1.00 -",
        "HTTP, 1 connection us/request 100 - -",
    ]


def test_there_is_no_cpu_table_when_only_the_kernel_ran():
    assert cost_table([run("kernel", 20.0)], [UP], ["kernel"]) == ""


@pytest.mark.parametrize(
    ("measurement", "lines"),
    [
        (run("pasta", 1.0), []),
        (run("pasta", None, problem="no route"), ["failed: round 1, tcp-up, pasta: no route"]),
        (run("pasta", 1.0, problem="write 3"), ["note: round 1, tcp-up, pasta: write 3"]),
    ],
    ids=["a good run is not mentioned", "a failed run says why", "a figure with a flaw says which"],
)
def test_problems(measurement, lines):
    assert problems([measurement]) == lines
