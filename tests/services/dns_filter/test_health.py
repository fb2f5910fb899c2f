"""Which upstream to ask."""

from services.dns_filter.health import Health


def refuse(health: Health, index: int, now: float) -> bool:
    return health.failed(index, now, asked_at=now, silent=False)


def keep_silent(health: Health, index: int, now: float) -> bool:
    return health.failed(index, now, asked_at=now - 5, silent=True)


def test_all_are_up_at_first_and_asked_in_order() -> None:
    assert Health(3).order() == [0, 1, 2]


def test_one_that_refuses_is_passed_over_at_once() -> None:
    health = Health(2)
    assert refuse(health, 0, 10.0)
    assert health.order() == [1]
    assert not refuse(health, 0, 10.1), "it goes down once"


def test_one_that_is_silent_goes_down_after_three_questions() -> None:
    health = Health(2)
    assert [keep_silent(health, 0, now) for now in (10.0, 11.0, 12.0, 13.0)] == [False, False, True, False]
    assert health.order() == [1]


def test_silence_about_one_name_does_not_count_while_it_answers_others() -> None:
    health = Health(2)
    for now in range(10, 20):
        health.answered(0, now - 1.0)
        assert not keep_silent(health, 0, float(now))
    assert health.order() == [0, 1]


def test_it_is_probed_with_growing_pauses_and_comes_back() -> None:
    health = Health(2)
    refuse(health, 0, 0.0)
    asked = [now / 2 for now in range(240) if health.probes(now / 2)]
    assert asked == [1.0, 3.0, 7.0, 15.0, 31.0, 61.0, 91.0]
    assert health.answered(0, 120.0)
    assert health.order() == [0, 1]
    assert not health.answered(0, 121.0)


def test_backoff_begins_anew_after_an_answer() -> None:
    health = Health(2)
    refuse(health, 0, 0.0)
    health.probes(1.0)
    health.answered(0, 2.0)
    refuse(health, 0, 10.0)
    assert health.probes(10.9) == []
    assert health.probes(11.0) == [0]


def test_when_all_are_down_all_are_asked_and_none_is_probed() -> None:
    health = Health(2)
    refuse(health, 1, 0.0)
    assert not health.all_down
    refuse(health, 0, 0.0)
    assert health.all_down
    assert health.order() == [0, 1]
    assert health.probes(100.0) == []
