"""Reading an upstream's answer as octets: which addresses it gives to the name that was asked. No I/O, no clock."""

from dataclasses import dataclass, field
from typing import Final

from services.dns_filter import message as dns
from services.dns_filter.message import (
    HEADER_LEN,
    Header,
    MalformedMessageError,
    Record,
    read_header,
    read_name,
    skip_name,
    walk,
)
from services.dns_filter.query import Query

_ALPN, _IPV4HINT, _ECH, _IPV6HINT = 1, 4, 5, 6  # RFC 9460 section 14.3.2; 5: RFC 9848
_MAX_NAME: Final = 255  # octets; RFC 1035 section 2.3.4
_ADDRESS_LENGTH: Final = {dns.A: 4, dns.AAAA: 16}  # octets
_HINT_LENGTH: Final = {_IPV4HINT: 4, _IPV6HINT: 16}
_POINTER_TO_QUESTION: Final = b"\xc0\x0c"  # how nearly every owner name of an answer is written

_EDE_OPTION: Final = 15  # RFC 8914 section 2


@dataclass(slots=True)
class Reading:
    """What one reading of a message found."""

    octets: bytes
    header: Header
    records: list[Record]
    names: tuple[bytes, ...] = ()
    """The question's name and those it is an alias of, in order."""
    addresses: list[bytes] = field(default_factory=list)
    """Of those names, each once."""
    lease_ttl: int = 0
    """Seconds: the smallest TTL of the records that lead to the addresses."""
    everywhere: set[bytes] = field(default_factory=set)
    """Addresses in any record, also of names nobody asked for."""
    offers_h3: bool = False
    offers_ech: bool = False

    @property
    def opt(self) -> Record | None:
        """The OPT record, where it is the last record and stands where it belongs; it can then be cut off."""
        last = self.records[-1] if self.records else None
        return last if last is not None and last.rtype == dns.OPT and last.section == dns.ADDITIONAL else None

    @property
    def has_stray(self) -> bool:
        """Whether a record says something of the message, not of a name (message.is_meta), and cannot be cut off."""
        opt = self.opt
        return any(dns.is_meta(record.rtype) and record is not opt for record in self.records)


def read(octets: bytes, query: Query) -> Reading:
    """Read an answer that matched the query; raises MalformedMessageError."""
    header = read_header(octets)
    if header.qdcount == 0:
        # Only an error (query.answers); nothing in it belongs to a question.
        return Reading(octets, header._replace(ancount=0, nscount=0, arcount=0), [])
    records = walk(octets, HEADER_LEN + len(query.question), header)
    reading = Reading(octets, header, records)
    aliases: dict[bytes, tuple[bytes, int]] = {}
    subtrees: dict[bytes, tuple[bytes, int]] = {}
    holders: list[tuple[bytes, int, list[bytes]]] = []
    for record in records:
        if record.rclass != dns.IN:
            continue
        if record.rtype == dns.CNAME and record.section == dns.ANSWER:
            aliases[_owner(octets, record, query)] = (read_name(octets, record.data), record.ttl)
        elif record.rtype == dns.DNAME and record.section == dns.ANSWER:
            subtrees[_owner(octets, record, query)] = (read_name(octets, record.data), record.ttl)
        elif found := _addresses(octets, record, reading):
            reading.everywhere.update(found)
            if record.section == dns.ANSWER:
                holders.append((_owner(octets, record, query), record.ttl, found))
    _follow(reading, _chain(query.qname, aliases, subtrees), holders)
    return reading


def read_options(octets: bytes, opt: Record) -> tuple[int, tuple[bytes, ...]]:
    """The upper bits of the rcode, and the data of the extended errors, of an OPT record (RFC 6891, RFC 8914)."""
    errors: list[bytes] = []
    at = opt.data
    while at + 4 <= opt.end:
        code = int.from_bytes(octets[at : at + 2], "big")
        end = at + 4 + int.from_bytes(octets[at + 2 : at + 4], "big")
        if end > opt.end:
            break
        if code == _EDE_OPTION and end - at >= 6:
            errors.append(octets[at + 4 : end])
        at = end
    return octets[opt.ttl_at] << 4, tuple(errors)


