"""A set of names as flat octets: a hash table that is written once, mapped by every process, and never unpacked.

    names    "\\n" NAME "/" RULE, one after the other; RULE is a packed rule (rules.pack) in hexadecimal
    index    where each bucket begins in `names`, and the end of the last one
    marks    bits that tell nearly always that a name is not there

Theory of operation. The number of a name is the CRC-32 of its text, one call in C where a keyed hash costs as much as
all else. Its upper bits give the bucket; names that fall into one stand there one behind the other, and the name itself
is compared, so a collision costs time and nothing else. Whoever writes a list could make many of them; but he can deny
every name as well. The marks are 8 to 16 bits for each name, of which one is set (a Bloom filter with one function),
since nearly every name that is looked up is listed nowhere. No I/O, no clock.
"""

from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate, repeat
from operator import rshift
from typing import Final, NamedTuple, Protocol
from zlib import crc32

from services.dns_filter.lists.rules import AT, BELOW, merge

_PART_BITS: Final = 6
_PARTS: Final = 1 << _PART_BITS
"""Parts of the table, which are put together one after the other: the objects of one are a 64th of all."""
_MARK_BITS: Final = 25  # at most: four million octets
_MAX_OCTETS: Final = (1 << 32) - 1  # by the width of an index


class Octets(Protocol):
    """What slices of are bytes: bytes, or mapped ones."""

    def __getitem__(self, at: slice, /) -> bytes: ...


class Built(NamedTuple):
    """What belongs to the octets of the names."""

    starts: "array[int]"
    """The index."""
    marks: bytes


class TableBuilder:
    """Collects names. What can be done for all of them by something of C is: a loop is most of the time."""

    def __init__(self) -> None:
        # Joined: a million small objects would take three times as much.
        self._entries: list[list[bytes]] = [[] for _ in range(_PARTS)]
        self._numbers = [array("I") for _ in range(_PARTS)]

    def __len__(self) -> int:
        """How many were added, those that were added twice included."""
        return sum(map(len, self._numbers))

    def add(self, names: Sequence[bytes], rules: Iterable[int]) -> None:
        """Take names, and a packed rule for each."""
        parts: list[list[bytes]] = [[] for _ in range(_PARTS)]
        add_entry = [part.append for part in parts]
        add_number = [part.append for part in self._numbers]
        shift = 32 - _PART_BITS
        entries = map(b"%b/%x".__mod__, zip(names, rules, strict=True))
        for number, entry in zip(map(crc32, names), entries, strict=True):
            part = number >> shift
            add_entry[part](entry)
            add_number[part](number)
        for known, part_entries in zip(self._entries, parts, strict=True):
            if part_entries:
                known.append(b"\n".join(part_entries))

    def build(self, write: Callable[[bytes], object]) -> Built:
        """Give the octets of the names to `write`, piece by piece, and what belongs to them back. To be called once.

        Raises ValueError where there are more than an index can count.
        """
        length = len(self).bit_length()
        bits = max(_PART_BITS, length - 2)  # two to four names in a bucket
        index = array("I", [0])
        at = 0
        for entries, numbers in zip(self._entries, self._numbers, strict=True):
            buckets = [b""] * (1 << bits - _PART_BITS)
            if entries:
                _fill(buckets, numbers, b"\n".join(entries).split(b"\n"), 32 - bits)
            entries.clear()
            ends = list(accumulate(map(len, buckets), initial=at))
            at = ends[-1]
            if at > _MAX_OCTETS:
                raise ValueError(f"more than {_MAX_OCTETS} octets of names")
            index.extend(ends[1:])
            write(b"".join(buckets))
        return Built(index, _marks(self._numbers, min(max(_PART_BITS, length) + 3, _MARK_BITS)))


