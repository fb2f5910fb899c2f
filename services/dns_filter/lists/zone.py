"""Lists in the form of a response policy zone (draft-vixie-dnsop-dns-rpz), a zone file. No I/O, no clock.

    ads.example       CNAME .              that name alone
    *.ads.example     CNAME .              all names below it
    good.ads.example  CNAME rpz-passthru.  an exception

`CNAME *.` (no data), `CNAME rpz-drop.` and the addresses of nothing (A 0.0.0.0) deny too; every denied name gets the
same answer here. Rules by address or name server, and answers of other kinds, are ignored and counted. Most records
stand on one line each and are read as such; what is left is read by dnspython, a record at a time, so that a bad one
does not lose the others, and $INCLUDE reads nothing.
"""

import re
from typing import Final

import dns.exception
import dns.name
import dns.rdatatype
import dns.rrset
import dns.zonefile

from services.dns_filter.lists.lines import NAME, Chunk, Others, chunk_of, find_names, joined
from services.dns_filter.lists.rules import AT, BELOW, Entry, ListLineError, Tally, check_name, pack, shown

_SIMPLE: Final = re.compile(
    rb"(\*\.)?([a-z0-9_][a-z0-9_.-]*)[ \t]+(?:[0-9]+[ \t]+)?(?:in[ \t]+)?cname[ \t]+"
    rb"(\.|\*\.|rpz-[a-z-]+\.)[ \t\r]*(?:;.*)?"
)
_LISTED: Final = re.compile(
    rb"(?:((?:\*\.)?" + NAME + rb")[ \t]+(?:[0-9]+[ \t]+)?(?:in[ \t]+)?cname[ \t]+\.[ \t\r]*(?:;[^\n]*)?\n|[^\n]*\n)",
)
_NOT_LINE_BY_LINE: Final = re.compile(rb"^(?:\$|[ \t]+[^ \t\r\n;])|\(|\.rpz-", re.MULTILINE)
_SOA: Final = re.compile(r"\s*(?:(?:[0-9]\w*|in)\s+)*soa\s")
_DENYING: Final = frozenset({b".", b"*.", b"rpz-drop."})
_PASSING: Final = b"rpz-passthru."
_NOT_BY_NAME: Final = ("rpz-ip", "rpz-client-ip", "rpz-nsip", "rpz-nsdname")
_SINKS: Final = frozenset({"0.0.0.0", "127.0.0.1", "::", "::1"})  # noqa: S104 - nothing is bound
_MAX_RECORD_LINES: Final = 100  # of a record in parentheses
_UNKNOWN: Final = dns.name.from_text("zone.invalid.")  # what names are relative to until the file says it