def _chain(
    qname: bytes, aliases: dict[bytes, tuple[bytes, int]], subtrees: dict[bytes, tuple[bytes, int]]
) -> tuple[list[bytes], list[int]]:
    """The names from the question on, and the TTLs of the records that lead from one to the next.

    A DNAME comes with the CNAME it stands for, unless the server takes the client for one that needs none (RFC 6672
    section 3.1), so it is followed where there is no CNAME.
    """
    names = {qname: None}
    ttls: list[int] = []
    name = qname
    while found := aliases.get(name) or _substituted(name, subtrees):
        name, ttl = found
        ttls.append(ttl)
        if name in names:
            break  # a loop
        names[name] = None
    return list(names), ttls


def _substituted(name: bytes, subtrees: dict[bytes, tuple[bytes, int]]) -> tuple[bytes, int] | None:
    """What a DNAME makes of a name below its owner, not of the owner itself (RFC 6672 section 2.2)."""
    at = 0
    while subtrees and (length := name[at]):
        at += 1 + length
        found = subtrees.get(name[at:])
        if found is not None:
            substituted = name[:at] + found[0]
            return (substituted, found[1]) if len(substituted) <= _MAX_NAME else None
    return None


def _follow(
    reading: Reading, way: tuple[list[bytes], list[int]], holders: list[tuple[bytes, int, list[bytes]]]
) -> None:
    """Take the addresses of the names on the way from the question."""
    names, ttls = way
    chain = set(names)
    addresses: dict[bytes, None] = {}
    for owner, ttl, found in holders:
        if owner in chain:
            addresses.update(dict.fromkeys(found))
            ttls.append(ttl)
    reading.names = tuple(names)
    reading.addresses = list(addresses)
    reading.lease_ttl = min(ttls, default=0)


def _owner(octets: bytes, record: Record, query: Query) -> bytes:
    at = record.start
    return query.qname if octets[at : at + 2] == _POINTER_TO_QUESTION else read_name(octets, at)


def _addresses(octets: bytes, record: Record, reading: Reading) -> list[bytes]:
    length = _ADDRESS_LENGTH.get(record.rtype)
    if length is not None:
        if record.end - record.data != length:
            raise MalformedMessageError("an address record of the wrong length")
        return [octets[record.data : record.end]]
    if record.rtype in (dns.SVCB, dns.HTTPS):
        return _hints(octets, record, reading)
    return []


def _hints(octets: bytes, record: Record, reading: Reading) -> list[bytes]:
    """The addresses in the parameters of an SVCB or HTTPS record (RFC 9460 sections 2.2 and 7.3)."""
    found: list[bytes] = []
    at = skip_name(octets, record.data + 2)
    while at < record.end:
        key = int.from_bytes(octets[at : at + 2], "big")
        value = at + 4
        at = value + int.from_bytes(octets[at + 2 : value], "big")
        if value > record.end or at > record.end:
            raise MalformedMessageError("a service parameter is cut off")
        length = _HINT_LENGTH.get(key)
        if length is not None:
            if (at - value) % length:
                raise MalformedMessageError("an address hint of the wrong length")
            found += [octets[hint : hint + length] for hint in range(value, at, length)]
        elif key == _ALPN:
            reading.offers_h3 |= _has_h3(octets[value:at])
        elif key == _ECH:
            reading.offers_ech = True
    if at != record.end:
        raise MalformedMessageError("a service binding is cut off")
    return found


def _has_h3(protocols: bytes) -> bool:
    at = 0
    while at < len(protocols):
        end = at + 1 + protocols[at]
        if end > len(protocols):
            raise MalformedMessageError("a protocol's name is cut off")
        if is_h3(protocols[at + 1 : end]):
            return True
        at = end
    return False


def is_h3(protocol: bytes) -> bool:
    """Whether an ALPN identifier is HTTP/3, a draft's included (h3-29)."""
    return protocol == b"h3" or protocol.startswith(b"h3-")