class Table:
    """Such a set, to be looked up."""

    def __init__(self, index: Sequence[int], marks: Sequence[int], names: Octets) -> None:
        """Raises ValueError where the sizes cannot be those of a table."""
        self._index = index
        self._marks = marks
        self._names = names
        self._shift = _shift(len(index) - 1)
        self._mark_shift = _shift(len(marks))
        self._bit_shift = self._mark_shift - 3

    def find(self, name: bytes) -> tuple[bytes, int] | None:
        """The most specific name whose rule covers a name (wire form, lower case), and that packed rule."""
        text = name[1:-1].translate(_DOTS)
        marks, shift, bit = self._marks, self._mark_shift, self._bit_shift
        coverage = AT
        at = 0
        while length := name[at]:
            if length > _CLEAR:
                text = _text(name)
            number = crc32(text[at:])
            if marks[number >> shift] << (number >> bit & 7) & 128:
                rule = self._rule(text[at:], number)
                if rule & coverage and _is_text(name, at, text):
                    return text[at:], rule
            at += 1 + length
            coverage = BELOW
        return None

    def _rule(self, text: bytes, number: int) -> int:
        """That of exactly this name; 0 where there is none."""
        bucket = number >> self._shift
        octets = self._names[self._index[bucket] : self._index[bucket + 1]]
        _, found, rest = octets.partition(b"\n%b/" % text)
        return int(rest.partition(b"\n")[0], 16) if found else 0


_CLEAR: Final = 44
"""Up to here no length of a label is a character of one; 45 is a hyphen, 48 to 57 are digits."""
_DOTS: Final = bytes(ord(".") if octet < 64 and octet not in b"-0123456789" else octet for octet in range(256))
"""Makes text of the wire form, less the first octet and the last."""


def _text(name: bytes) -> bytes:
    """What _DOTS makes of a name, also where the length of a label is unclear."""
    text = bytearray(name.translate(_DOTS))
    at = 0
    while length := name[at]:
        text[at] = ord(".")
        at += 1 + length
    return bytes(text[1:-1])


def _is_text(name: bytes, at: int, text: bytes) -> bool:
    """Whether the labels of a name from `at` on are what the text says: one may have what became a dot within it."""
    dots = text.count(b".", at)
    while length := name[at]:
        at += 1 + length
        dots -= 1
    return dots == -1


def _fill(buckets: list[bytes], numbers: Sequence[int], entries: Sequence[bytes], shift: int) -> None:
    """Put names with their rules into the buckets of their part."""
    mask = len(buckets) - 1
    twice = {number for number, count in Counter(numbers).items() if count > 1}
    for number, entry in zip(numbers, entries, strict=True):
        bucket = number >> shift & mask
        if number in twice:
            buckets[bucket] = _merged(buckets[bucket], entry)
        else:
            buckets[bucket] += b"\n" + entry


def _merged(known: bytes, entry: bytes) -> bytes:
    """The octets of a bucket with one more entry, whose name it may have already: then the rule is that for both."""
    name, _, rule = entry.partition(b"/")
    before, found, after = known.partition(b"\n%b/" % name)
    if not found:
        return known + b"\n" + entry
    old, end, others = after.partition(b"\n")
    return before + found + b"%x" % merge(int(old, 16), int(rule, 16)) + end + others


def _marks(numbers: Iterable[Sequence[int]], bits: int) -> bytes:
    """A bit for each so many upper bits of a number, set where there is such a number."""
    digits = bytearray(b"0") * (1 << bits)
    for part in numbers:
        # One call for all of them; what comes back is nothing, each time.
        any(map(digits.__setitem__, map(rshift, part, repeat(32 - bits)), repeat(ord("1"))))
    return int(digits, 2).to_bytes(len(digits) // 8, "big")


def _shift(count: int) -> int:
    """By how much a CRC is shifted to give one of so many, a power of two; raises ValueError where it is none."""
    if count < _PARTS or count & (count - 1):
        raise ValueError(f"{count} is no size of a table")
    return 33 - count.bit_length()
