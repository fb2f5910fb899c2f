"""A set of names as flat octets: a hash table that is written once, mapped by every process, and never unpacked.

    names    "\\n" NAME "/" RULE, one after the other; RULE is a packed rule (rules.pack) in hexadecimal
    index    where each bucket begins in `names`, and the end of the last one
    marks    bits that tell nearly always that a name is not there

Theory of operation. The number of a name is the CRC-32 of its characters from the last to the first, without the dots:
each label of a name that is looked up is read once for all the names that it is below. It is one call in C, where a
keyed hash costs as much as all else. Its upper bits give the bucket; names that fall into one stand there one behind
the other, and the name itself is compared, so a collision costs time and nothing else. Whoever writes a list could make
many of them; but he can deny every name as well. The marks are 8 to 16 bits for each name, of which one is set (a Bloom
filter with one function), since nearly every name that is looked up is listed nowhere. No I/O, no clock.
"""

from array import array
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate
from typing import Final, NamedTuple, Protocol
from zlib import crc32

from services.dns_filter.lists.rules import merge

_PART_BITS: Final = 6
_PARTS: Final = 1 << _PART_BITS
"""Parts of the table, which are put together one after the other: the objects of one are a 64th of all."""
_MAX_OCTETS: Final = (1 << 32) - 1  # by the width of an index


class Octets(Protocol):
    """What slices of are bytes: bytes, or mapped ones."""

    def __getitem__(self, at: slice, /) -> bytes: ...


class Built(NamedTuple):
    """What belongs to the octets of the names."""

    starts: "array[int]"
    """The index."""
    marks: bytearray


class TableBuilder:
    """Collects names."""

    def __init__(self) -> None:
        # Joined: a million small objects would take three times as much.
        self._names: list[list[bytes]] = [[] for _ in range(_PARTS)]
        self._numbers = [array("I") for _ in range(_PARTS)]
        self._rules = [array("Q") for _ in range(_PARTS)]

    def __len__(self) -> int:
        """How many were added, those that were added twice included."""
        return sum(map(len, self._rules))

    def add(self, names: Sequence[bytes], rules: Iterable[int]) -> None:
        """Take names, and a packed rule for each."""
        parts: list[list[bytes]] = [[] for _ in range(_PARTS)]
        shift = 32 - _PART_BITS
        add_name = [part.append for part in parts]
        add_number = [part.append for part in self._numbers]
        add_rule = [part.append for part in self._rules]
        for name, number, rule in zip(names, map(_number, names), rules, strict=True):
            part = number >> shift
            add_name[part](name)
            add_number[part](number)
            add_rule[part](rule)
        for known, part_names in zip(self._names, parts, strict=True):
            if part_names:
                known.append(b"\n".join(part_names))

    def build(self, write: Callable[[bytes], object]) -> Built:
        """Give the octets of the names to `write`, piece by piece, and what belongs to them back. To be called once.

        Raises ValueError where there are more than an index can count.
        """
        length = len(self).bit_length()
        bits = max(_PART_BITS, length - 2)  # two to four names in a bucket
        marks = bytearray(1 << max(_PART_BITS, length))
        index = array("I", [0])
        at = 0
        for names, numbers, rules in zip(self._names, self._numbers, self._rules, strict=True):
            buckets = [b""] * (1 << bits - _PART_BITS)
            if names:
                _fill(buckets, marks, zip(b"\n".join(names).split(b"\n"), numbers, rules, strict=True))
            names.clear()
            ends = list(accumulate(map(len, buckets), initial=at))
            at = ends[-1]
            if at > _MAX_OCTETS:
                raise ValueError(f"more than {_MAX_OCTETS} octets of names")
            index.extend(ends[1:])
            write(b"".join(buckets))
        return Built(index, marks)


class Table:
    """Such a set, to be looked up."""

    def __init__(self, index: Sequence[int], marks: Sequence[int], names: Octets) -> None:
        """Raises ValueError where the sizes cannot be those of a table."""
        self._index = index
        self._marks = marks
        self._names = names
        self._shift = _shift(len(index) - 1)
        self._mark_shift = _shift(len(marks))

    def find(self, name: bytes) -> Sequence[tuple[bytes, int]]:
        """Which names a name (wire form, lower case) is or is below, the shortest first, each with its packed rule."""
        labels = []
        at = 0
        while length := name[at]:
            at += 1
            labels.append(name[at : at + length])
            at += length
        marks, shift = self._marks, self._mark_shift
        found: tuple[tuple[bytes, int], ...] = ()
        number = 0
        first = len(labels)
        while first:
            first -= 1
            number = crc32(labels[first][::-1], number)
            if marks[number >> shift] >> (number & 7) & 1:
                text = b".".join(labels[first:])
                # No list has a dot or a slash within a label, and the octets could be those of another name.
                if text.count(b".") == len(labels) - first - 1 and b"/" not in text:
                    rule = self._rule(text, number)
                    if rule is not None:
                        found = (*found, (text, rule))
        return found

    def _rule(self, name: bytes, number: int) -> int | None:
        bucket = number >> self._shift
        octets = self._names[self._index[bucket] : self._index[bucket + 1]]
        _, found, rest = octets.partition(b"\n%b/" % name)
        return int(rest.partition(b"\n")[0], 16) if found else None


def _number(name: bytes) -> int:
    return crc32(name.replace(b".", b"")[::-1])


def _shift(count: int) -> int:
    """By how much a CRC is shifted to give one of so many, a power of two; raises ValueError where it is none."""
    if count < _PARTS or count & (count - 1):
        raise ValueError(f"{count} is no size of a table")
    return 33 - count.bit_length()


def _fill(buckets: list[bytes], marks: bytearray, entries: Iterable[tuple[bytes, int, int]]) -> None:
    """Put names, each with its number and its rule, into the buckets of their part."""
    mask = len(buckets) - 1
    shift = _shift(_PARTS * len(buckets))
    mark_shift = _shift(len(marks))
    for name, number, rule in entries:
        marks[number >> mark_shift] |= 1 << (number & 7)
        bucket = number >> shift & mask
        known = buckets[bucket]
        if known:
            before, found, after = known.partition(b"\n%b/" % name)
            if found:
                old, _, others = after.partition(b"\n")
                # Where the name comes last nothing follows.
                known = before + (b"\n" + others if others else b"")
                rule = merge(int(old, 16), rule)  # noqa: PLW2901 - what is written is the one for both
        buckets[bucket] = known + b"\n%b/%x" % (name, rule)
