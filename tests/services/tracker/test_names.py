"""Sets of names."""

import pytest

from services.tracker.names import NameSet, normalize


@pytest.mark.parametrize(
    ("patterns", "name", "covered"),
    [
        (["example.com"], "example.com", True),
        (["example.com"], "www.example.com", True),
        (["example.com"], "a.b.example.com", True),
        (["example.com"], "badexample.com", False),
        (["example.com"], "com", False),
        (["*.example.com"], "www.example.com", True),
        (["*.example.com"], "example.com", False),
        (["*"], "anything", True),
        (["Example.COM."], "example.com", True),
        (["lan"], "nas.lan", True),
        (["corp.example"], "evil\\.corp.example", False),
        ([], "example.com", False),
    ],
    ids=[
        "a name covers itself",
        "and what is below it",
        "at any depth",
        "but not a name that only ends alike",
        "nor what is above it",
        "an asterisk covers what is below",
        "but not the name itself",
        "an asterisk alone covers every name",
        "case and the final dot do not matter",
        "a name of one label covers what is below it",
        "an escaped dot separates no labels",
        "nothing covers nothing",
    ],
)
def test_covers(patterns: list[str], name: str, covered: bool) -> None:
    assert NameSet(patterns).covers(name) is covered


def test_an_empty_set_is_false() -> None:
    assert not NameSet()
    assert NameSet(["*"])
    assert NameSet(["example.com"])


@pytest.mark.parametrize(("name", "normal"), [("WWW.Example.", "www.example"), ("a", "a"), (".", "")])
def test_normalize(name: str, normal: str) -> None:
    assert normalize(name) == normal
