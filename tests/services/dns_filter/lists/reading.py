"""Reading lists in tests, and the reference: the rules one by one, compared label by label."""

from services.dns_filter.lists.builder import ALLOW, DENY, EXCEPT, Builder
from services.dns_filter.lists.lines import Chunk, Lines, parse_line
from services.dns_filter.lists.lookup import Lists, Match, Names
from services.dns_filter.lists.rules import AT, BELOW, Entry, ListLineError, Tally, from_key, unpack

Said = tuple[int, str, int]
"""Line, name and coverage."""


def said(chunk: Chunk) -> list[Said]:
    keys = chunk.keys.split(b"\n") if chunk.rules else []
    assert len(keys) == len(chunk.rules)
    found = []
    for key, rule in zip(keys, chunk.rules, strict=True):
        _, line, coverage = unpack(rule)
        found.append((line, from_key(key), coverage))
    return sorted(found)


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
    found = {kind: built and Names(*built) for kind in (ALLOW, DENY, EXCEPT) for built in [builder.build(kind)]}
    labels = tuple(f"deny.lists /{number}" for number in range(len(texts) + len(allows)))
    return Lists(labels, found[ALLOW], found[DENY], found[EXCEPT])


__all__ = ["Match", "build", "covers", "naive", "read_lines", "said"]
