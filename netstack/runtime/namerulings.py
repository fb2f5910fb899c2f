"""Names that commands allowed or denied while the pipeline runs, beside the configuration. No I/O, no clock.

`example.com` is the name and all below it, `*.example.com` only what is below it. What was said last wins: a ruling
replaces those on names below it, and of the remaining ones the most specific counts. The tracker keeps them;
dns_filter has a copy.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple


class NameRuling(NamedTuple):
    """What was said about a name, and the pattern for which it was said."""

    pattern: str
    allowed: bool


class NameRulings:
    """Rulings by pattern. Names are in lower case, without the final dot."""

    def __init__(self, allowed: Iterable[str] = (), denied: Iterable[str] = ()) -> None:
        self._rulings: dict[str, bool] = {}
        for pattern in denied:
            self._rulings[pattern] = False
        for pattern in allowed:
            self._rulings[pattern] = True

    def __bool__(self) -> bool:
        return bool(self._rulings)

    def __len__(self) -> int:
        return len(self._rulings)

    def patterns(self, *, allowed: bool) -> list[str]:
        """Those that were allowed, or those that were denied, oldest first."""
        return [pattern for pattern, is_allowed in self._rulings.items() if is_allowed is allowed]

    def rule(self, pattern: str, *, allowed: bool) -> list[str]:
        """Allow or deny; returns the patterns whose ruling this replaces."""
        replaced = [known for known in self._rulings if covers(pattern, known)]
        for known in replaced:
            del self._rulings[known]
        self._rulings[pattern] = allowed
        return replaced

    def forget(self, pattern: str) -> bool:
        """Take a ruling back; whether there was one."""
        return self._rulings.pop(pattern, None) is not None

    def ruling(self, name: str) -> NameRuling | None:
        """What was said about a name; None where nothing was."""
        rulings = self._rulings
        if name in rulings:
            return NameRuling(name, rulings[name])
        for parent in _parents(name):
            for pattern in (f"*.{parent}", parent):
                if pattern in rulings:
                    return NameRuling(pattern, rulings[pattern])
        return None

    def decide(self, names: Iterable[str]) -> NameRuling | None:
        """What was said about a name and those it is an alias of, the asked one first.

        Where the asked name is allowed its aliases do not matter; a denied alias denies the name.
        """
        for index, name in enumerate(names):
            ruling = self.ruling(name)
            if ruling is not None and (index == 0 or not ruling.allowed):
                return ruling
        return None


def covers(pattern: str, name: str) -> bool:
    """Whether a pattern is about a name, or about all that another pattern is about."""
    if pattern.startswith("*."):
        return name.endswith(pattern[1:])
    return name.removeprefix("*.") == pattern or name.endswith(f".{pattern}")


def _parents(name: str) -> Iterator[str]:
    dot = name.find(".")
    while dot >= 0:
        if name[dot - 1 : dot] != "\\":  # an escaped dot is part of a label (RFC 1035 section 5.1)
            yield name[dot + 1 :]
        dot = name.find(".", dot + 1)
