"""The table of `python -m bench.flows`: medians, ratios to the fewest flows, goals."""

from bench.flows import Beside, table


def rows(results):
    return [" ".join(line.split()) for line in table(results).splitlines()]


def test_each_number_of_flows_is_held_against_the_fewest():
    results = [
        *(Beside(1, "up", turn, value, 2.0) for turn, value in enumerate((4.0, 5.0, 6.0))),
        *(Beside(1000, "up", turn, value, 2.2, 6000.0) for turn, value in enumerate((4.0, 4.5, 6.0))),
        *(Beside(10_000, "up", turn, 4.0, 2.0, 6000.0) for turn in range(3)),
    ]

    assert rows(results) == [
        "idle flows Gbit/s ratio CPU s/GB ratio octets a flow goals",
        "1 up 5.00 1.00 2.00 1.00 - met",
        "1,000 up 4.50 0.90 2.20 1.10 6000 met",
        "10,000 up 4.00 0.80 2.00 1.00 6000 missed",
    ]


def test_an_idle_flow_that_takes_too_much_misses_its_goal():
    results = [Beside(1, "up", 1, 5.0, 2.0), Beside(100, "up", 1, 5.0, 2.0, 9000.0)]

    assert rows(results)[2] == "100 up 5.00 1.00 2.00 1.00 9000 missed"


def test_what_failed_has_no_figures():
    results = [Beside(1, "up", 1, 5.0, 2.0), Beside(100, "up", 1, problem="refused")]

    assert rows(results)[2] == "100 up - - - - - missed"
