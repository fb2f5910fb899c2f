"""Questions that are answered here."""

import dns.rdataclass
import pytest

from services.dns_filter.local import Refusal, answer_to_any, refusal
from services.dns_filter.query import parse
from services.dns_filter.reply import emit_answer
from tests.services.dns_filter.messages import ask, query, read


@pytest.mark.parametrize(
    ("rtype", "rcode"),
    [("AXFR", 5), ("IXFR", 5), ("OPT", 1), ("TSIG", 1), ("TKEY", 4), ("MAILA", 4), ("MAILB", 4)],
    ids=["zone transfer", "part of one", "OPT", "a signature", "keys", "mail", "mail too"],
)
def test_types_that_no_forwarder_passes_on(rtype: str, rcode: int) -> None:
    refused = refusal(query(rtype=rtype))
    assert refused is not None
    assert refused.rcode == rcode


@pytest.mark.parametrize("rtype", ["A", "AAAA", "HTTPS", "TXT", "DS", "RRSIG", "HINFO", "ANY", "TYPE65280", "TYPE0"])
def test_all_others_are_passed_on_known_or_not(rtype: str) -> None:
    assert refusal(query(rtype=rtype)) is None


@pytest.mark.parametrize("rclass", [0, 2, 3, 4, 254, 255, 65280], ids=str)
def test_only_the_internet_is_asked_about(rclass: int) -> None:
    octets = ask("version.bind.", "TXT")
    asked = parse(octets[:-2] + rclass.to_bytes(2, "big"))
    assert refusal(asked) == Refusal(5, f"class {rclass}: only class IN is answered")
    assert dns.rdataclass.IN == 1


def test_any_gets_one_record_of_its_name() -> None:
    asked = query("WWW.example.com.", "ANY", edns=True)
    answer = answer_to_any(asked)
    assert answer is not None
    (rrset,) = read(emit_answer(asked, answer, udp=True)).answer
    assert str(rrset) == 'WWW.example.com. 3600 IN HINFO "RFC8482" ""'


def test_other_types_are_not_any() -> None:
    assert answer_to_any(query()) is None
