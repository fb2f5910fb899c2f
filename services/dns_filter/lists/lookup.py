"""Names of lists, looked up. No I/O, no clock."""

from dataclasses import dataclass
from typing import NamedTuple

from services.dns_filter.lists.rules import unpack
from services.dns_filter.lists.table import Table


class Match(NamedTuple):
    """The rule that covers a name: index of its list, line, and the name that stands there."""

    source: int
    line: int
    name: str


class Names:
    """A set of names."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def match(self, name: bytes) -> Match | None:
        """The most specific rule that covers a name (wire form, lower case)."""
        found = self._table.find(name)
        if found is None:
            return None
        source, line, _ = unpack(found[1])
        return Match(source, line, found[0].decode("ascii"))


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
