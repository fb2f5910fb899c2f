"""What was refused lately."""

from services.tracker.refused import Refused, RefusedTable

CLIENT = bytes([10, 0, 0, 2])


def test_the_last_one_is_kept_and_all_are_counted() -> None:
    table = RefusedTable()
    table.add("ads.example", Refused("name-denied", "first", CLIENT, 1.0))
    table.add("ads.example", Refused("name-denied", "second", CLIENT, 2.0))
    assert table.get("ads.example") == Refused("name-denied", "second", CLIENT, 2.0, 2)
    table.forget("ads.example")
    assert table.get("ads.example") is None


def test_beyond_the_limit_the_one_refused_longest_ago_is_forgotten() -> None:
    table = RefusedTable(max_kept=2)
    for name in ("a", "b", "a", "c"):
        table.add(name, Refused("name-denied", "", CLIENT, 0.0))
    assert [table.get(name) is not None for name in ("a", "b", "c")] == [True, False, True]
    assert len(table) == 2
