"""Sets of names."""

import pytest

from services.dns_filter.names import NameSet, to_wire

NAMES = NameSet(["example.com", "*.example.net", "bad.example.com", "Upper.Test."])


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("example.com", "example.com"),
        ("www.example.com", "example.com"),
        ("a.b.bad.example.com", "bad.example.com"),
        ("notexample.com", None),
        ("com", None),
        ("example.net", None),
        ("www.example.net", "*.example.net"),
        ("a.www.example.net", "*.example.net"),
        ("upper.test", "Upper.Test."),
        ("example.com.evil.test", None),
    ],
    ids=[
        "the name itself", "a name below", "the most specific rule", "a name that ends alike", "a name above",
        "an asterisk does not cover the name itself", "but what is below", "at any depth",
        "case and final dot do not count",
        "a name in front of another",
    ],
)  # fmt: skip
def test_match(name: str, rule: str | None) -> None:
    assert NAMES.match(to_wire(name)) == rule


def test_root_is_covered_by_nothing() -> None:
    assert NAMES.match(b"\x00") is None


def test_empty_set_is_false() -> None:
    assert not NameSet()
    assert NameSet(["example.com"])
    assert NameSet(["*.example.com"])


@pytest.mark.parametrize("pattern", ["", "a..b", "*x.example.com", "a.*.com", "x" * 64], ids=repr)
def test_what_is_no_name(pattern: str) -> None:
    with pytest.raises(ValueError, match="domain name"):
        NameSet([pattern])
