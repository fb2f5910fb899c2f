"""Lists put together: what every list says, as one trie for each kind of rule. No I/O, no clock.

Theory of operation. A set of names is a trie (marisa-trie, a LOUDS trie with Patricia edges) over reversed names, and
an array with a rule (rules.pack) for each key, by the number that the trie gives it. Both are flat octets: they are
written to files once and mapped by every process, which then share them, instead of each building a set of its own.
What is collected before that is kept joined, since a million small objects would take five times as much.
"""

from array import array
from collections.abc import Iterable, Iterator
from typing import Final

import marisa_trie

from services.dns_filter.lists.lines import Chunk, Lines
from services.dns_filter.lists.rules import Tally, merge
from services.dns_filter.lists.zone import Zone, looks_like_zone

ALLOW, DENY, EXCEPT = "allow", "deny", "except"
"""Names of allow.lists; of deny.lists; and what deny.lists themselves except."""
KINDS: Final = (ALLOW, DENY, EXCEPT)


class Builder:
    """Collects what lists say."""

    def __init__(self) -> None:
        self._chunks: dict[str, list[Chunk]] = {kind: [] for kind in KINDS}

    def read(self, chunks: Iterable[bytes], source: int, *, allows: bool) -> Tally:
        """Take a list, given in chunks of whole lines; `allows` where it is one of allow.lists."""
        tally = Tally()
        reader: Lines | Zone | None = None
        for text in chunks:
            if not text:
                continue
            if reader is None:
                reader = Zone(source, tally) if looks_like_zone(text) else Lines(source, tally)
            listed, exceptions = reader.read(text)
            self._add(ALLOW if allows else DENY, listed)
            self._add(ALLOW if allows else EXCEPT, exceptions)
        return tally

    def build(self, kind: str) -> tuple[marisa_trie.BinaryTrie, "array[int]"] | None:
        """The trie of one kind and the rule of each of its keys; None where there are none. Call it once for each."""
        chunks = self._chunks[kind]
        if not chunks:
            return None
        # One trie: names share few endings once they are reversed, and each further one costs every lookup.
        trie = marisa_trie.BinaryTrie(_keys(chunks), num_tries=1)
        rules = array("Q", bytes(8 * len(trie)))
        while chunks:
            keys, found = chunks.pop()
            for number, rule in zip(map(trie.key_id, keys.split(b"\n")), found, strict=True):
                known = rules[number]
                rules[number] = merge(known, rule) if known else rule
        return trie, rules

    def _add(self, kind: str, chunk: Chunk) -> None:
        if chunk.rules:
            self._chunks[kind].append(chunk)


def _keys(chunks: Iterable[Chunk]) -> Iterator[bytes]:
    for chunk in chunks:
        yield from chunk.keys.split(b"\n")
