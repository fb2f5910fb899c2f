"""Sets of names: `example.com` is the name and all below it, `*.example.com` only what is below it, `*` every name."""

from collections.abc import Iterable


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
        below = self._below
        at_and_below = self._at_and_below
        if name in at_and_below or "" in below:
            return True
        if not below and not at_and_below:
            return False
        dot = name.find(".")
        while dot >= 0:
            parent = name[dot + 1 :]
            # An escaped dot is part of a label (RFC 1035 section 5.1).
            if (parent in at_and_below or parent in below) and name[dot - 1 : dot] != "\\":
                return True
            dot = name.find(".", dot + 1)
        return False
