"""Which addresses an answer gives to the name that was asked."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.dns_filter.message import MalformedMessageError
from services.dns_filter.reading import is_h3, read, read_options
from tests.services.dns_filter.messages import address, ask, query, respond

A1, A2, A6 = address("198.18.1.1"), address("198.18.1.2"), address("2001:db8::1")


@pytest.mark.parametrize(
    ("rtype", "records", "addresses", "ttl"),
    [
        ("A", ["www.example.com. 60 A 198.18.1.1", "www.example.com. 60 A 198.18.1.2"], [A1, A2], 60),
        ("AAAA", ["www.example.com. 60 AAAA 2001:db8::1"], [A6], 60),
        ("A", ["www.example.com. 30 CNAME b.test.", "b.test. 60 CNAME c.test.", "c.test. 90 A 198.18.1.1"], [A1], 30),
        ("A", ["c.test. 90 A 198.18.1.1", "b.test. 60 CNAME c.test.", "www.example.com. 99 CNAME b.test."], [A1], 60),
        ("A", ["www.example.com. 30 CNAME b.test.", "other.test. 5 A 198.18.1.2", "b.test. 60 A 198.18.1.1"], [A1], 30),
        ("A", ["other.test. 5 A 198.18.1.2"], [], 0),
        ("A", ["www.example.com. 30 CNAME www.example.com.", "www.example.com. 60 A 198.18.1.1"], [A1], 30),
        ("A", ["www.example.com. 9 CNAME b.test.", "b.test. 9 CNAME www.example.com."], [], 9),
        ("A", ["WWW.example.com. 9 CNAME B.test.", "b.TEST. 9 A 198.18.1.1"], [A1], 9),
        ("TXT", ["www.example.com. 9 TXT hello"], [], 0),
        ("HTTPS", ["www.example.com. 9 HTTPS 1 . alpn=h2 ipv4hint=198.18.1.1,198.18.1.2 ipv6hint=2001:db8::1"],
         [A1, A2, A6], 9),
        ("HTTPS", ["www.example.com. 9 HTTPS 0 b.test."], [], 0),
        ("SVCB", ["www.example.com. 9 SVCB 1 b.test. ipv4hint=198.18.1.1"], [A1], 9),
        ("A", ["www.example.com. 60 A 198.18.1.1", "www.example.com. 60 A 198.18.1.1"], [A1], 60),
    ],
    ids=[
        "A", "AAAA", "along a chain; the smallest TTL counts", "in whatever order", "not those of strangers",
        "nor those of strangers alone", "an alias of itself", "a loop", "in whatever case", "no address", "HTTPS hints",
        "HTTPS alias", "SVCB hints", "each once",
    ],
)  # fmt: skip
def test_addresses(rtype: str, records: list[str], addresses: list[bytes], ttl: int) -> None:
    got = read(respond(ask(rtype=rtype), *records), query(rtype=rtype))
    assert (got.addresses, got.lease_ttl) == (addresses, ttl)


@pytest.mark.parametrize(
    ("records", "addresses", "ttl"),
    [
        (["example.com. 20 DNAME b.test.", "www.example.com. 0 CNAME www.b.test.", "www.b.test. 60 A 198.18.1.1"],
         [A1], 0),
        (["example.com. 20 DNAME b.test.", "www.b.test. 60 A 198.18.1.1"], [A1], 20),
        (["com. 20 DNAME test.", "www.example.test. 60 A 198.18.1.1"], [A1], 20),
        (["www.example.com. 20 DNAME b.test.", "b.test. 60 A 198.18.1.1"], [], 0),
        (["ample.com. 20 DNAME b.test.", "www.exb.test. 60 A 198.18.1.1"], [], 0),
        (["com. 20 DNAME a.com."], [], 20),
        (["com. 20 DNAME com.", "www.example.com. 60 A 198.18.1.1"], [A1], 20),
        ([f"com. 20 DNAME {'x' * 63}.{'y' * 63}.{'z' * 63}.{'w' * 50}."], [], 0),
    ],
    ids=[
        "with the CNAME it stands for", "without", "of any depth", "the owner itself is not redirected",
        "nor a name that only ends alike", "one that makes names longer ends at 255 octets", "one to itself is a loop",
        "a name that would be too long is none",
    ],
)  # fmt: skip
def test_dname_is_followed(records: list[str], addresses: list[bytes], ttl: int) -> None:
    got = read(respond(ask(), *records), query())
    assert (got.addresses, got.lease_ttl) == (addresses, ttl)


def test_names_of_the_chain() -> None:
    octets = respond(ask(), "www.example.com. 30 CNAME b.test.", "b.test. 60 A 198.18.1.1")
    assert read(octets, query()).names == (b"\x03www\x07example\x03com\x00", b"\x01b\x04test\x00")


def test_addresses_of_strangers_are_seen_too() -> None:
    octets = respond(ask(), "www.example.com. 60 A 198.18.1.1", additional=("ns.test. 60 A 10.0.0.1",))
    assert read(octets, query()).everywhere == {A1, address("10.0.0.1")}


@pytest.mark.parametrize(("alpn", "offers"), [("h2", False), ("h3", True), ("h2,h3-29", True), ("h3x", False)], ids=str)
def test_http3_is_seen(alpn: str, offers: bool) -> None:
    octets = respond(ask(rtype="HTTPS"), f"www.example.com. 60 HTTPS 1 . alpn={alpn}")
    assert read(octets, query(rtype="HTTPS")).offers_h3 is offers
    assert any(map(is_h3, alpn.encode().split(b","))) is offers


@pytest.mark.parametrize(("params", "offers"), [("alpn=h2", False), ("alpn=h2 ech=AARBQkNE", True)], ids=str)
def test_encrypted_client_hello_is_seen(params: str, offers: bool) -> None:
    octets = respond(ask(rtype="HTTPS"), f"www.example.com. 60 HTTPS 1 . {params}")
    assert read(octets, query(rtype="HTTPS")).offers_ech is offers


def test_opt_is_found_at_the_end() -> None:
    got = read(respond(ask(), errors=((15, "list x"), (17, ""))), query())
    assert got.opt is not None
    assert not got.has_stray
    assert read_options(got.octets, got.opt) == (0, (b"\x00\x0flist x", b"\x00\x11"))


def test_error_without_a_question_has_no_records() -> None:
    got = read(bytes.fromhex("1234 8181 0000 0001 0000 0000") + b"rubbish", query())
    assert (got.records, got.header.ancount, got.addresses) == ([], 0, [])


HEAD = respond(ask())[:12]
QUESTION = ask()[12:]
ONE_ANSWER = HEAD[:6] + b"\x00\x01\x00\x00\x00\x00"


@pytest.mark.parametrize(
    "record",
    [
        "c00c 0001 0001 0000003c 0005 c612010101",
        "c00c 001c 0001 0000003c 0004 c6120101",
        "c00c 0005 0001 0000003c 0002 c0ff",
        "c00c 0041 0001 0000003c 0008 0001 00 0004 0004 c6",
        "c00c 0041 0001 0000003c 000a 0001 00 0004 0003 c61201",
        "c00c 0041 0001 0000003c 000a 0001 00 0001 0003 09 6833",
        "c00c 0041 0001 0000003c 0005 0001 00 0004",
        "c00c 0041 0001 0000003c 0001 00",
    ],
    ids=[
        "an A record of five octets",
        "an AAAA record of four",
        "an alias that points forward",
        "a parameter cut off",
        "a hint of three octets",
        "a protocol cut off",
        "half a parameter",
        "a binding of one octet",
    ],
)
def test_bad_record_is_refused(record: str) -> None:
    with pytest.raises(MalformedMessageError):
        read(ONE_ANSWER + QUESTION + bytes.fromhex(record), query())


@given(st.binary(max_size=100), st.integers(0, 3))
def test_any_octets_are_read_or_refused(tail: bytes, count: int) -> None:
    octets = HEAD[:6] + bytes([0, count, 0, 0, 0, 0]) + QUESTION + tail
    try:
        got = read(octets, query())
    except MalformedMessageError:
        return
    assert set(got.addresses) <= got.everywhere
    if got.opt:
        read_options(octets, got.opt)
