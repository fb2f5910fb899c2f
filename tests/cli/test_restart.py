"""When a process that died is started again."""

import pytest

from netstack.cli.restart import LONGEST_DELAY, RestartPolicy


def _delays(lives: list[float]) -> list[tuple[float, bool]]:
    """Delay and crash loop after each of these lives, in seconds."""
    policy, now, told = RestartPolicy(), 100.0, []
    for life in lives:
        policy.started(now)
        now += life
        restart = policy.died(now)
        told.append((restart.delay, restart.crash_loop))
        now += restart.delay
    return told


@pytest.mark.parametrize(
    ("lives", "told"),
    [
        pytest.param([5.0], [(0.0, False)], id="the first death is answered at once"),
        pytest.param([5.0, 1.0, 1.0], [(0.0, False), (0.1, False), (0.2, False)], id="the next ones ever later"),
        pytest.param(
            [5.0, 1.0, 10.0, 1.0], [(0.0, False), (0.1, False), (0.0, False), (0.1, False)], id="10 s up forgive"
        ),
        pytest.param([0.2] * 4, [(0.0, False), (0.1, False), (0.2, False), (0.4, False)], id="four deaths are no loop"),
        pytest.param(
            [0.2] * 6,
            [(0.0, False), (0.1, False), (0.2, False), (0.4, False), (0.8, True), (1.6, False)],
            id="five within 10 s are a loop, told once",
        ),
        pytest.param(
            [4.0] * 5, [(0.0, False), (0.1, False), (0.2, False), (0.4, False), (0.8, False)], id="five in 16 s"
        ),
    ],
)
def test_deaths_are_answered(lives: list[float], told: list[tuple[float, bool]]) -> None:
    assert _delays(lives) == told


def test_a_process_is_never_away_for_longer_than_two_seconds() -> None:
    assert max(delay for delay, _ in _delays([0.1] * 50)) == LONGEST_DELAY == 2.0


def test_a_loop_is_over_after_a_steady_life() -> None:
    policy = RestartPolicy()
    for now in range(5):
        policy.died(float(now))
    assert policy.in_crash_loop
    policy.started(5.0)
    assert not policy.died(15.0).crash_loop
    assert not policy.in_crash_loop
