"""Sets of names: `example.com` is the name and all below it, `*.example.com` only what is below it."""

from collections.abc import Iterable

from netstack.runtime.values import parse_name


class NameSet:
    """Tells which rule covers a name. Looking a name up costs one dictionary access per label."""

    def __init__(self, patterns: Iterable[str] = ()) -> None:
        """Patterns as in the configuration; raises ValueError for what is no name."""
        self._rules: dict[bytes, str] = {}
        """By name, for it and what is below it."""
        self._below: dict[bytes, str] = {}
        for pattern in patterns:
            name = parse_name(pattern)
            rules = self._below if name.startswith("*.") else self._rules
            rules[to_wire(name.removeprefix("*."))] = pattern

    def __bool__(self) -> bool:
        return bool(self._rules or self._below)

    def match(self, name: bytes) -> str | None:
        """The most specific pattern that covers a name (wire form, lower case); None if there is none."""
        rules = self._rules
        below = self._below
        if not rules and not below:
            return None
        rule = rules.get(name)
        at = 0
        while rule is None and (length := name[at]):
            at += 1 + length
            parent = name[at:]
            rule = below.get(parent) or rules.get(parent)
        return rule


def to_wire(name: str) -> bytes:
    """A valid name, as parse_name gives it, in wire form."""
    labels = name.encode("ascii").split(b".")
    return b"".join(len(label).to_bytes(1, "big") + label for label in labels) + b"\0"
