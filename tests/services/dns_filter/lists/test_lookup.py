"""Names of lists, looked up."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.dns_filter.lists.builder import Builder
from services.dns_filter.lists.lookup import Lists, Match, Names
from services.dns_filter.names import to_wire
from tests.services.dns_filter.lists.reading import build, covers, naive
from tests.services.dns_filter.lists.reading import names as names_of

LIST = b"""0.0.0.0 exact.example
wide.example
||*.below.example^
deep.wide.example
0.0.0.0 twice.example
||*.twice.example^
zip.example
"""


def names(text: bytes) -> Names:
    builder = Builder()
    builder.read([text], 0, allows=False)
    found = names_of(builder)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("exact.example", Match(0, 1, "exact.example")),
        ("www.exact.example", None),
        ("wide.example", Match(0, 2, "wide.example")),
        ("www.wide.example", Match(0, 2, "wide.example")),
        ("a.b.deep.wide.example", Match(0, 4, "deep.wide.example")),
        ("below.example", None),
        ("www.below.example", Match(0, 3, "below.example")),
        ("twice.example", Match(0, 5, "twice.example")),
        ("www.twice.example", Match(0, 5, "twice.example")),
        ("notwide.example", None),
        ("example", None),
        ("wide.example.evil.test", None),
    ],
)
def test_match(name: str, found: Match | None) -> None:
    assert names(LIST).match(to_wire(name)) == found


@pytest.mark.parametrize(
    ("wire", "found"),
    [
        (b"\x03a.b\x04wide\x07example\x00", True),
        (b"\x08x\x04wide.c\x07example\x00", False),
        (b"\x06a.wide\x07example\x00", False),
        (b"\x0cwide.example\x00", False),
        (b"\x04wide\x07example\x03com\x00", False),
        (b"\x07\x04wide.x\x04wide\x07example\x00", True),
        (b"\x00", False),
        (bytes([46]) + b"x" * 46 + b"\x04wide\x07example\x00", True),
        (b"\x06wide/8\x07example\x00", False),
        (b"\x07example\x0fwide.example/16\x00", False),
        (b"\x12wide.example/8\nzip\x07example\x00", False),
    ],
    ids=[
        "a dot within a label below", "octets that look like a length", "a dot in a label is no end of one",
        "a name that is one label", "a name in front of another", "odd octets below", "the root",
        "a label of as many octets as a dot's code", "octets of a table", "a rule in a name", "a record in a name",
    ],
)  # fmt: skip
def test_names_that_nobody_lists(wire: bytes, found: bool) -> None:
    assert (names(LIST).match(wire) is not None) is found


def test_precedence() -> None:
    lists = build(b"||ads.example^\n@@||good.ads.example^\n", b"b.example\n", allows=(b"www.b.example\n",))
    assert lists.denied_by(to_wire("x.ads.example")) == 'deny.lists /0:1 "ads.example"'
    assert lists.denied_by(to_wire("good.ads.example")) is None
    assert lists.excepted(to_wire("a.good.ads.example"))
    assert lists.denied_by(to_wire("www.b.example")) == 'deny.lists /1:1 "b.example"'
    assert lists.allowed(to_wire("www.b.example"))
    assert not lists.allowed(to_wire("b.example"))


def test_no_lists_say_nothing() -> None:
    assert Lists().denied_by(to_wire("a.example")) is None
    assert not Lists().allowed(to_wire("a.example"))
    assert not Lists().excepted(to_wire("a.example"))


def test_all_of_many_names_are_found_and_no_others() -> None:
    generator = random.Random(1)
    listed = [f"{generator.randrange(10**6)}.n{generator.randrange(1000)}.example" for _ in range(5000)]
    found = names("\n".join(listed).encode())
    assert all(found.match(to_wire(f"www.{name}")) for name in listed)
    assert {found.match(to_wire(name)).name for name in listed} == set(listed)
    assert not any(found.match(to_wire(f"x{name}")) for name in listed)


LABEL = st.sampled_from(["a", "b", "c", "ab"])
NAME = st.lists(LABEL, min_size=2, max_size=4).map(".".join)
RULE = st.builds("{}{}".format, st.sampled_from(["0.0.0.0 ", "", "*.", "||", "||*.", "@@||", "@@||*."]), NAME)


@given(st.lists(RULE, max_size=12), st.lists(NAME, min_size=1, max_size=8), st.randoms())
def test_verdict_is_that_of_the_rules_one_by_one_in_any_order(
    rules: list[str], asked: list[str], order: random.Random
) -> None:
    text = "\n".join(rules).encode()
    entries = naive(text)
    shuffled = list(rules)
    order.shuffle(shuffled)
    for lists in (build(text), build("\n".join(shuffled).encode()), build(*(rule.encode() for rule in rules))):
        for name in asked:
            octets = name.encode()
            denied = any(covers(entry, octets) for entry in entries if not entry.exception)
            excepted = any(covers(entry, octets) for entry in entries if entry.exception)
            assert (lists.denied_by(to_wire(name)) is not None) == (denied and not excepted)
            assert lists.excepted(to_wire(name)) == excepted
