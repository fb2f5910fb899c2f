"""What a client asks, and what is passed on."""

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import pytest
from hypothesis import given
from hypothesis import strategies as st

from netstack.packet.reason import Reason
from services.dns_filter.query import UnanswerableError, answers, emit_upstream, parse
from tests.services.dns_filter.messages import ask, query, read, respond

HEADER = bytes.fromhex("1234 0100 0001 0000 0000 0000")  # id, RD, one question
QUESTION = bytes.fromhex("03 777777 07 6578616d706c65 03 636f6d 00 0001 0001")  # www.example.com A IN
WITH_OPT = bytes.fromhex("1234 0100 0001 0000 0000 0001")  # and one additional record
TWO_MORE = bytes.fromhex("1234 0100 0001 0000 0000 0002")
OPT = bytes.fromhex("00 0029 1000 00008000 0000")  # the root, OPT, 4096 octets, DO, no options


def test_plain_query() -> None:
    got = parse(HEADER + QUESTION)
    assert got.id == 0x1234
    assert got.question == QUESTION
    assert (got.qname, got.qtype, got.qclass) == (b"\x03www\x07example\x03com\x00", 1, 1)
    assert (got.edns, got.udp_size, got.dnssec_ok) == (False, 512, False)
    assert str(got) == "www.example.com A"


@pytest.mark.parametrize(
    ("opt", "expected"),
    [
        (OPT, (True, 1232, True)),
        (bytes.fromhex("00 0029 0400 00000000 0000"), (True, 1024, False)),
        (bytes.fromhex("00 0029 0000 00000000 0000"), (True, 512, False)),
        (bytes.fromhex("00 0029 04d0 00000000 000c 000a 0008 0102030405060708"), (True, 1232, False)),
    ],
    ids=["4096 octets count as 1232", "less is respected", "0 counts as 512", "a cookie is no obstacle"],
)
def test_edns(opt: bytes, expected: tuple[bool, int, bool]) -> None:
    got = parse(WITH_OPT + QUESTION + opt)
    assert (got.edns, got.udp_size, got.dnssec_ok) == expected


def test_case_is_kept_for_the_reply_but_makes_no_other_question() -> None:
    upper = parse(ask("WWW.eXample.com."))
    assert upper.question.startswith(b"\x03WWW\x07eXample")
    assert upper.key == query().key


@pytest.mark.parametrize(
    "other",
    [query("example.com."), query(rtype="AAAA"), query(do=True), query(flags="RD CD"), query(flags="")],
    ids=["name", "type", "DO", "CD", "RD"],
)
def test_what_makes_another_question(other: object) -> None:
    assert other.key != query().key  # type: ignore[attr-defined]


def test_id_and_size_make_no_other_question() -> None:
    assert query(number=7, edns=True, size=700).key == query().key


@pytest.mark.parametrize(
    ("octets", "rcode", "reason"),
    [
        (b"", None, Reason.MALFORMED_DNS),
        (HEADER[:11], None, Reason.MALFORMED_DNS),
        (bytes.fromhex("1234 8100 0001 0000 0000 0000") + QUESTION, None, Reason.MALFORMED_DNS),
        (HEADER, dns.rcode.FORMERR, Reason.MALFORMED_DNS),
        (bytes.fromhex("1234 0100 0000 0000 0000 0000"), dns.rcode.FORMERR, Reason.MALFORMED_DNS),
        (bytes.fromhex("1234 0100 0002 0000 0000 0000") + QUESTION * 2, dns.rcode.FORMERR, Reason.MALFORMED_DNS),
        (WITH_OPT + QUESTION, dns.rcode.FORMERR, Reason.MALFORMED_DNS),
        (TWO_MORE + QUESTION + OPT + OPT, dns.rcode.FORMERR, Reason.MALFORMED_DNS),
        (bytes.fromhex("1234 0100 0001 0001 0000 0000") + QUESTION + OPT, dns.rcode.FORMERR, Reason.MALFORMED_DNS),
        (HEADER + QUESTION + bytes(5000), dns.rcode.FORMERR, Reason.MALFORMED_DNS),
        (bytes.fromhex("1234 2800 0001 0000 0000 0000") + QUESTION, dns.rcode.NOTIMP, Reason.UNSUPPORTED_DNS),
    ],
    ids=[
        "nothing: silence", "no whole header: silence", "a response: silence", "no question where one is announced",
        "no question", "two questions", "an announced record is missing", "two OPT records", "OPT among the answers",
        "too long", "an update is not implemented",
    ],
)  # fmt: skip
def test_what_is_not_passed_on(octets: bytes, rcode: int | None, reason: Reason) -> None:
    with pytest.raises(UnanswerableError) as caught:
        parse(octets)
    assert caught.value.reason is reason
    if rcode is None:
        assert caught.value.reply is None
        return
    reply = read(caught.value.reply or b"")
    assert (reply.id, reply.rcode()) == (0x1234, rcode)
    assert reply.flags & dns.flags.QR


