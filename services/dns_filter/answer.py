"""What an upstream's answer says, filtered, in the form in which it is kept and handed out. No I/O, no clock.

Nothing is rebuilt unless something must go (a private address, h3, ech, a record that does not parse): that costs
twenty times as much as reading, and is rewrite.py's, with dnspython. What is kept is the wire form without the OPT
record, which is between neighbours.
"""

import logging
from collections.abc import Sequence
from typing import Final, NamedTuple

from services.dns_filter import message as dns
from services.dns_filter.message import HEADER_LEN, MalformedMessageError, Record
from services.dns_filter.policy import Policy
from services.dns_filter.query import Query
from services.dns_filter.reading import Reading, read, read_options

MAX_TTL: Final = 86400  # seconds for which an answer is kept at most; ours
MAX_NEGATIVE_TTL: Final = 3600  # seconds; RFC 2308 section 5: one to three hours "have been found to work well"
_SOA_FIXED: Final = 20  # octets behind the two names of an SOA; the last four are MINIMUM (RFC 1035 section 3.3.13)

_log = logging.getLogger(__name__)


class Answer(NamedTuple):
    """An answer without header, question and OPT; offsets count from the first octet of `body`."""

    rcode: int
    """All twelve bits (RFC 6891 section 6.1.3)."""
    flags: int
    """AA, RA and AD."""
    counts: tuple[int, int, int]
    body: bytes
    """Pointers in it count from the message's first octet, so it fits behind any question for the same name."""
    ttls: tuple[tuple[int, int], ...]
    """Offset and value of each record's TTL."""
    cuts: tuple[int, ...]
    """Where each record of the answer section ends: where it may be truncated."""
    names: tuple[bytes, ...]
    """The question's name and those it is an alias of."""
    addresses: tuple[bytes, ...]
    """What must be leased before the answer is released."""
    lease_ttl: int
    """Seconds: the smallest TTL of the records that lead to the addresses."""
    cache_ttl: int
    """Seconds for which it may be kept; 0: not at all."""
    errors: tuple[bytes, ...]
    """The upstream's extended errors, as the data of their options (RFC 8914)."""
    removed: tuple[bytes, ...]
    """Private addresses that are no longer in it."""


def filter_answer(octets: bytes, query: Query, policy: Policy) -> Answer:
    """What may be given to clients of an answer that matched the query; raises MalformedMessageError."""
    try:
        first = read(octets, query)
        rebuild = first.has_stray
    except MalformedMessageError as error:
        # One bad record must not lose the message: what does parse is kept.
        _log.debug("answer to %s is rebuilt: %s", query, error)
        first = read(_rewrite(octets, frozenset(), remove_h3=False), query)
        rebuild = False
    private_name = policy.may_be_private(query.qname)
    removed = frozenset() if private_name else frozenset(filter(policy.is_removed, first.everywhere))
    remove_h3 = policy.remove_h3 and first.offers_h3
    remove_ech = policy.remove_ech and first.offers_ech
    reading = first
    if removed or remove_h3 or remove_ech or rebuild:
        octets = _rewrite(first.octets, removed, remove_h3=remove_h3, remove_ech=remove_ech)
        reading = read(octets, query)
    leased = [address for address in reading.addresses if policy.is_leased(address, private_name=private_name)]
    return _keep(reading, query, first, leased, sorted(removed))


def _keep(reading: Reading, query: Query, first: Reading, leased: Sequence[bytes], removed: Sequence[bytes]) -> Answer:
    upper, errors = read_options(first.octets, first.opt) if first.opt else (0, ())
    header = reading.header
    records = reading.records[:-1] if reading.opt else reading.records
    start = HEADER_LEN + len(query.question)
    rcode = upper | header.flags & dns.RCODE
    return Answer(
        rcode=rcode,
        flags=header.flags & (dns.AA | dns.RA | dns.AD),
        counts=(header.ancount, header.nscount, header.arcount - bool(reading.opt)),
        body=reading.octets[start : records[-1].end] if records else b"",
        ttls=tuple((record.ttl_at - start, record.ttl) for record in records),
        cuts=tuple(record.end - start for record in records if record.section == dns.ANSWER),
        names=reading.names or (query.qname,),
        addresses=tuple(leased),
        lease_ttl=reading.lease_ttl,
        cache_ttl=0 if header.flags & dns.TC else cache_ttl(reading.octets, records, query, rcode),
        errors=errors,
        removed=tuple(removed),
    )


def cache_ttl(octets: bytes, records: Sequence[Record], query: Query, rcode: int) -> int:
    """For how many seconds an answer may be kept (RFC 2181 section 5.2, RFC 2308 sections 3 and 5); 0: not at all."""
    if rcode not in (dns.NOERROR, dns.NXDOMAIN):
        return 0
    answer = [record for record in records if record.section == dns.ANSWER]
    least = min((record.ttl for record in answer), default=MAX_TTL)
    if rcode == dns.NOERROR and any(query.qtype in (record.rtype, dns.ANY) for record in answer):
        return min(least, MAX_TTL)
    for record in records:
        if record.section == dns.AUTHORITY and record.rtype == dns.SOA and record.end - record.data > _SOA_FIXED:
            minimum = int.from_bytes(octets[record.end - 4 : record.end], "big")
            return min(least, record.ttl, minimum, MAX_NEGATIVE_TTL)
    return 0  # "negative responses without SOA records SHOULD NOT be cached" (RFC 2308 section 5)


def _rewrite(octets: bytes, removed: frozenset[bytes], *, remove_h3: bool, remove_ech: bool = False) -> bytes:
    # Importing dnspython takes 75 ms, which the start of the process is not to wait for.
    from services.dns_filter.rewrite import rewrite  # noqa: PLC0415

    return rewrite(octets, removed, remove_h3=remove_h3, remove_ech=remove_ech)
