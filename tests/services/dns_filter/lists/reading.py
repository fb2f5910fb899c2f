"""Reading lists in tests, and the reference: the rules one by one, compared label by label."""

from services.dns_filter.lists.builder import ALLOW, DENY, EXCEPT, Builder
from services.dns_filter.lists.lines import Chunk, Lines, parse_line
from services.dns_filter.lists.lookup import Lists, Match, Names
from services.dns_filter.lists.rules import AT, BELOW, Entry, ListLineError, Tally, unpack
from services.dns_filter.lists.table import Table

Said = tuple[int, str, int]
"""Line, name and coverage."""


def said(chunk: Chunk) -> list[Said]:
    found = []
    for name, rule in zip(chunk.names, chunk.rules, strict=True):
        _, line, coverage = unpack(rule)
        found.append((line, name.decode(), coverage))
    return sorted(found)


def names(builder: Builder, kind: str = DENY) -> Names | None:
    """What a builder has of one kind."""
    octets: list[bytes] = []
    built = builder.build(kind, octets.append)
    return built and Names(Table(*built, b"".join(octets)))


def read_lines(text: bytes) -> tuple[list[Said], list[Said], Tally]:
    tally = Tally()
    listed, exceptions = Lines(0, tally).read(text)
    return said(listed), said(exceptions), tally


def naive(text: bytes) -> list[Entry]:
    """Every entry, each line read alone."""
    entries = []
    for line in text.lower().split(b"\n"):
        try:
            entries += parse_line(line, Tally())
        except ListLineError:
            continue
    return entries


def covers(entry: Entry, name: bytes) -> bool:
    labels, listed = name.split(b"."), entry.name.split(b".")
    if labels == listed:
        return bool(entry.coverage & AT)
    return bool(entry.coverage & BELOW) and len(labels) > len(listed) and labels[-len(listed) :] == listed


def build(*texts: bytes, allows: tuple[bytes, ...] = ()) -> Lists:
    """Lists of these contents: deny.lists, and allow.lists after them."""
    builder = Builder()
    for number, text in enumerate((*texts, *allows)):
        builder.read([text], number, allows=number >= len(texts))
    found = {kind: names(builder, kind) for kind in (ALLOW, DENY, EXCEPT)}
    labels = tuple(f"deny.lists /{number}" for number in range(len(texts) + len(allows)))
    return Lists(labels, found[ALLOW], found[DENY], found[EXCEPT])


__all__ = ["Match", "build", "covers", "naive", "names", "read_lines", "said"]
