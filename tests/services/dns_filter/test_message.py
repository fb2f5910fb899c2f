"""DNS messages as octets."""

import dns.exception
import dns.message
import dns.name
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.dns_filter.message import (
    Header,
    MalformedMessageError,
    emit_header,
    name_text,
    question_end,
    rcode_text,
    read_header,
    read_name,
    skip_name,
    type_text,
    walk,
)

HEADER = bytes.fromhex(
    "1234"  # id
    "8180"  # response, RD, RA
    "0001 0002 0000 0001"  # one question, two answers, nothing, one more
)
QUESTION = b"\x03wWw\x07example\x03com\x00" + bytes.fromhex("0001 0001")  # A IN
ALIAS = bytes.fromhex(
    "c00c"  # the question's name
    "0005 0001 0000012c 0004"  # CNAME IN, 300 s, 4 octets
    "0161 c010"  # "a", then the name that begins at 16: example.com
)
ADDRESS = bytes.fromhex(
    "c02d"  # the alias's target, which begins at 12 + 21 + 12
    "0001 0001 ffffffff 0004"  # A IN, a TTL with its highest bit set
    "c6120001"  # 198.18.0.1
)
OPT = bytes.fromhex("00 0029 04d0 00000000 0000")  # the root, OPT, 1232 octets, no flags, no options
MESSAGE = HEADER + QUESTION + ALIAS + ADDRESS + OPT


def test_header_is_read_and_written() -> None:
    header = Header(0x1234, 0x8180, 1, 2, 0, 1)
    assert read_header(MESSAGE) == header
    assert emit_header(header) == HEADER


def test_eleven_octets_are_no_header() -> None:
    with pytest.raises(MalformedMessageError):
        read_header(MESSAGE[:11])


def test_records_are_found_where_they_lie() -> None:
    end = question_end(MESSAGE)
    assert end == 33
    found = walk(MESSAGE, end, read_header(MESSAGE))
    assert [(r.section, r.rtype, r.ttl, MESSAGE[r.data : r.end]) for r in found] == [
        (0, 5, 300, bytes.fromhex("0161c010")),
        (0, 1, 0, bytes.fromhex("c6120001")),  # RFC 2181 section 8: a TTL with its highest bit set counts as 0
        (2, 41, 0, b""),
    ]
    assert found[-1].end == len(MESSAGE)


def test_names_are_decompressed_in_lower_case() -> None:
    assert read_name(MESSAGE, 12) == b"\x03www\x07example\x03com\x00"
    assert read_name(MESSAGE, 45) == b"\x01a\x07example\x03com\x00"
    assert skip_name(MESSAGE, 45) == 49


@pytest.mark.parametrize(
    "octets",
    [
        b"\xc0\x00",
        b"\xc0\x05\x00",
        b"\x01a\xc0\x00",
        b"\x01a",
        b"\x05abc",
        b"\x40a\x00",
        b"\xc0",
        b"",
        b"\x3f" + b"a" * 63 + (b"\x3f" + b"a" * 63) * 3 + b"\x00",
    ],
    ids=[
        "a pointer to itself", "a pointer forward", "a loop", "no end", "a label cut off", "a label of an unknown kind",
        "half a pointer", "nothing", "257 octets",
    ],
)  # fmt: skip
def test_bad_name_is_refused(octets: bytes) -> None:
    with pytest.raises(MalformedMessageError):
        read_name(octets, 0)


@pytest.mark.parametrize(
    "octets",
    [
        HEADER + b"\xc0\x0c\x00\x01\x00\x01",
        HEADER + b"\x03www",
        HEADER + b"\x00\x00\x01\x00",
        HEADER + (b"\x3f" + b"a" * 63) * 4 + b"\x00\x00\x01\x00\x01",
    ],
    ids=["compressed", "cut off in its name", "cut off in its class", "a name of 257 octets"],
)
def test_bad_question_is_refused(octets: bytes) -> None:
    with pytest.raises(MalformedMessageError):
        question_end(octets)


def test_every_cut_of_a_message_is_refused() -> None:
    for length in range(33, len(MESSAGE)):
        with pytest.raises(MalformedMessageError):
            walk(MESSAGE[:length], 33, read_header(MESSAGE))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (b"\x00", "."),
        (b"\x03www\x07example\x03com\x00", "www.example.com"),
        (b"\x04a.b;\x01\x00\x00", "a\\.b\\;.\\000"),
        (b"\x02\xff \x00", "\\255\\032"),
    ],
    ids=["the root", "a name", "a dot in a label is escaped", "octets that are no letters are numbers"],
)
def test_name_as_text(name: bytes, text: str) -> None:
    assert name_text(name) == text
    assert dns.name.from_text(text).to_wire() == name


def test_types_and_codes_have_names() -> None:
    assert [type_text(1), type_text(65), type_text(65280)] == ["A", "HTTPS", "TYPE65280"]
    assert [rcode_text(3), rcode_text(11)] == ["NXDOMAIN", "RCODE11"]


@given(st.binary(max_size=80), st.integers(0, 79))
def test_any_octets_are_a_name_or_are_refused(octets: bytes, at: int) -> None:
    try:
        name = read_name(octets, at)
    except MalformedMessageError:
        return
    assert name == dns.name.from_wire(octets, at)[0].to_wire().lower()  # type: ignore[union-attr]
    assert skip_name(octets, at) <= len(octets)


@given(st.binary(max_size=120))
def test_any_octets_hold_records_or_are_refused(tail: bytes) -> None:
    octets = HEADER + QUESTION + tail
    try:
        records = walk(octets, 33, read_header(octets))
    except MalformedMessageError:
        return
    assert [record.section for record in records] == [0, 0, 2]
    assert all(33 <= record.start < record.data <= record.end <= len(octets) for record in records)
