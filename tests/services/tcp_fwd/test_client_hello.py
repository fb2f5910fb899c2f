"""The server name of ClientHellos: those of real programs, and those that nobody should send."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.tcp_fwd.client_hello import ClientHello, NotClientHelloError
from tests.services.tcp_fwd.hellos import extension, hello, in_records, python_hello, server_name, vector

GREASE = extension(0x2A2A, b"\0")  # RFC 8701
ALPN = extension(16, vector(2, vector(1, b"h2") + vector(1, b"http/1.1")))
ECH = extension(0xFE0D, bytes.fromhex("00 0001 0001 2a") + vector(2, bytes(32)) + vector(2, bytes(144)))  # RFC 9849
WWW = server_name(b"www.test")

FROM_THE_RFC = bytes.fromhex(
    "16 0301 00c4"  # handshake, TLS 1.0 for compatibility, 196 octets
    "01 0000c0 0303"  # ClientHello, 192 octets, TLS 1.2
    "cb34ecb1e78163ba1c38c6dacb196a6dffa21a8d9912ec18a2ef6283024dece7"  # random
    "00 0006 1301 1303 1302 01 00"  # no session, three suites, no compression
    "0091"  # extensions
    "0000 000b 0009 00 0006 736572766572"  # server_name: "server"
    "ff01 0001 00"  # renegotiation_info
    "000a 0014 0012 001d 0017 0018 0019 0100 0101 0102 0103 0104"  # supported_groups
    "0023 0000"  # session_ticket
    "0033 0026 0024 001d 0020"  # key_share, x25519
    "99381de560e4bd43d23d8e435a7dbafeb3c06e51c13cae4d5413691e529aaf2c"
    "002b 0003 02 0304"  # supported_versions
    "000d 0020 001e 0403 0503 0603 0203 0804 0805 0806 0401 0501 0601 0201 0402 0502 0602 0202"  # signatures
    "002d 0002 01 01"  # psk_key_exchange_modes
    "001c 0002 4001"  # record_size_limit
)
"""RFC 8448 section 3."""


def name_in(octets: bytes) -> str | None:
    reading = ClientHello()
    assert reading.complete(octets)
    return reading.server_name(octets)


@pytest.mark.parametrize(
    ("octets", "name"),
    [
        pytest.param(FROM_THE_RFC, "server", id="the example of RFC 8448"),
        pytest.param(python_hello("www.Example.com"), "www.example.com", id="Python's, case does not count"),
        pytest.param(python_hello("bücher.example"), "xn--bcher-kva.example", id="an international name"),
        pytest.param(python_hello(None), None, id="Python's without a name"),
        pytest.param(hello(WWW), "www.test", id="nothing but the name"),
        pytest.param(hello(GREASE, ALPN, WWW, GREASE), "www.test", id="among GREASE and others"),
        pytest.param(hello(WWW, ECH), "www.test", id="with Encrypted ClientHello the outer name"),
        pytest.param(hello(ECH), None, id="Encrypted ClientHello without an outer name"),
        pytest.param(hello(WWW, session=bytes(32)), "www.test", id="after a session id"),
        pytest.param(hello(server_name(b"www.test.")), "www.test", id="a final dot does not count"),
        pytest.param(hello(server_name(b"198.18.0.1")), "198.18.0.1", id="an address, which is against the RFC"),
        pytest.param(hello(), None, id="no extensions at all"),
        pytest.param(hello(GREASE), None, id="no server_name extension"),
        pytest.param(hello(server_name()), None, id="an empty list of names"),
        pytest.param(hello(server_name(b"")), None, id="an empty name"),
        pytest.param(hello(extension(0, b"")), None, id="an empty extension, as servers send it"),
        pytest.param(hello(server_name(b"www.test", kind=7)), None, id="a name of an unknown kind"),
        pytest.param(hello(server_name(b"a.test", b"b.test")), "a.test,b.test", id="two names are none of both"),
        pytest.param(hello(WWW, WWW), "www.test", id="twice the same"),
        pytest.param(hello(WWW, server_name(b"b.test")), "www.test,b.test", id="two extensions"),
        pytest.param(hello(server_name(b"a\n\xff b")), "a\\010\\255\\032b", id="octets that no name has are escaped"),
        pytest.param(hello(server_name(b"x" * 300)), "x" * 255, id="a name that is too long is cut"),
        pytest.param(hello(extension(0, b"\xff\xff\x00\x00\x08www.test")), "www.test", id="a list of a wrong length"),
        pytest.param(hello(extension(0, b"\x00\x0b\x00\x00\xffwww.test")), "www.test", id="a name of a wrong length"),
        pytest.param(hello(WWW) + bytes(100), "www.test", id="what follows does not count"),
    ],
)
def test_the_server_name(octets: bytes, name: str | None) -> None:
    assert name_in(octets) == name


def test_an_extension_that_reaches_beyond_the_message_is_none() -> None:
    whole = hello(WWW)
    cut = whole[:-4]
    message = cut[9:]
    assert name_in(b"\x16\x03\x01" + vector(2, b"\x01" + vector(3, message))) is None


@pytest.mark.parametrize("record", [FROM_THE_RFC, python_hello("www.example.com")], ids=["RFC 8448", "Python"])
def test_the_message_may_be_cut_into_records_anywhere(record: bytes) -> None:
    name = name_in(record)
    message = len(record) - 5
    for cut in range(1, message):
        assert name_in(in_records(record, cut)) == name
    assert name_in(in_records(record, *range(1, message))) == name


@given(st.data())
def test_segments_may_end_anywhere(data: st.DataObject) -> None:
    record = python_hello("www.example.com")
    cuts = sorted(data.draw(st.sets(st.integers(1, len(record) - 6), max_size=5)))
    octets = in_records(record, *cuts)
    ends = sorted(data.draw(st.sets(st.integers(1, len(octets) - 1), max_size=8)))
    reading = ClientHello()
    assert not any(reading.complete(octets[:end]) for end in ends)
    assert reading.complete(octets)
    assert reading.server_name(octets) == "www.example.com"


def test_empty_records_are_passed_over() -> None:
    record = hello(WWW)
    assert name_in(b"\x16\x03\x01\x00\x00" * 3 + record) == "www.test"


@pytest.mark.parametrize(
    "octets",
    [
        b"\x16\x04",
        b"\x16\x03\x01\x40\x01",
        b"\x16\x03\x01\x00\x04\x02\x00\x00\x00",
        b"\x15\x03\x01\x00\x02\x02\x28",
        in_records(hello(WWW), 20)[:25] + b"\x17\x03\x03\x00\x01\x00",
        in_records(hello(WWW), 20)[:25] + b"\x14",
    ],
    ids=[
        "no TLS version", "a record that is too long", "a ServerHello", "an alert", "data in the middle of the message",
        "another record in the middle of it",
    ],
)  # fmt: skip
def test_what_is_no_client_hello(octets: bytes) -> None:
    with pytest.raises(NotClientHelloError):
        ClientHello().complete(octets)


def test_a_part_tells_the_name_once_it_holds_it() -> None:
    octets = hello(GREASE, WWW, extension(21, bytes(100)))
    begin = octets.index(b"www.test")
    for end in range(len(octets)):
        reading = ClientHello()
        assert not reading.complete(octets[:end])
        assert reading.server_name(octets[:end]) == ("www.test" if end >= begin + 8 else None)


@given(st.binary(max_size=400), st.booleans())
def test_any_octets_give_a_name_or_none(octets: bytes, begins: bool) -> None:
    reading = ClientHello()
    octets = (b"\x16\x03\x01" + vector(2, b"\x01" + vector(3, octets))) if begins else octets
    try:
        reading.complete(octets)
    except NotClientHelloError:
        assert not begins
        return
    name = reading.server_name(octets)
    assert name is None or name.isascii()
