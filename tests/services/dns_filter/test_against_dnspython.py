"""Our walk over the octets of an answer finds what dnspython finds in it, in whole messages and in damaged ones."""

import struct
from typing import Any

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rdataclass
import dns.rdatatype
import dns.rrset
from hypothesis import given
from hypothesis import strategies as st

from services.dns_filter.message import MAX_MESSAGE, MalformedMessageError, read_name
from services.dns_filter.query import Query
from services.dns_filter.reading import Reading, is_h3, read
from tests.services.dns_filter.messages import address, ask, query

NAMES = ["www.example.com.", "WWW.Example.COM.", "b.test.", "c.b.test.", "d.test.", "example.com.", "other.", "."]
TYPES = st.sampled_from(["A", "AAAA", "HTTPS"])
ADDRESSES_V4 = st.ip_addresses(v=4).map(str)
ADDRESSES_V6 = st.ip_addresses(v=6).map(str)
NAME = st.sampled_from(NAMES)
TEXT = st.text("abcdefghijklmnopqrstuvwxyz0123456789", min_size=1, max_size=40)


def _hints(kind: str, addresses: list[str]) -> str:
    return f" {kind}={','.join(addresses)}" if addresses else ""


@st.composite
def _binding(draw: st.DrawFn) -> tuple[str, str]:
    alpn = draw(st.lists(st.sampled_from(["h2", "h3", "h3-29", "http/1.1"]), unique=True, max_size=3))
    v4 = draw(st.lists(ADDRESSES_V4, max_size=3))
    v6 = draw(st.lists(ADDRESSES_V6, max_size=3))
    port = draw(st.sampled_from(["", " port=8443"]))
    ech = draw(st.sampled_from(["", " ech=AAQAAAAA"]))
    text = f"1 {draw(NAME)}{' alpn=' + ','.join(alpn) if alpn else ''}{port}{_hints('ipv4hint', v4)}"
    return draw(st.sampled_from(["HTTPS", "SVCB"])), text + ech + _hints("ipv6hint", v6)


RDATA = st.one_of(
    ADDRESSES_V4.map(lambda text: ("A", text)),
    ADDRESSES_V6.map(lambda text: ("AAAA", text)),
    NAME.map(lambda name: ("CNAME", name)),
    NAME.map(lambda name: ("NS", name)),
    NAME.map(lambda name: ("DNAME", name)),
    st.tuples(st.integers(0, 65535), NAME).map(lambda mx: ("MX", f"{mx[0]} {mx[1]}")),
    TEXT.map(lambda text: ("TXT", f'"{text}"')),
    st.binary(max_size=20).map(lambda data: ("TYPE65280", f"\\# {len(data)} {data.hex()}")),
    st.tuples(NAME, NAME, st.integers(0, 2**32 - 1)).map(
        lambda soa: ("SOA", f"{soa[0]} {soa[1]} 1 2 3 4 {soa[2]}")
    ),
    _binding(),
)  # fmt: skip
RECORD = st.tuples(NAME, st.integers(0, 2**31 - 1), RDATA)


def _render(asked: bytes, answer: object, authority: object, additional: object, *, edns: bool) -> bytes:
    message = dns.message.make_response(dns.message.from_wire(asked))
    message.flags |= dns.flags.RA
    message.use_edns(0 if edns else -1)
    sections = ((message.answer, answer), (message.authority, authority), (message.additional, additional))
    for section, records in sections:
        for name, ttl, (rtype, data) in records:  # type: ignore[attr-defined]
            section.append(dns.rrset.from_text(name, ttl, "IN", rtype, data))
    return message.to_wire(max_size=MAX_MESSAGE)


@st.composite
def _answers(draw: st.DrawFn) -> tuple[Query, bytes]:
    rtype = draw(TYPES)
    some = st.lists(RECORD, max_size=4)
    octets = _render(
        ask(rtype=rtype), draw(st.lists(RECORD, max_size=8)), draw(some), draw(some), edns=draw(st.booleans())
    )  # fmt: skip
    return query(rtype=rtype), octets


def _parsed(octets: bytes) -> dns.message.Message:
    return dns.message.from_wire(octets, one_rr_per_rrset=True, ignore_trailing=True)


def _addresses_of(rdata: object) -> list[bytes]:
    rtype = rdata.rdtype  # type: ignore[attr-defined]
    if rtype in (dns.rdatatype.A, dns.rdatatype.AAAA):
        return [address(rdata.address)]  # type: ignore[attr-defined]
    if rtype not in (dns.rdatatype.HTTPS, dns.rdatatype.SVCB):
        return []
    params = rdata.params  # type: ignore[attr-defined]
    # In the order of the keys, which is that of the wire (RFC 9460 section 2.2).
    return [address(text) for key in (4, 6) if key in params for text in params[key].addresses]


