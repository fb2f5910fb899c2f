"""Lists of one rule a line: hosts files, plain names, wildcards and AdBlock rules, mixed or not. No I/O, no clock.

What each form means is what those who publish such lists mean by it:

    0.0.0.0 ads.example    that name alone, as in a hosts file (also 127.0.0.1, :: and ::1)
    ads.example            the name and all below it, as in `deny.names`
    *.ads.example          the same (so is .ads.example)
    ||ads.example^         the same; |ads.example^ the name alone, ||*.ads.example^ what is below it
    @@||good.example^      an exception to what lists deny

Theory of operation. Nearly all lines of a list have one shape. A regular expression for that shape goes over a whole
chunk of the file in C and gives one name, or nothing, per line; what it gives nothing for is looked at line by line
(parse_line). Both read a line alike, so which shape a chunk is taken to have changes the speed and nothing else.
"""

import re
from array import array
from collections.abc import Sequence
from ipaddress import ip_address
from itertools import compress, count
from typing import Final, NamedTuple

from services.dns_filter.lists.rules import AT, BELOW, Entry, ListLineError, Tally, check_name, pack, shown

_MAX_LINE_LENGTH: Final = 4096  # octets; ours
_SAMPLE: Final = 200  # lines that tell the shape of a chunk

# At least two labels, and no digit at the end: addresses and single labels are looked at one by one.
NAME: Final = rb"[a-z0-9_][a-z0-9_-]*\.[a-z0-9_.-]*[a-z]"
_ODD: Final = (b"..", b".-", b"-.")
_MAX_LABEL: Final = 63  # octets; RFC 1035 section 2.3.4
_END: Final = rb"(?:\n|[ \t\r]*\n)"
_COMMENT: Final = rb"(?:\n|[ \t\r]*(?:[ \t]#[^\n]*)?\n)"  # mostly there is none


class _Shape(NamedTuple):
    line: re.Pattern[bytes]
    """Matches every line, with the name where it has this shape."""
    coverage: int


def _shape(before: bytes, after: bytes, coverage: int) -> _Shape:
    return _Shape(re.compile(before + b"(" + NAME + b")" + after + b"|[^\n]*\n"), coverage)


_SHAPES: Final = (
    _shape(rb"(?:0\.0\.0\.0|127\.0\.0\.1|::1?)[ \t]+", _COMMENT, AT),
    _shape(rb"(?:\*?\.)?", _COMMENT, AT | BELOW),
    _shape(rb"\|\|", rb"\^" + _END, AT | BELOW),
)
_SINKS: Final = frozenset({b"0.0.0.0", b"127.0.0.1", b"::", b"::1", b"0", b"::0"})
# What hosts files say of the machine itself (hosts(5), Debian's and macOS's own).
_OWN: Final = frozenset(
    {
        b"localhost", b"local", b"broadcasthost", b"ip6-localhost", b"ip6-loopback", b"ip6-localnet",
        b"ip6-mcastprefix", b"ip6-allnodes", b"ip6-allrouters", b"ip6-allhosts", b"0.0.0.0",
    }
)  # fmt: skip
_COSMETIC: Final = re.compile(rb"[^\s#]*#[@?$%]*#")  # hides parts of pages
_URL: Final = re.compile(rb"[/:*^|\[\]]")  # in a rule: a path, a port, a pattern
# Options that only say of which requests to a host there is talk; a rule with any other does not mean the whole host.
_WHOLE_HOST: Final = frozenset({b"important", b"third-party", b"3p", b"all", b"document", b"doc", b"popup", b"network"})
_WHOLE_EXCEPTION: Final = frozenset({b"important", b"all", b"network"})


class Chunk(NamedTuple):
    """What a chunk of a list says: names, and a packed rule for each."""

    names: list[bytes]
    rules: "array[int]"


class Lines:
    """Reads one list, a chunk after the other."""

    def __init__(self, source: int, tally: Tally) -> None:
        self._source = source
        self._tally = tally
        self._line = 1

    def read(self, text: bytes) -> tuple[Chunk, Chunk]:
        """What whole lines say: names that are listed, and exceptions."""
        text = text.lower()
        shape = _shape_of(text)
        found = find_names(shape.line, text)
        others = Others(self._source)
        if not all(found):
            for index, line in enumerate(text.split(b"\n")[: len(found)]):
                if not found[index]:
                    self._look(line, self._line + index, others)
        fast = chunk_of(found, pack(self._source, self._line, shape.coverage))
        self._line += len(found)
        listed, exceptions = others.chunks()
        self._tally.entries += len(fast.rules) + len(listed.rules) + len(exceptions.rules)
        return joined(fast, listed), exceptions

    def _look(self, line: bytes, number: int, others: "Others") -> None:
        try:
            for entry in parse_line(line, self._tally):
                others.add(entry, number)
        except ListLineError as error:
            self._tally.error(number, str(error))


class Others:
    """Collects entries that were read one by one."""

    def __init__(self, source: int) -> None:
        self._source = source
        self._names: tuple[list[bytes], list[bytes]] = ([], [])
        self._rules = (array("Q"), array("Q"))

    def add(self, entry: Entry, line: int) -> None:
        """Take one."""
        self._names[entry.exception].append(entry.name)
        self._rules[entry.exception].append(pack(self._source, line, entry.coverage))

    def chunks(self) -> tuple[Chunk, Chunk]:
        """What is listed, and exceptions."""
        return Chunk(self._names[0], self._rules[0]), Chunk(self._names[1], self._rules[1])


