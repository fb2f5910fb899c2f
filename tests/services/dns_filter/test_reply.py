"""What goes back to the client."""

import dns.flags
import pytest

from services.dns_filter.answer import Answer, filter_answer
from services.dns_filter.query import emit_upstream, parse
from services.dns_filter.reply import emit_answer, emit_refusal, extended_error
from tests.services.dns_filter.messages import ask, errors, policy, query, read, respond, texts


def kept(*records: str, rtype: str = "A", **options: object) -> Answer:
    asked = query(rtype=rtype)
    return filter_answer(respond(emit_upstream(asked, 1), *records, **options), asked, policy())  # type: ignore[arg-type]


ONE = kept("www.example.com. 30 CNAME b.test.", "b.test. 60 A 198.18.1.1")
MANY = kept(*(f"www.example.com. 60 A 198.18.1.{index}" for index in range(100)))


def test_reply_has_the_clients_id_and_its_question_in_its_case() -> None:
    reply = emit_answer(parse(ask("wWw.ExamPle.com.", number=7)), ONE, udp=True)
    assert reply[:2] == b"\x00\x07"
    assert reply[12:29] == b"\x03wWw\x07ExamPle\x03com\x00"
    assert texts(reply) == ["wWw.ExamPle.com. 30 CNAME b.test.", "b.test. 60 A 198.18.1.1"]


@pytest.mark.parametrize(
    ("age", "max_ttl", "ttls"),
    [(0, 300, [30, 60]), (10, 300, [20, 50]), (40, 300, [0, 20]), (0, 25, [25, 25]), (10, 25, [20, 25])],
    ids=["fresh", "aged", "never below 0", "never above what the lease allows", "both"],
)
def test_ttls(age: int, max_ttl: int, ttls: list[int]) -> None:
    reply = read(emit_answer(query(), ONE, udp=True, age=age, max_ttl=max_ttl))
    assert [rrset.ttl for rrset in reply.answer] == ttls


def test_without_edns_there_is_no_opt() -> None:
    assert read(emit_answer(query(), ONE, udp=True)).edns == -1
    assert read(emit_refusal(query(), 2, 23, "why")).edns == -1


def test_with_edns_there_is_ours() -> None:
    reply = read(emit_answer(query(do=True), ONE, udp=True))
    assert (reply.edns, reply.payload, dns.flags.edns_to_text(reply.ednsflags)) == (0, 1232, "DO")


def test_what_does_not_fit_is_truncated_between_records() -> None:
    reply = emit_answer(query(), MANY, udp=True)
    assert len(reply) <= 512
    got = read(reply)
    assert got.flags & dns.flags.TC
    assert len(got.answer[0]) == (512 - 33) // 16


def test_larger_edns_sizes_hold_more_and_the_stream_all() -> None:
    assert len(read(emit_answer(query(edns=True, size=1232), MANY, udp=True)).answer[0]) == (1232 - 33 - 11) // 16
    whole = read(emit_answer(query(), MANY, udp=False))
    assert len(whole.answer[0]) == 100
    assert not whole.flags & dns.flags.TC


@pytest.mark.parametrize(
    ("asked", "flags"),
    [
        (query(), "QR RD RA"),
        (query(flags=""), "QR RA"),
        (query(flags="RD CD"), "QR RD RA CD"),
        (query(flags="RD AD"), "QR RD RA AD"),
        (query(do=True), "QR RD RA AD"),
    ],
    ids=["plain", "RD is repeated", "CD is repeated", "AD for those who ask", "AD for those who set DO"],
)
def test_flags(asked: object, flags: str) -> None:
    answer = kept("www.example.com. 60 A 198.18.1.1", flags="QR RD RA AD")
    assert dns.flags.to_text(read(emit_answer(asked, answer, udp=True)).flags) == flags  # type: ignore[arg-type]


def test_extended_errors_are_for_those_with_edns() -> None:
    answer = kept(rcode="NXDOMAIN", errors=((15, "on a list"),))
    both = emit_answer(query(edns=True), answer, udp=True, error=extended_error(17, "and ours"))
    assert errors(both) == [(15, "on a list"), (17, "and ours")]
    assert read(both).rcode().name == "NXDOMAIN"


def test_rcode_that_needs_edns() -> None:
    answer = kept(rcode="BADVERS")
    assert read(emit_answer(query(edns=True), answer, udp=True)).rcode().name == "BADVERS"
    assert read(emit_answer(query(), answer, udp=True)).rcode().name == "SERVFAIL"


def test_refusal_says_why() -> None:
    refusal = emit_refusal(query(edns=True), 3, 15, 'deny.names "ads.test"')
    assert errors(refusal) == [(15, 'deny.names "ads.test"')]
    got = read(refusal)
    assert (got.rcode().name, got.id, len(got.question)) == ("NXDOMAIN", 0x1234, 1)


def test_long_error_is_cut_between_characters() -> None:
    data = extended_error(0, "ü" * 200)
    assert len(data) <= 162
    assert data[2:].decode() == "ü" * 80
