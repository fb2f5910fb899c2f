"""Refusals: fifty answers in thirty seconds, then silence."""

from netstack.runtime.refusals import MAX_DESTINATIONS, REFUSALS, WINDOW, Refusals

A = bytes([198, 18, 0, 1])
B = bytes([198, 18, 0, 2])


def knock(refusals: Refusals, destination: bytes, times: int, now: float) -> list[bool]:
    return [refusals.should_answer(destination, now) for _ in range(times)]


def test_the_fifty_first_refusal_in_a_window_is_silent():
    assert knock(Refusals(), A, REFUSALS + 2, 0.0) == [True] * REFUSALS + [False, False]


def test_each_destination_has_a_count_of_its_own():
    refusals = Refusals()
    knock(refusals, A, REFUSALS + 1, 0.0)
    assert refusals.should_answer(B, 0.0)
    assert not refusals.should_answer(A, 0.0)


def test_silence_ends_with_the_window_even_where_the_knocking_does_not():
    refusals = Refusals()
    knock(refusals, A, REFUSALS, 0.0)
    assert not refusals.should_answer(A, WINDOW - 0.001)
    assert refusals.should_answer(A, WINDOW)


def test_refusals_spread_over_several_windows_are_all_answered():
    refusals = Refusals()
    assert all(refusals.should_answer(A, second) for second in map(float, range(0, 300, 1)))


def test_a_scan_of_many_destinations_does_not_grow_the_table():
    refusals = Refusals()
    for number in range(MAX_DESTINATIONS * 2):
        refusals.should_answer(number.to_bytes(4, "big"), 0.0)
    assert len(refusals) == MAX_DESTINATIONS


def test_the_destination_whose_window_began_first_is_forgotten_first():
    refusals = Refusals()
    knock(refusals, A, REFUSALS, 0.0)
    knock(refusals, B, REFUSALS, 1.0)
    for number in range(MAX_DESTINATIONS - 1):
        refusals.should_answer(number.to_bytes(5, "big"), 2.0)
    assert not refusals.should_answer(B, 3.0)
    assert refusals.should_answer(A, 3.0)