def find_names(line: re.Pattern[bytes], text: bytes) -> list[bytes]:
    """The name on each line, or nothing where the line has another shape or needs a closer look."""
    found: list[bytes] = line.findall(text if text.endswith(b"\n") else text + b"\n")
    whole = b"\n".join(found)
    # What the shapes let pass but may be no name: odd labels, and long ones.
    if any(odd in whole for odd in _ODD) or max(map(len, found), default=0) > _MAX_LABEL:
        for index, name in enumerate(found):
            if len(name) > _MAX_LABEL or any(odd in name for odd in _ODD):
                found[index] = b""
    return found


def chunk_of(found: Sequence[bytes], first: int) -> Chunk:
    """What is left in `found`, a name or nothing for each line, the first of which has the packed rule `first`."""
    step = pack(0, 1, 0)
    names = list(filter(None, found))
    if len(names) == len(found):
        return Chunk(names, array("Q", range(first, first + step * len(found), step)))
    return Chunk(names, array("Q", compress(count(first, step), found)))


def joined(one: Chunk, other: Chunk) -> Chunk:
    """Both."""
    if not one.rules or not other.rules:
        return one if one.rules else other
    return Chunk(one.names + other.names, one.rules + other.rules)


def parse_line(line: bytes, tally: Tally) -> list[Entry]:
    """What one line, in lower case, says; nothing where it is empty or a comment. Raises ListLineError."""
    if len(line) > _MAX_LINE_LENGTH:
        raise ListLineError(f"a line of {len(line)} octets")
    line = line.removeprefix(b"\xef\xbb\xbf").strip()
    if not line or line[:1] in (b"!", b"#", b";", b"["):
        return []
    if _COSMETIC.match(line):
        tally.ignored += 1
        return []
    if line.startswith(b"@@"):
        return _parse_rule(line[2:], tally, exception=True)
    if line.startswith((b"|", b"/")) or b"^" in line or b"$" in line:
        return _parse_rule(line, tally, exception=False)
    words = line.partition(b"#")[0].split()
    if not words:
        return []
    if _is_address(words[0]):
        return _parse_host(words[0], words[1:])
    if len(words) > 1:
        raise ListLineError(f"{shown(line)} is neither a name, nor a hosts line, nor an AdBlock rule")
    return _parse_name(words[0])


def _parse_host(address: bytes, names: list[bytes]) -> list[Entry]:
    if not names:
        raise ListLineError(f"{shown(address)} is an address; lists hold names")
    names = [name for name in names if name not in _OWN]
    if names and address not in _SINKS:
        raise ListLineError(f"a hosts line for {shown(address)}; only 0.0.0.0, 127.0.0.1, :: and ::1 list a name")
    return [Entry(_checked(name), AT) for name in names]


def _parse_name(word: bytes) -> list[Entry]:
    wild = word.startswith((b"*.", b"."))
    name = _checked(word.removeprefix(b"*").removeprefix(b".") if wild else word)
    if not wild and b"." not in name:
        raise ListLineError(f"{shown(word)} is a single label; a whole top-level domain is written *.{name.decode()}")
    return [Entry(name, AT | BELOW)]


def _parse_rule(rule: bytes, tally: Tally, *, exception: bool) -> list[Entry]:
    body, _, options = rule.partition(b"$")
    whole = _WHOLE_EXCEPTION if exception else _WHOLE_HOST
    if options and not set(options.split(b",")) <= whole:
        tally.ignored += 1
        return []
    anchors = len(body) - len(body.lstrip(b"|"))
    host = body.lstrip(b"|").removesuffix(b"|")
    ended = host.endswith(b"^")
    host = host.removesuffix(b"^")
    below = host.startswith(b"*.")
    host = host.removeprefix(b"*.")
    # "||ads." and "||ads" are how many names begin, and "|ads.example" how many URLs do.
    is_start = host.endswith(b".") or (not ended and (anchors == 1 or b"." not in host))
    if not anchors or not host or is_start or _URL.search(host) or _is_address(host):
        tally.ignored += 1
        return []
    name = check_name(host)
    tally.options += bool(options)
    coverage = BELOW if below else AT if anchors == 1 else AT | BELOW
    return [Entry(name, coverage, exception)]


def _checked(name: bytes) -> bytes:
    name = check_name(name.removesuffix(b"."))
    if _is_address(name):
        raise ListLineError(f"{shown(name)} is an address; lists hold names")
    return name


def _is_address(word: bytes) -> bool:
    if not (word[:1].isdigit() or b":" in word):
        return False
    try:
        ip_address(word.partition(b"%")[0].decode("ascii"))
    except ValueError:
        return word in _SINKS
    return True


def _shape_of(text: bytes) -> _Shape:
    """The shape that most of the first lines have."""
    end = 0
    for _ in range(_SAMPLE):
        end = text.find(b"\n", end) + 1
        if not end:
            end = len(text)
            break
    sample = text[:end]
    return max(_SHAPES, key=lambda shape: sum(map(bool, shape.line.findall(sample))))
