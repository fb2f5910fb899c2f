"""Sets of names: `example.com` is the name and all below it, `*.example.com` only what is below it, `*` every name."""

from collections.abc import Iterable, Iterator


def normalize(name: str) -> str:
    """A name as it is compared and stored: in lower case, without the final dot."""
    return name.lower().removesuffix(".")


class NameSet:
    """Tells whether a name is covered; costs one look-up per label."""

    def __init__(self, patterns: Iterable[str] = ()) -> None:
        self._at_and_below: set[str] = set()
        self._below: set[str] = set()
        for pattern in map(normalize, patterns):
            if pattern == "*":
                self._below.add("")
            elif pattern.startswith("*."):
                self._below.add(pattern[2:])
            else:
                self._at_and_below.add(pattern)

    def __bool__(self) -> bool:
        return bool(self._at_and_below or self._below)

    def covers(self, name: str) -> bool:
        """Whether a normalized name is in the set, or below what is in it."""
        if name in self._at_and_below or "" in self._below:
            return True
        return any(parent in self._at_and_below or parent in self._below for parent in _parents(name))


def _parents(name: str) -> Iterator[str]:
    dot = name.find(".")
    while dot >= 0:
        if name[dot - 1 : dot] != "\\":  # an escaped dot is part of a label (RFC 1035 section 5.1)
            yield name[dot + 1 :]
        dot = name.find(".", dot + 1)
