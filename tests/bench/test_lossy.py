"""The table of `python -m bench.lossy`: medians over the seeds, ratios, goals."""

from bench.lossy import Goodput, table


def transfers(loss, way, contender, *values):
    return [Goodput(loss, way, contender, seed, value) for seed, value in enumerate(values)]


def rows(results):
    return [" ".join(line.split()) for line in table(results).splitlines()]


def test_each_loss_and_way_has_medians_with_their_range_the_ratio_and_whether_a_goal_is_met():
    results = [
        *transfers(0.0, "down", "kernel", 90.0, 95.0, 92.0),
        *transfers(0.0, "down", "netstack", 90.0, 91.0, 89.0),
        *transfers(1.0, "down", "kernel", 4.0, 5.0, 3.0),
        *transfers(1.0, "down", "netstack", 2.0, 3.5, 3.0),
        *transfers(1.0, "up", "kernel", 4.0),
        *transfers(1.0, "up", "netstack", 5.0),
    ]

    assert rows(results) == [
        "loss two kernels netstack ratio goal",
        "0 % down 92.0 (90.0-95.0) 90.0 (89.0-91.0) 0.98 0.95 met",
        "1 % down 4.00 (3.00-5.00) 3.00 (2.00-3.50) 0.75 0.80 missed",
        "1 % up 4.00 (4.00-4.00) 5.00 (5.00-5.00) 1.25",
    ]


def test_what_failed_every_time_has_no_ratio_and_misses_its_goal():
    results = [*transfers(1.0, "down", "kernel", 4.0), *transfers(1.0, "down", "netstack", None)]

    assert rows(results)[1] == "1 % down 4.00 (4.00-4.00) failed - 0.80 missed"
