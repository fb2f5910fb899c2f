"""Names that commands allowed or denied: what was said last wins."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netstack.runtime.namerulings import NameRuling, NameRulings, covers

Said = list[tuple[str, bool]]


def rulings(said: Said) -> NameRulings:
    known = NameRulings()
    for pattern, allowed in said:
        known.rule(pattern, allowed=allowed)
    return known


@pytest.mark.parametrize(
    ("said", "name", "expected"),
    [
        ([], "www.example", None),
        ([("example", False)], "example", NameRuling("example", False)),
        ([("example", False)], "a.b.example", NameRuling("example", False)),
        ([("example", False)], "myexample", None),
        ([("*.example", False)], "example", None),
        ([("*.example", False)], "a.example", NameRuling("*.example", False)),
        ([("example", False), ("www.example", True)], "a.www.example", NameRuling("www.example", True)),
        ([("example", False), ("www.example", True)], "ads.example", NameRuling("example", False)),
        ([("www.example", True), ("example", False)], "www.example", NameRuling("example", False)),
        ([("www.example", False), ("example", True)], "www.example", NameRuling("example", True)),
        ([("example", True), ("example", False)], "example", NameRuling("example", False)),
        ([("*.example", True), ("example", False)], "a.example", NameRuling("example", False)),
        ([("example", False), ("*.example", True)], "a.example", NameRuling("*.example", True)),
        ([("example", False), ("*.example", True)], "example", NameRuling("example", False)),
    ],
    ids=[
        "nothing was said", "the name itself", "what is below", "not what ends so", "a wildcard is not its parent",
        "but what is below", "the more specific counts", "and no further", "what was said last about more",
        "whichever it was", "about the same name", "also over a wildcard", "a wildcard said last", "beside its parent",
    ],
)  # fmt: skip
def test_what_was_said_last_wins(said: Said, name: str, expected: NameRuling | None) -> None:
    assert rulings(said).ruling(name) == expected


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("www.test", "cdn.test"), None),
        (("www.test", "ads.test"), NameRuling("ads.test", False)),
        (("good.test", "ads.test"), NameRuling("good.test", True)),
        (("www.test", "good.test"), None),
        (("www.test", "good.test", "ads.test"), NameRuling("ads.test", False)),
    ],
    ids=["nothing", "a denied alias", "an allowed name", "an allowed alias allows nothing", "nor saves what follows"],
)
def test_aliases(names: tuple[str, ...], expected: NameRuling | None) -> None:
    assert rulings([("ads.test", False), ("good.test", True)]).decide(names) == expected


def test_a_ruling_is_taken_back() -> None:
    known = rulings([("a.example", False), ("b.example", True)])
    assert known.forget("a.example")
    assert not known.forget("a.example")
    assert known.ruling("a.example") is None
    assert (known.patterns(allowed=True), known.patterns(allowed=False)) == (["b.example"], [])


def test_a_copy_says_the_same() -> None:
    known = rulings([("example", False), ("www.example", True)])
    copy = NameRulings(known.patterns(allowed=True), known.patterns(allowed=False))
    assert copy.ruling("www.example") == known.ruling("www.example")
    assert copy.ruling("example") == known.ruling("example")


PATTERN = st.builds(
    lambda star, labels: star + ".".join(labels),
    st.sampled_from(["", "*."]), st.lists(st.sampled_from("ab"), min_size=1, max_size=3),
)  # fmt: skip
NAME = st.lists(st.sampled_from("ab"), min_size=1, max_size=4).map(".".join)


@given(st.lists(st.tuples(PATTERN, st.booleans()), max_size=6), NAME)
def test_the_last_that_covers_a_name_is_the_one_that_counts(said: Said, name: str) -> None:
    last = next((NameRuling(pattern, allowed) for pattern, allowed in reversed(said) if covers(pattern, name)), None)
    assert rulings(said).ruling(name) == last
