"""The table of names: what is in it is found, and nothing else, whatever falls together."""

from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.dns_filter.lists import table as module
from services.dns_filter.lists.rules import AT, BELOW, pack
from services.dns_filter.lists.table import Table, TableBuilder
from services.dns_filter.names import to_wire


def table(*batches: dict[str, int]) -> Table:
    builder = TableBuilder()
    for batch in batches:
        builder.add([name.encode() for name in batch], batch.values())
    octets: list[bytes] = []
    built = builder.build(octets.append)
    return Table(*built, b"".join(octets))


def find(one: Table, name: str) -> dict[str, int]:
    return {found.decode(): rule for found, rule in one.find(to_wire(name))}


def test_a_name_finds_itself_and_what_it_is_below() -> None:
    one = table({"example": 4, "www.example": 8, "other.example": 12, "a.www.example": 16})
    assert find(one, "www.example") == {"example": 4, "www.example": 8}
    assert list(find(one, "x.a.www.example")) == ["example", "www.example", "a.www.example"]
    assert find(one, "example.test") == {}
    assert one.find(b"\0") == ()


def test_one_name_in_several_lists_has_the_first_rule_and_what_all_cover() -> None:
    first, second = pack(0, 7, AT), pack(1, 3, BELOW)
    for batches in ([{"x.test": first}, {"x.test": second}], [{"x.test": second, "y.test": 4}, {"x.test": first}]):
        assert find(table(*batches), "x.test") == {"x.test": pack(0, 7, AT | BELOW)}


def test_names_that_collide_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    # Every name has the same number: one bucket, one mark.
    monkeypatch.setattr(module, "crc32", lambda *_: 0x12345678)
    names = {f"n{number}.test": number << 2 | AT for number in range(50)}
    one = table(names, {"n7.test": 999 << 2 | BELOW})
    assert all(find(one, name)[name] >> 2 == rule >> 2 for name, rule in names.items())
    assert find(one, "n7.test") == {"n7.test": 7 << 2 | AT | BELOW}
    assert find(one, "n99.test") == find(one, "test") == find(one, "n7.tes") == {}


def test_two_names_of_one_number_are_two_names() -> None:
    assert crc32(b"plumless") == crc32(b"buckeroo"), "known since the 1990s"
    one, other = "plumless"[::-1] + ".test", "buckeroo"[::-1] + ".test"
    assert find(table({f"{one}": 4}), other) == {}
    assert find(table({one: 4, other: 8}), other) == {other: 8}


@pytest.mark.parametrize(("index", "marks"), [(65, 63), (64, 64), (66, 64), (1, 64)])
def test_sizes_that_no_table_has_are_refused(index: int, marks: int) -> None:
    with pytest.raises(ValueError, match="is no size of a table"):
        Table([0] * index, bytes(marks), b"")


def test_more_octets_than_an_index_can_count_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_OCTETS", 10)
    with pytest.raises(ValueError, match="more than 10 octets of names"):
        table({"ads.example": 4})


NAME = st.lists(st.sampled_from(["a", "b", "ab", "c-d"]), min_size=1, max_size=4).map(".".join)


@given(st.lists(st.dictionaries(NAME, st.integers(1, 1 << 20).map(lambda line: line << 2 | AT)), max_size=3), NAME)
def test_it_finds_what_a_dictionary_would(batches: list[dict[str, int]], asked: str) -> None:
    listed: dict[str, int] = {}
    for batch in batches:
        for name, rule in batch.items():
            listed[name] = min(rule, listed.get(name, rule))
    labels = asked.split(".")
    suffixes = [".".join(labels[at:]) for at in range(len(labels))]
    assert find(table(*batches), asked) == {name: listed[name] for name in suffixes if name in listed}
