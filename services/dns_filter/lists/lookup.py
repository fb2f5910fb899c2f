"""Names of lists, looked up. No I/O, no clock."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import marisa_trie

from services.dns_filter.lists.rules import AT, BELOW, from_key, unpack


class Match(NamedTuple):
    """The rule that covers a name: index of its list, line, and the name that stands there."""

    source: int
    line: int
    name: str


class Names:
    """A set of names."""

    def __init__(self, trie: marisa_trie.BinaryTrie, rules: Sequence[int]) -> None:
        """`rules` has a packed rule for each key of the trie."""
        self._trie = trie
        self._rules = rules

    def __len__(self) -> int:
        return len(self._rules)

    def match(self, name: bytes) -> Match | None:
        """The most specific rule that covers a name (wire form, lower case)."""
        if b"." in name:
            key = _dotted_key(name)
        else:
            dotted = bytearray(name)
            at = 0
            while length := dotted[at]:
                dotted[at] = 0x2E  # the dot that stands before a label in rules.to_key
                at += 1 + length
            key = bytes(dotted[-2::-1])
        for prefix in reversed(self._trie.prefixes(key)):
            source, line, coverage = unpack(self._rules[self._trie.key_id(prefix)])
            if coverage & (AT if len(prefix) == len(key) else BELOW):
                return Match(source, line, from_key(prefix))
        return None


@dataclass(frozen=True, slots=True)
class Lists:
    """What all lists say; replaced as a whole when one of them changes."""

    labels: tuple[str, ...] = ()
    """Of each list: its key in the configuration and where it comes from."""
    allow: Names | None = None
    deny: Names | None = None
    exceptions: Names | None = None

    def allowed(self, name: bytes) -> bool:
        """Whether one of allow.lists covers a name."""
        return self.allow is not None and self.allow.match(name) is not None

    def excepted(self, name: bytes) -> bool:
        """Whether one of deny.lists itself says that a name is not denied."""
        return self.exceptions is not None and self.exceptions.match(name) is not None

    def denied_by(self, name: bytes) -> str | None:
        """The list, line and name by which deny.lists deny a name; None where they do not, or except it."""
        found = self.deny.match(name) if self.deny is not None else None
        if found is None or self.excepted(name):
            return None
        return f'{self.labels[found.source]}:{found.line} "{found.name}"'


def _dotted_key(name: bytes) -> bytes:
    """The key of a name with a dot within a label, which ends none and stands in no list (or a length of 46)."""
    parts = []
    at = 0
    while length := name[at]:
        parts.append(b"." + name[at + 1 : at + 1 + length].replace(b".", b"\0"))
        at += 1 + length
    return b"".join(parts)[::-1]
