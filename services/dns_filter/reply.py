"""What goes back to the client: an answer fitted to its query, or a refusal that says why. No I/O, no clock."""

import struct
from typing import Final

from services.dns_filter import message as dns
from services.dns_filter.answer import Answer
from services.dns_filter.message import HEADER_LEN, MAX_MESSAGE, Header, emit_header
from services.dns_filter.query import Query, emit_opt

EDE_OTHER: Final = 0  # RFC 8914 section 4
EDE_STALE: Final = 3
EDE_BLOCKED: Final = 15
EDE_STALE_NXDOMAIN: Final = 19
EDE_NOT_SUPPORTED: Final = 21
EDE_NO_REACHABLE_AUTHORITY: Final = 22
EDE_NETWORK_ERROR: Final = 23

_EDE_OPTION: Final = 15  # RFC 8914 section 2
_MAX_TEXT: Final = 160  # octets; an error's text is never why an answer does not fit into 512
_TTL: Final = struct.Struct("!I")
_HEADER: Final = struct.Struct("!HHHHHH")


def emit_answer(
    query: Query, answer: Answer, *, udp: bool, age: int = 0, max_ttl: int = MAX_MESSAGE, error: bytes = b""
) -> bytes:
    """The reply to one client: its id, its question in its case, no TTL above max_ttl, TC where it does not fit.

    age is for how many seconds the answer has been kept; error is one more extended error.
    """
    rcode = answer.rcode
    if rcode > dns.RCODE and not query.edns:
        rcode = dns.SERVFAIL  # it cannot be said without EDNS
    opt = b""  # RFC 6891 section 6.1.1: none where the query had none
    if query.edns:
        opt = _opt(query, rcode, (*answer.errors, error) if error else answer.errors)
    flags = dns.QR | query.flags & (dns.RD | dns.CD) | answer.flags & (dns.AA | dns.RA) | rcode & dns.RCODE
    if query.dnssec_ok or query.flags & dns.AD:
        flags |= answer.flags & dns.AD  # RFC 6840 section 5.8: only to those who said that they understand it
    room = (query.udp_size if udp else MAX_MESSAGE) - HEADER_LEN - len(query.question) - len(opt)
    body = answer.body
    an, ns, ar = answer.counts
    if len(body) > room:
        # Whole records only; a client that cannot ask again over TCP may still use what is there.
        fitting = [cut for cut in answer.cuts if cut <= room]
        an, ns, ar = len(fitting), 0, 0
        body = body[: fitting[-1]] if fitting else b""
        flags |= dns.TC
    header = _HEADER.pack(query.id, flags, 1, an, ns, ar + bool(opt))
    return b"".join((header, query.question, _aged(body, answer.ttls, age, max_ttl), opt))


def emit_refusal(query: Query, rcode: int, code: int, text: str) -> bytes:
    """A reply without records, with an extended error for those who use EDNS."""
    opt = _opt(query, rcode, (extended_error(code, text),)) if query.edns else b""
    flags = dns.QR | query.flags & (dns.RD | dns.CD) | dns.RA | rcode
    return emit_header(Header(query.id, flags, 1, 0, 0, bool(opt))) + query.question + opt


def extended_error(code: int, text: str) -> bytes:
    """The data of an extended error's option (RFC 8914 section 2)."""
    return code.to_bytes(2, "big") + text.encode()[:_MAX_TEXT].decode(errors="ignore").encode()


def _opt(query: Query, rcode: int, errors: tuple[bytes, ...]) -> bytes:
    options = b"".join(_EDE_OPTION.to_bytes(2, "big") + len(error).to_bytes(2, "big") + error for error in errors)
    return emit_opt(rcode, dnssec_ok=query.dnssec_ok, options=options)


def _aged(body: bytes, ttls: tuple[tuple[int, int], ...], age: int, max_ttl: int) -> bytearray:
    aged = bytearray(body)
    octets = len(body)
    before, value = -1, b""
    for at, ttl in ttls:
        if at >= octets:
            break  # truncated
        if ttl != before:  # the records of a set have the same
            before = ttl
            value = _TTL.pack(max(0, min(ttl - age, max_ttl)))
        aged[at : at + 4] = value
    return aged