def test_unknown_version_of_edns_gets_badvers() -> None:
    with pytest.raises(UnanswerableError) as caught:
        parse(WITH_OPT + QUESTION + bytes.fromhex("00 0029 04d0 00010000 0000"))
    reply = read(caught.value.reply or b"")
    assert (reply.rcode(), reply.edns) == (dns.rcode.BADVERS, 0)


def test_upstream_is_asked_the_question_and_nothing_else() -> None:
    options: list[dns.edns.Option] = [dns.edns.GenericOption(10, b"12345678")]
    cookie = dns.message.make_query("www.example.com", "A", use_edns=0, options=options)
    sent = read(emit_upstream(parse(cookie.to_wire()), 0x4321))
    assert sent.id == 0x4321
    assert dns.flags.to_text(sent.flags) == "RD AD"
    assert [str(rrset) for rrset in sent.question] == ["www.example.com. IN A"]
    assert (sent.edns, sent.payload, sent.options) == (0, 1232, ())


def test_what_is_encrypted_is_padded() -> None:
    lengths = set()
    for length in range(1, 60):
        octets = emit_upstream(query(f"{'a' * length}.{'b' * length}.{'c' * length}.test.", do=True), 1, padded=True)
        lengths.add(len(octets))
        sent = read(octets)
        assert [option.otype for option in sent.options] == [dns.edns.OptionType.PADDING]
        assert sent.ednsflags & dns.flags.DO
    assert lengths == {128, 256}, "RFC 8467 section 4.1"


def test_do_and_cd_are_passed_on() -> None:
    sent = read(emit_upstream(query(do=True, flags="RD CD"), 1))
    assert dns.flags.to_text(sent.flags) == "RD AD CD"
    assert dns.flags.edns_to_text(sent.ednsflags) == "DO"


ASKED = query()
GOOD = respond(emit_upstream(ASKED, 7), "www.example.com. 60 A 198.18.1.1")


@pytest.mark.parametrize(
    ("octets", "expected"),
    [
        (GOOD, True),
        (GOOD.replace(b"\x03www", b"\x03WwW"), True),
        (b"\x00\x08" + GOOD[2:], False),
        (GOOD[:2] + b"\x01" + GOOD[3:], False),
        (GOOD.replace(b"example", b"exbmple"), False),
        (respond(emit_upstream(query(rtype="AAAA"), 7)), False),
        (bytes.fromhex("0007 8181 0000 0000 0000 0000"), True),
        (bytes.fromhex("0007 8180 0000 0000 0000 0000"), False),
        (GOOD[:20], False),
        (b"", False),
    ],
    ids=[
        "the answer", "in another case", "another id", "a query", "another name", "another type",
        "FORMERR without a question", "an answer without a question", "cut off", "nothing",
    ],
)  # fmt: skip
def test_which_message_is_the_answer(octets: bytes, expected: bool) -> None:
    assert answers(ASKED, 7, octets) is expected


@given(st.binary(max_size=100), st.sampled_from([b"", HEADER, WITH_OPT, HEADER + QUESTION, WITH_OPT + QUESTION]))
def test_any_octets_are_a_query_or_unanswerable(tail: bytes, head: bytes) -> None:
    try:
        got = parse(head + tail)
    except UnanswerableError as error:
        reply = error.reply
    else:
        str(got)
        assert len(read(emit_upstream(got, 1)).question) == 1
        return
    assert reply is None or reply[:2] == (head + tail)[:2]


@given(st.binary(max_size=60))
def test_any_octets_answer_or_do_not(octets: bytes) -> None:
    answers(ASKED, 7, octets)
    answers(ASKED, 7, GOOD[:12] + octets)
