"""What a line of a list says: a name, what of it is covered, and whether it is an exception. No I/O, no clock."""

import re
from typing import Final, NamedTuple

AT: Final = 1
"""The name itself."""
BELOW: Final = 2
"""All names below it."""

MAX_LINE: Final = (1 << 30) - 1  # by the width of a packed rule; what lies beyond is reported as this line
MAX_SOURCES: Final = 1024  # lists

_MAX_NAME: Final = 253  # characters of a name without its final dot (RFC 1035 section 2.3.4)
_NAME: Final = re.compile(rb"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?(?:\.[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?)*")
_SHOWN: Final = 60  # characters of what stands in a file that a message repeats


class ListLineError(ValueError):
    """A line that says nothing that could be used; the text says why."""


class Entry(NamedTuple):
    """One name of a list, in lower case, without the final dot."""

    name: bytes
    coverage: int
    exception: bool = False


class Tally:
    """What was found in one list, beside its entries."""

    MAX_ERRORS: Final = 10  # that are named; all are counted

    def __init__(self) -> None:
        self.entries = 0
        self.ignored = 0
        """Rules that say something which a DNS filter cannot do (paths, scripts, other answers than no)."""
        self.options = 0
        """Rules that hold, but whose options (AdBlock's) do not."""
        self.errors = 0
        self.first_errors: list[tuple[int, str]] = []
        """Line and what is wrong with it."""

    def error(self, line: int, text: str) -> None:
        """Note a bad line."""
        self.errors += 1
        if len(self.first_errors) < self.MAX_ERRORS:
            self.first_errors.append((line, text))


def check_name(name: bytes) -> bytes:
    """The name, if it is one; raises ListLineError."""
    if len(name) > _MAX_NAME or not _NAME.fullmatch(name):
        raise ListLineError(f"{shown(name)} is no domain name")
    return name


def pack(source: int, line: int, coverage: int) -> int:
    """A rule in 64 bits. Rules are in the order of their lists and lines."""
    return source << 32 | min(line, MAX_LINE) << 2 | coverage


def unpack(rule: int) -> tuple[int, int, int]:
    """Source, line and coverage."""
    return rule >> 32, rule >> 2 & MAX_LINE, rule & 3


def merge(one: int, other: int) -> int:
    """Two rules for one name: both cover; the first is the one to be named."""
    return min(one, other) | (one | other) & 3


def shown(text: bytes) -> str:
    """What stands in a file, fit for a message of one line."""
    start = text[:_SHOWN].decode("utf-8", "replace").encode("unicode_escape").decode("ascii")
    return f'"{start}"' if len(text) <= _SHOWN else f'"{start}..."'