def _way(name: dns.name.Name, answers: list[Any]) -> list[dns.name.Name]:
    """The names from the question on, by CNAME and, where there is none, by DNAME (RFC 6672)."""
    aliases = {rrset.name: rdata.target for rrset, rdata in answers if rrset.rdtype == dns.rdatatype.CNAME}
    subtrees = {rrset.name: rdata.target for rrset, rdata in answers if rrset.rdtype == dns.rdatatype.DNAME}
    way = [name]
    while True:
        target = aliases.get(name)
        above = name
        while target is None and len(above) > 1:
            above = above.parent()
            if above in subtrees:
                try:
                    target = name.relativize(above) + subtrees[above]
                except dns.name.NameTooLong:
                    return way
        if target is None or target in way:
            return way
        name = target
        way.append(name)


def _wire(name: dns.name.Name) -> bytes | None:
    return name.canonicalize().to_wire()


def compare(reading: Reading, message: dns.message.Message, asked: Query) -> None:
    """Everything that is used of a reading is what dnspython says."""
    octets = reading.octets
    sections = [(0, message.answer), (1, message.authority), (2, message.additional)]
    theirs = [(number, rrset, rrset[0]) for number, section in sections for rrset in section]
    ours = [record for record in reading.records if record.rtype != dns.rdatatype.OPT]
    assert len(ours) == len(theirs)
    for record, (section, rrset, rdata) in zip(ours, theirs, strict=True):
        assert (record.section, record.rtype, record.rclass) == (section, rrset.rdtype, rrset.rdclass)
        assert read_name(octets, record.start) == _wire(rrset.name)
        assert record.ttl == rrset.ttl
        written = int.from_bytes(octets[record.ttl_at : record.ttl_at + 4], "big")
        assert (written if written < 1 << 31 else 0) == rrset.ttl, "RFC 2181 section 8"
        if isinstance(rdata, dns.rdata.GenericRdata):
            assert octets[record.data : record.end] == rdata.data
    internet = [one for one in theirs if one[1].rdclass == dns.rdataclass.IN]
    answers = [one[1:] for one in internet if one[0] == 0]
    chain = [_wire(name) for name in _way(message.question[0].name, answers)]
    assert list(reading.names) == chain
    held = [found for rrset, rdata in answers if _wire(rrset.name) in chain for found in _addresses_of(rdata)]
    assert reading.addresses == list(dict.fromkeys(held))
    assert reading.everywhere == {found for _, _, rdata in internet for found in _addresses_of(rdata)}
    assert reading.offers_h3 == any(
        is_h3(protocol)
        for _, _, rdata in internet
        if rdata.rdtype in (dns.rdatatype.HTTPS, dns.rdatatype.SVCB) and 1 in rdata.params
        for protocol in rdata.params[1].ids
    )
    bindings = (dns.rdatatype.HTTPS, dns.rdatatype.SVCB)
    assert reading.offers_ech == any(5 in rdata.params for _, _, rdata in internet if rdata.rdtype in bindings)
    assert asked.qname == chain[0]


@given(_answers())
def test_whole_messages(answer: tuple[Query, bytes]) -> None:
    asked, octets = answer
    compare(read(octets, asked), _parsed(octets), asked)


@given(_answers(), st.data())
def test_damaged_messages_are_read_alike_or_refused_by_one(answer: tuple[Query, bytes], data: st.DataObject) -> None:
    """What both accept they read alike, and what only we accept holds no address that we do not see.

    The header's flags and the question are not damaged: query.answers refuses what is not the answer.
    """
    asked, octets = answer
    damaged = bytearray(octets)
    question = range(12, 12 + len(asked.question))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.sampled_from([at for at in range(6, len(octets)) if at not in question]))
        damaged[at] = data.draw(st.one_of(st.integers(0, 255), st.sampled_from([0, 0xC0, 0xC0 | damaged[at] & 1])))
    mutated = bytes(damaged[: data.draw(st.integers(len(octets) - 3, len(octets)))])
    try:
        reading = read(mutated, asked)
    except MalformedMessageError:
        return  # it is rebuilt by dnspython itself (answer.py)
    if reading.has_stray:
        return  # rebuilt as well
    try:
        message = _parsed(mutated)
    except (dns.exception.DNSException, ValueError, struct.error):
        # A type of which we look into nothing may be wrong inside: it is passed on as it came. But no address hides.
        message = dns.message.from_wire(mutated, ignore_trailing=True, continue_on_error=True)
        rrsets = [rrset for section in (message.answer, message.authority, message.additional) for rrset in section]
        found = {found for rrset in rrsets if rrset.rdclass == 1 for rdata in rrset for found in _addresses_of(rdata)}
        assert found <= reading.everywhere
        return
    compare(reading, message, asked)