class Zone:
    """Reads one zone file, a chunk after the other."""

    def __init__(self, source: int, tally: Tally) -> None:
        self._source = source
        self._tally = tally
        self._line = 0
        self._zone: dns.name.Name | None = None
        self._origin = _UNKNOWN
        self._owner = "@"
        self._open: list[bytes] = []
        self._opened_at = 0

    def read(self, text: bytes) -> tuple[Chunk, Chunk]:
        """What whole lines say: names that are listed, and exceptions."""
        text = text.lower()
        lines = text.split(b"\n")
        if text.endswith(b"\n"):
            lines.pop()
        found = [b""] * len(lines)
        if not self._open and self._is_simple and not _NOT_LINE_BY_LINE.search(text):
            found = find_names(_LISTED, text)
        at = [b"" if name.startswith(b"*") else name for name in found]
        below = [name[2:] if name.startswith(b"*") else b"" for name in found]
        first = self._line + 1
        fast = joined(chunk_of(at, pack(self._source, first, AT)), chunk_of(below, pack(self._source, first, BELOW)))
        others = Others(self._source)
        for index, name in enumerate(found):
            self._line += 1
            if not name:
                self._look(lines[index], others)
        listed, exceptions = others.chunks()
        self._tally.entries += len(fast.rules) + len(listed.rules) + len(exceptions.rules)
        return joined(fast, listed), exceptions

    @property
    def _is_simple(self) -> bool:
        """Whether a relative name is one that the zone is about."""
        return self._origin in (_UNKNOWN, self._zone)

    def _look(self, line: bytes, others: Others) -> None:
        try:
            entry = self._read_line(line)
        except ListLineError as error:
            self._tally.error(self._opened_at or self._line, str(error))
            entry = None
        if entry is not None:
            others.add(entry, self._opened_at or self._line)
        if not self._open:
            self._opened_at = 0

    def _read_line(self, line: bytes) -> Entry | None:
        simple = _SIMPLE.fullmatch(line)
        if simple is not None and not self._open and self._is_simple:
            owner = simple[2]
            if not owner.endswith(b"."):
                self._owner = (simple[1] or b"").decode() + owner.decode()
                return self._rule(simple[1] or b"", owner, simple[3])
        bare = _without_comment(line)
        if self._open:
            self._open.append(bare)
        elif not bare.strip():
            return None
        elif bare.startswith(b"$"):
            self._directive(bare.split())
            return None
        else:
            self._open, self._opened_at = [bare], self._line
        if sum(part.count(b"(") - part.count(b")") for part in self._open) > 0:
            if len(self._open) <= _MAX_RECORD_LINES:
                return None
            self._open = []
            raise ListLineError(f"a parenthesis that is not closed within {_MAX_RECORD_LINES} lines")
        record, self._open = b"\n".join(self._open), []
        return self._record(record)

    def _rule(self, wild: bytes, owner: bytes, target: bytes) -> Entry | None:
        if owner.rpartition(b".")[2].decode() in _NOT_BY_NAME or not (target in _DENYING or target == _PASSING):
            self._tally.ignored += 1
            return None
        return Entry(check_name(owner), BELOW if wild else AT, target == _PASSING)

    def _directive(self, words: list[bytes]) -> None:
        if words[0] == b"$origin" and len(words) > 1:
            try:
                self._origin = dns.name.from_text(words[1].decode("ascii"), self._origin)
            except (dns.exception.DNSException, ValueError) as error:
                raise ListLineError(f"$ORIGIN {shown(words[1])}: {error}") from None
            self._zone = self._zone or self._origin
        elif words[0] != b"$ttl":
            self._tally.ignored += 1

    def _record(self, record: bytes) -> Entry | None:
        """A record of any shape; the owner of the one before where it names none (RFC 1035 section 5.1)."""
        try:
            text = record.decode("ascii")
            owner, rest = (self._owner, text) if text[:1].isspace() else text.split(None, 1)
            # Made absolute here: what is not below the origin it is given dnspython passes over without a word.
            name = dns.name.from_text(owner, self._origin)
            self._owner = str(name)
            if _SOA.match(rest):
                self._begin(name)
                return None
            (rrset,) = dns.zonefile.read_rrsets(rest, name=name, rdclass=None, default_ttl=0, relativize=False)
        except Exception as error:  # noqa: BLE001  dnspython raises ValueError, IndexError and others besides its own
            raise ListLineError(f"{shown(record)} is no record: {error}") from None
        return self._meaning(rrset)

    def _begin(self, name: dns.name.Name) -> None:
        """The SOA says which zone it is; what it holds beside that matters to name servers alone."""
        if self._zone is None:
            self._zone = name
            self._origin = self._origin if self._origin != _UNKNOWN else name

    def _meaning(self, rrset: dns.rrset.RRset) -> Entry | None:
        zone = self._zone or _UNKNOWN
        if rrset.name == zone:
            return None  # the zone's own SOA and NS
        if not rrset.name.is_subdomain(zone):
            raise ListLineError(f"{rrset.name} is not in the zone {zone}")
        owner = str(rrset.name.relativize(zone)).encode("ascii")
        wild = b"*." if owner.startswith(b"*.") else b""
        return self._rule(wild, owner.removeprefix(b"*."), _target(rrset, rrset.name, zone))


def _target(rrset: dns.rrset.RRset, owner: dns.name.Name, zone: dns.name.Name) -> bytes:
    """What a record of a policy zone asks for, as the target of the CNAME that would say so; b"" for anything else."""
    rdata = rrset[0]
    if rrset.rdtype == dns.rdatatype.CNAME:
        # The first form of an exception was an alias of the name for itself.
        itself = owner.relativize(zone).derelativize(dns.name.root)
        return _PASSING if rdata.target == itself else str(rdata.target).encode("ascii")
    if rrset.rdtype in (dns.rdatatype.A, dns.rdatatype.AAAA) and rdata.address in _SINKS:
        return b"."
    return b""


def _without_comment(line: bytes) -> bytes:
    quoted = False
    for at, octet in enumerate(line):
        if octet == 0x22:
            quoted = not quoted
        elif octet == 0x3B and not quoted:
            return line[:at]
    return line
