"""What a client asks: one question, read far enough to be answered from the cache or passed on.

What is passed on is a message of our own with the client's question: options of EDNS are between neighbours (cookies,
padding, keepalive: RFC 7873, 7830, 7828) or say where the client is (RFC 7871), so none of them travels, and equal
questions of several clients can be asked once.
"""

from typing import Final, NamedTuple

from netstack.packet.reason import Reason
from services.dns_filter.message import (
    AD,
    ADDITIONAL,
    BADVERS,
    CD,
    FORMERR,
    HEADER_LEN,
    NOTIMP,
    OPCODE,
    OPT,
    QR,
    RCODE,
    RD,
    REFUSED,
    SERVFAIL,
    Header,
    MalformedMessageError,
    Record,
    emit_header,
    name_text,
    question_end,
    read_header,
    type_text,
    walk,
)

MAX_QUERY: Final = 4096  # octets; ours: a question has at most 271, and options never came near the rest
MIN_UDP: Final = 512  # octets; RFC 1035 section 4.2.1, and RFC 6891 section 6.2.3: lower values count as this
MAX_UDP: Final = 1232
"""Octets of a reply over UDP, whatever the client offers: no fragments on any IPv6 link (1280 less 48 of headers; DNS
flag day 2020, and below the 1400 of RFC 9715 section 3.1). What is larger comes over TCP."""

Key = tuple[bytes, int, int, int, bool]
"""What makes two questions equal: name in lower case, type, class, RD and CD, DO."""

_DO: Final = 0x8000
_OPT_LEN: Final = 11  # octets of an OPT record without options (RFC 6891 section 6.1.2)
_PADDING_OPTION: Final = 12  # RFC 7830 section 3
_PADDED_TO: Final = 128  # octets; RFC 8467 section 4.1


class Query(NamedTuple):
    """One question of a client."""

    id: int
    flags: int
    question: bytes
    """As asked: the reply repeats it to the letter, in the same case."""
    qname: bytes
    qtype: int
    qclass: int
    edns: bool
    udp_size: int
    dnssec_ok: bool

    @property
    def key(self) -> Key:
        """Equal for questions that have the same answer."""
        return (self.qname, self.qtype, self.qclass, self.flags & (RD | CD), self.dnssec_ok)

    def __str__(self) -> str:
        return f"{name_text(self.qname)} {type_text(self.qtype)}"


class UnanswerableError(ValueError):
    """A message that is not passed on: what the client gets (None: silence), and the reason it is counted under."""

    def __init__(self, detail: str, reply: bytes | None, reason: Reason = Reason.MALFORMED_DNS) -> None:
        super().__init__(detail)
        self.reply = reply
        self.reason = reason


def parse(octets: bytes) -> Query:
    """Read a query; raises UnanswerableError and nothing else, whatever the octets."""
    try:
        header = read_header(octets)
    except MalformedMessageError as error:
        raise UnanswerableError(str(error), None) from None
    if header.flags & QR:
        # Two servers that answer each other's answers would never stop.
        raise UnanswerableError("a response where a query was expected", None)
    if header.flags & OPCODE:
        raise UnanswerableError("an opcode other than QUERY", _bare(header, NOTIMP), Reason.UNSUPPORTED_DNS)
    try:
        return _parse_question(octets, header)
    except MalformedMessageError as error:
        raise UnanswerableError(str(error), _bare(header, FORMERR)) from None


def _parse_question(octets: bytes, header: Header) -> Query:
    if header.qdcount != 1:
        raise MalformedMessageError(f"{header.qdcount} questions")  # RFC 9619: QDCOUNT > 1 is FORMERR
    if len(octets) > MAX_QUERY:
        raise MalformedMessageError(f"a query of {len(octets)} octets")
    end = question_end(octets)
    question = octets[HEADER_LEN:end]
    edns, size, dnssec_ok = False, MIN_UDP, False
    if any(header[3:]):
        options = [record for record in walk(octets, end, header) if record.rtype == OPT]
        edns, size, dnssec_ok = _edns(octets, header, question, options)
    qtype, qclass = int.from_bytes(question[-4:-2], "big"), int.from_bytes(question[-2:], "big")
    return Query(
        header.id, header.flags, question, question[:-4].lower(), qtype, qclass, edns, size, dnssec_ok
    )  # fmt: skip


def _edns(octets: bytes, header: Header, question: bytes, options: list[Record]) -> tuple[bool, int, bool]:
    if not options:
        return False, MIN_UDP, False
    record = options[0]
    # RFC 6891 section 6.1.1: more than one OPT, or one that is not at the root, is FORMERR.
    if len(options) > 1 or record.section != ADDITIONAL or octets[record.start]:
        raise MalformedMessageError("a misplaced OPT record")
    ttl = int.from_bytes(octets[record.ttl_at : record.ttl_at + 4], "big")
    if ttl >> 16 & 0xFF:
        head = _with_question(header, 0, question, additional=1)
        raise UnanswerableError("an unknown version of EDNS", head + emit_opt(BADVERS, dnssec_ok=False, options=b""))
    return True, min(max(MIN_UDP, record.rclass), MAX_UDP), bool(ttl & _DO)


def emit_opt(rcode: int, *, dnssec_ok: bool, options: bytes) -> bytes:
    """An OPT record of ours with the upper bits of rcode (RFC 6891 section 6.1.2)."""
    ttl = (rcode >> 4) << 24 | (_DO if dnssec_ok else 0)
    return (
        b"\0" + OPT.to_bytes(2, "big") + MAX_UDP.to_bytes(2, "big") + ttl.to_bytes(4, "big")
        + len(options).to_bytes(2, "big") + options
    )  # fmt: skip


def emit_upstream(query: Query, query_id: int, *, padded: bool = False) -> bytes:
    """The message that asks an upstream this question; `padded` where it is encrypted: its length tells less."""
    # AD asks to be told whether the answer was validated (RFC 6840 section 5.7); each client is told if it asked.
    header = Header(query_id, query.flags & (RD | CD) | AD, 1, 0, 0, 1)
    options = b""
    if padded:
        length = HEADER_LEN + len(query.question) + _OPT_LEN + 4
        padding = -length % _PADDED_TO
        options = _PADDING_OPTION.to_bytes(2, "big") + padding.to_bytes(2, "big") + bytes(padding)
    return emit_header(header) + query.question + emit_opt(0, dnssec_ok=query.dnssec_ok, options=options)


def answers(query: Query, query_id: int, octets: bytes) -> bool:
    """Whether a message answers what emit_upstream asked: by id, QR and the question itself (RFC 5452 section 9)."""
    try:
        header = read_header(octets)
    except MalformedMessageError:
        return False
    if header.id != query_id or not header.flags & QR or header.flags & OPCODE:
        return False
    if header.qdcount == 0:
        # A server that could not read or would not take the question may leave it out.
        return header.flags & RCODE in (FORMERR, SERVFAIL, NOTIMP, REFUSED)
    asked = query.question
    end = HEADER_LEN + len(asked)
    got = octets[HEADER_LEN:end]
    return header.qdcount == 1 and got[-4:] == asked[-4:] and got[:-4].lower() == query.qname


def _bare(header: Header, rcode: int) -> bytes:
    return emit_header(Header(header.id, QR | header.flags & (OPCODE | RD) | rcode, 0, 0, 0, 0))


def _with_question(header: Header, rcode: int, question: bytes, additional: int = 0) -> bytes:
    return emit_header(Header(header.id, QR | header.flags & RD | rcode, 1, 0, 0, additional)) + question
