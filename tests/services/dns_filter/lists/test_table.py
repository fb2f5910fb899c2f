"""The table of names: what is in it is found, and nothing else, whatever falls together."""

from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.dns_filter.lists import table as module
from services.dns_filter.lists.rules import AT, BELOW, merge, pack
from services.dns_filter.lists.table import Table, TableBuilder
from services.dns_filter.names import to_wire


def table(*batches: dict[str, int]) -> Table:
    builder = TableBuilder()
    for batch in batches:
        builder.add([name.encode() for name in batch], batch.values())
    octets: list[bytes] = []
    built = builder.build(octets.append)
    return Table(*built, b"".join(octets))


def find(one: Table, name: str) -> tuple[str, int] | None:
    found = one.find(to_wire(name))
    return found and (found[0].decode(), found[1])


def test_a_name_finds_itself_or_the_nearest_that_covers_it() -> None:
    both, at, below = AT | BELOW, AT, BELOW
    one = table({"example": 4 | both, "www.example": 8 | at, "b.www.example": 12 | below, "c.b.www.example": 16 | both})
    assert find(one, "www.example") == ("www.example", 8 | at)
    assert find(one, "x.www.example") == ("example", 4 | both), "the nearer one is for itself alone"
    assert find(one, "b.www.example") == ("example", 4 | both), "the nearest one is for what is below it"
    assert find(one, "x.b.www.example") == ("b.www.example", 12 | below)
    assert find(one, "x.y.c.b.www.example") == ("c.b.www.example", 16 | both)
    assert find(one, "example.test") is None
    assert one.find(b"\0") is None


@pytest.mark.parametrize("length", [44, 45, 46, 47, 48, 52, 57, 58, 63])
def test_a_label_whose_length_is_a_character_is_read_right(length: int) -> None:
    name = f"{'a' * length}.{'b' * length}.test"
    one = table({name: 4 | AT | BELOW})
    assert find(one, name) == find(one, f"{'c' * length}.{name}") == (name, 4 | AT | BELOW)
    assert find(one, name[1:]) is None


def test_what_only_looks_like_a_name_is_another() -> None:
    one = table({"a.b.test": 4 | AT | BELOW})
    assert one.find(b"\3a.b\4test\0") is None, "a label with a dot in it"
    assert one.find(b"\3a/b\4test\0") is None
    assert one.find(b"\3a\0b\4test\0") is None
    assert one.find(b"\1x\1a\1b\4test\0") == (b"a.b.test", 4 | AT | BELOW)
    assert one.find(b"\3x.y\1a\1b\4test\0") == (b"a.b.test", 4 | AT | BELOW), "the rest of it is that name"


def test_one_name_in_several_lists_has_the_first_rule_and_what_all_cover() -> None:
    first, second = pack(0, 7, AT), pack(1, 3, BELOW)
    for batches in ([{"x.test": first}, {"x.test": second}], [{"x.test": second, "y.test": 4}, {"x.test": first}]):
        assert find(table(*batches), "x.test") == ("x.test", pack(0, 7, AT | BELOW))


def test_names_that_collide_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    # Every name has the same number: one bucket, one mark.
    monkeypatch.setattr(module, "crc32", lambda *_: 0x12345678)
    names = {f"n{number}.test": number << 2 | AT for number in range(50)}
    one = table(names, {"n7.test": 999 << 2 | BELOW})
    assert all(find(one, name) == (name, rule) for name, rule in names.items() if name != "n7.test")
    assert find(one, "n7.test") == ("n7.test", 7 << 2 | AT | BELOW)
    assert find(one, "n99.test") is find(one, "test") is find(one, "n7.tes") is None


def test_two_names_of_one_number_are_two_names() -> None:
    assert crc32(b"plumless") == crc32(b"buckeroo"), "known since the 1990s"
    one, other = "plumless", "buckeroo"
    assert find(table({one: 4 | AT}), other) is None
    assert find(table({one: 4 | AT, other: 8 | AT}), other) == (other, 8 | AT)


@pytest.mark.parametrize(("index", "marks"), [(65, 63), (64, 64), (66, 64), (1, 64)])
def test_sizes_that_no_table_has_are_refused(index: int, marks: int) -> None:
    with pytest.raises(ValueError, match="is no size of a table"):
        Table([0] * index, bytes(marks), b"")


def test_more_octets_than_an_index_can_count_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_OCTETS", 10)
    with pytest.raises(ValueError, match="more than 10 octets of names"):
        table({"ads.example": 4})


NAME = st.lists(st.sampled_from(["a", "b", "ab", "c-d"]), min_size=1, max_size=4).map(".".join)


@given(st.lists(st.dictionaries(NAME, st.integers(4, 1 << 20)), max_size=3), NAME)
def test_it_finds_what_a_dictionary_would(batches: list[dict[str, int]], asked: str) -> None:
    listed: dict[str, int] = {}
    for batch in batches:
        for name, rule in batch.items():
            listed[name] = merge(rule, listed.get(name, rule))
    labels = asked.split(".")
    suffixes = [".".join(labels[at:]) for at in range(len(labels))]
    covering = [name for name in suffixes if listed.get(name, 0) & (AT if name == asked else BELOW)]
    expected = (covering[0], listed[covering[0]]) if covering else None
    assert find(table(*batches), asked) == expected
