"""Questions that are answered here, whoever the upstream is. No I/O, no clock."""

from typing import Final, NamedTuple

from services.dns_filter import message as dns
from services.dns_filter.answer import Answer
from services.dns_filter.query import Query

ANY_TTL: Final = 3600  # seconds; ours, since RFC 8482 section 4.2 leaves it open

_HINFO: Final = 13
_CPU: Final = b"RFC8482"  # "the CPU field of the HINFO RDATA SHOULD be set to RFC8482" (RFC 8482 section 4.2)
_MADE_FOR_OTHERS: Final = {
    dns.AXFR: (dns.REFUSED, "a zone transfer"),
    dns.IXFR: (dns.REFUSED, "a zone transfer"),
    dns.OPT: (dns.FORMERR, "type OPT cannot be asked for"),  # RFC 6891 section 6.1.1
    249: (dns.NOTIMP, "type TKEY sets up keys with a server"),  # RFC 2930
    250: (dns.FORMERR, "type TSIG cannot be asked for"),  # RFC 8945 section 4.1
    253: (dns.NOTIMP, "type MAILB is obsolete"),  # RFC 1035 section 3.2.3, RFC 6895 section 3.1
    254: (dns.NOTIMP, "type MAILA is obsolete"),
}
"""Types that ask a server to do something rather than for records, and what they get."""


class Refusal(NamedTuple):
    """Why a question is not passed on."""

    rcode: int
    text: str


def refusal(query: Query) -> Refusal | None:
    """Why this question is not passed on; None where it is."""
    if query.qclass != dns.IN:
        # What an upstream says of itself (CH) is not about us, and no lease belongs to records of another class.
        return Refusal(dns.REFUSED, f"class {query.qclass}: only class IN is answered")
    found = _MADE_FOR_OTHERS.get(query.qtype)
    return Refusal(*found) if found is not None else None


def answer_to_any(query: Query) -> Answer | None:
    """The answer to a question for ANY: one small record (RFC 8482 section 4.2); all of a name helps amplifiers."""
    if query.qtype != dns.ANY:
        return None
    data = len(_CPU).to_bytes(1, "big") + _CPU + b"\0"
    fixed = b"\xc0\x0c" + _HINFO.to_bytes(2, "big") + dns.IN.to_bytes(2, "big")
    body = fixed + ANY_TTL.to_bytes(4, "big") + len(data).to_bytes(2, "big") + data
    return Answer(
        rcode=dns.NOERROR, flags=dns.RA, counts=(1, 0, 0), body=body, ttls=((len(fixed), ANY_TTL),), cuts=(len(body),),
        names=(query.qname,), addresses=(), lease_ttl=0, cache_ttl=0, errors=(), removed=(),
    )  # fmt: skip
