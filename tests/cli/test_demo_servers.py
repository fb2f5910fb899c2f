"""The resolver of the demo's small internet."""

import dns.flags
import dns.message
import dns.rcode
import pytest
from hypothesis import given
from hypothesis import strategies as st

from netstack.cli.demo_servers import answer


@pytest.mark.parametrize(
    ("name", "kind", "rcode", "addresses"),
    [
        ("www.test", "A", dns.rcode.NOERROR, ["198.18.1.10"]),
        ("www.test", "AAAA", dns.rcode.NOERROR, ["2001:2:0:2::10"]),
        ("WWW.Test", "A", dns.rcode.NOERROR, ["198.18.1.10"]),
        ("www.test", "TXT", dns.rcode.NOERROR, []),
        ("other.test", "A", dns.rcode.NXDOMAIN, []),
    ],
    ids=["an A record", "an AAAA record", "case does not matter", "no record of that type", "no such name"],
)
def test_answer(name: str, kind: str, rcode: dns.rcode.Rcode, addresses: list[str]) -> None:
    query = dns.message.make_query(name, kind)
    wire = answer(query.to_wire())
    assert wire is not None
    response = dns.message.from_wire(wire)
    assert query.is_response(response)
    assert response.flags & dns.flags.RA
    assert response.rcode() == rcode
    assert [record.to_text() for rrset in response.answer for record in rrset] == addresses


def test_query_without_a_question_is_a_format_error() -> None:
    wire = answer(dns.message.QueryMessage().to_wire())
    assert wire is not None
    assert dns.message.from_wire(wire).rcode() == dns.rcode.FORMERR


def test_response_is_not_answered() -> None:
    response = dns.message.make_response(dns.message.make_query("www.test", "A"))
    assert answer(response.to_wire()) is None


@given(st.binary(max_size=200))
def test_any_octets_are_answered_or_passed_over(octets: bytes) -> None:
    wire = answer(octets)
    assert wire is None or dns.message.from_wire(wire).flags & dns.flags.QR
