"""Putting an answer together anew without what must go."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.dns_filter.message import MalformedMessageError
from services.dns_filter.rewrite import rewrite
from tests.services.dns_filter.messages import address, ask, read, respond, texts

HINTS = "ipv4hint=10.0.0.1,198.18.1.1"


@pytest.mark.parametrize(
    ("rtype", "records", "expected"),
    [
        ("A", ["A 10.0.0.1", "A 198.18.1.1"], ["A 198.18.1.1"]),
        ("A", ["A 10.0.0.1"], []),
        ("AAAA", ["AAAA fd00::1", "AAAA 2001:db8::1"], ["AAAA 2001:db8::1"]),
        ("HTTPS", [f"HTTPS 1 . {HINTS}"], ['HTTPS 1 . ipv4hint="198.18.1.1"']),
        ("HTTPS", ["HTTPS 1 . alpn=h2 ipv4hint=10.0.0.1"], ['HTTPS 1 . alpn="h2"']),
        ("HTTPS", ["HTTPS 1 . mandatory=ipv4hint ipv4hint=10.0.0.1"], []),
        ("HTTPS", ["HTTPS 1 . alpn=h3,h2"], ['HTTPS 1 . alpn="h2"']),
        ("HTTPS", ["HTTPS 1 . alpn=h3 port=8443"], ['HTTPS 1 . port="8443"']),
        ("HTTPS", ["HTTPS 1 . alpn=h3 no-default-alpn"], []),
        ("HTTPS", ["HTTPS 1 . alpn=h2 port=443"], ['HTTPS 1 . alpn="h2" port="443"']),
        ("TXT", ["TXT hello"], ['TXT "hello"']),
    ],
    ids=[
        "a private address", "the only one", "a private IPv6 address", "a private hint", "the only hint",
        "a hint that is mandatory takes the record with it", "h3", "h3 alone leaves the default protocol",
        "h3 alone without a default leaves nothing", "nothing to do", "other types stay",
    ],
)  # fmt: skip
def test_rewrite(rtype: str, records: list[str], expected: list[str]) -> None:
    octets = respond(ask(rtype=rtype), *(f"www.example.com. 60 {record}" for record in records))
    done = rewrite(octets, frozenset({address("10.0.0.1"), address("fd00::1")}), remove_h3=True)
    assert texts(done) == [f"www.example.com. 60 {record}" for record in expected]


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ("HTTPS 1 . alpn=h2 ech=AARBQkNE", ['HTTPS 1 . alpn="h2"']),
        ("SVCB 1 b.test. ech=AARBQkNE port=443", ['SVCB 1 b.test. port="443"']),
        ("HTTPS 1 . mandatory=ech ech=AARBQkNE", []),
        ("HTTPS 0 b.test.", ["HTTPS 0 b.test."]),
    ],
    ids=["ech", "in SVCB too", "where it is mandatory it takes the record with it", "an alias has none"],
)
def test_encrypted_client_hello_is_removed(record: str, expected: list[str]) -> None:
    rtype = record.partition(" ")[0]
    octets = respond(ask(rtype=rtype), f"www.example.com. 60 {record}")
    done = rewrite(octets, frozenset(), remove_h3=False, remove_ech=True)
    assert texts(done) == [f"www.example.com. 60 {text}" for text in expected]
    assert texts(rewrite(octets, frozenset(), remove_h3=False)) == texts(octets)


def test_every_section_is_cleaned_and_opt_is_gone() -> None:
    octets = respond(ask(), additional=("ns.test. 60 A 10.0.0.1", "ns.test. 60 AAAA 2001:db8::1"))
    done = read(rewrite(octets, frozenset({address("10.0.0.1")}), remove_h3=False))
    assert [str(rrset) for rrset in done.additional] == ["ns.test. 60 IN AAAA 2001:db8::1"]
    assert done.edns == -1


def test_id_rcode_and_question_stay_but_nothing_claims_to_be_validated() -> None:
    octets = respond(ask(), rcode="NXDOMAIN", flags="QR RD RA AD")
    done = read(rewrite(octets, frozenset(), remove_h3=False))
    assert (done.id, done.rcode().name) == (0x1234, "NXDOMAIN")
    assert "AD" not in str(done).splitlines()[3].split()
    assert [str(rrset) for rrset in done.question] == ["www.example.com. IN A"]


def test_bad_record_does_not_lose_the_others() -> None:
    good = respond(ask(rtype="HTTPS"), "www.example.com. 60 HTTPS 1 . alpn=h2")
    bad = bytes.fromhex("c00c 0041 0001 0000003c 0008 0001 00 0004 0004 c6")
    head = good[:6] + b"\x00\x02\x00\x00\x00\x00"
    question_end = len(ask(rtype="HTTPS"))
    record_end = len(good) - 11  # less the OPT record
    octets = head + good[12:question_end] + bad + good[question_end:record_end]
    assert texts(rewrite(octets, frozenset(), remove_h3=False)) == ['www.example.com. 60 HTTPS 1 . alpn="h2"']


@given(st.binary(max_size=120), st.sampled_from([b"", respond(ask())[:12], respond(ask())[:33]]))
def test_any_octets_are_rewritten_or_refused(tail: bytes, head: bytes) -> None:
    try:
        done = rewrite(head + tail, frozenset({address("10.0.0.1")}), remove_h3=True)
    except MalformedMessageError:
        return
    assert len(done) >= 12
