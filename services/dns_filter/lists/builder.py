"""Lists put together: what every list says, as one table for each kind of rule. No I/O, no clock."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

from services.dns_filter.lists.lines import Chunk, Lines
from services.dns_filter.lists.rules import Tally
from services.dns_filter.lists.shape import looks_like_zone
from services.dns_filter.lists.table import Built, TableBuilder

if TYPE_CHECKING:
    from services.dns_filter.lists.zone import Zone

ALLOW, DENY, EXCEPT = "allow", "deny", "except"
"""Names of allow.lists; of deny.lists; and what deny.lists themselves except."""
KINDS: Final = (ALLOW, DENY, EXCEPT)


class Builder:
    """Collects what lists say."""

    def __init__(self) -> None:
        self._tables = {kind: TableBuilder() for kind in KINDS}

    def read(self, chunks: Iterable[bytes], source: int, *, allows: bool) -> Tally:
        """Take a list, given in chunks of whole lines; `allows` where it is one of allow.lists."""
        tally = Tally()
        reader: Lines | Zone | None = None
        for text in chunks:
            if not text:
                continue
            if reader is None:
                reader = _zone(source, tally) if looks_like_zone(text) else Lines(source, tally)
            listed, exceptions = reader.read(text)
            self._add(ALLOW if allows else DENY, listed)
            self._add(ALLOW if allows else EXCEPT, exceptions)
        return tally

    def build(self, kind: str, write: Callable[[bytes], object]) -> Built | None:
        """Write the names of one kind (TableBuilder.build); None where there are none."""
        table = self._tables[kind]
        return table.build(write) if len(table) else None

    def _add(self, kind: str, chunk: Chunk) -> None:
        if chunk.rules:
            self._tables[kind].add(chunk.names, chunk.rules)


def _zone(source: int, tally: Tally) -> "Zone":
    from services.dns_filter.lists.zone import Zone  # noqa: PLC0415 - imports dnspython, which few lists need

    return Zone(source, tally)
