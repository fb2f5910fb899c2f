"""The host of HTTP/1 requests: what clients send, what lenient servers take, and what is none."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.tcp_fwd.request_head import NotRequestError, RequestHead
from services.tcp_fwd.server_name import combine, host_of


def host_in(octets: bytes) -> str | None:
    reading = RequestHead()
    assert reading.complete(octets)
    return reading.host(octets)


@pytest.mark.parametrize(
    ("octets", "host"),
    [
        pytest.param(b"GET / HTTP/1.1\r\nHost: www.test\r\n\r\n", "www.test", id="a request"),
        pytest.param(b"POST /a HTTP/1.1\r\nA: b\r\nhOsT:www.Test\r\n\r\nbody", "www.test", id="case, space and body"),
        pytest.param(b"GET / HTTP/1.0\r\nHost: www.test\r\n\r\n", "www.test", id="HTTP/1.0"),
        pytest.param(b"GET / HTTP/1.0\r\n\r\n", None, id="HTTP/1.0 without a Host"),
        pytest.param(b"GET / HTTP/1.1\r\nHost:\r\n\r\n", None, id="an empty Host"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: www.test:8080\r\n\r\n", "www.test", id="a port"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: [2001:db8::1]:80\r\n\r\n", "2001:db8::1", id="an IPv6 literal"),
        pytest.param(b"GET http://a.test/x HTTP/1.1\r\nHost: b.test\r\n\r\n", "a.test", id="absolute-form goes first"),
        pytest.param(b"GET http://u:p@a.test:80?x HTTP/1.1\r\n\r\n", "a.test", id="absolute-form with all its parts"),
        pytest.param(b"GET HTTPS://a.test HTTP/1.1\r\n\r\n", "a.test", id="absolute-form without a path"),
        pytest.param(b"CONNECT a.test:443 HTTP/1.1\r\nHost: b.test\r\n\r\n", "a.test", id="authority-form"),
        pytest.param(b"OPTIONS * HTTP/1.1\r\nHost: a.test\r\n\r\n", "a.test", id="asterisk-form"),
        pytest.param(b"PURGE /http://b.test HTTP/1.1\r\nHost: a.test\r\n\r\n", "a.test", id="a URL in the path"),
        pytest.param(b"\r\n\r\nGET / HTTP/1.1\r\nHost: a.test\r\n\r\n", "a.test", id="empty lines in front"),
        pytest.param(b"GET / HTTP/1.1\nHost: a.test\n\n", "a.test", id="bare line feeds"),
        pytest.param(b"GET\t/  HTTP/1.1 \r\nHost : a.test\r\n\r\n", "a.test", id="other white space"),
        pytest.param(b"GET / HTTP/1.1\r\nHost:\r\n a.test\r\n\r\n", "a.test", id="a folded line"),
        pytest.param(b"GET / HTTP/1.1\r\nX: y\r\n Host: a.test\r\n\r\n", None, id="folded into another field"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a.test\r\nHost: b.test\r\n\r\n", "a.test,b.test", id="two are none"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a.test\r\nHost: a.test\r\n\r\n", "a.test", id="twice the same"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a.test b.test\r\n\r\n", "a.test\\032b.test", id="no name at all"),
        pytest.param(b"GET / HTTP/1.1\r\nno field\r\nHost: a.test\r\n\r\n", "a.test", id="a line that is no field"),
        pytest.param(b"GET / HTTP/1.1\r\nA: b\r\n\r\nHost: c.test\r\n\r\n", None, id="a Host in the body"),
    ],
)
def test_the_host(octets: bytes, host: str | None) -> None:
    assert host_in(octets) == host
    head = octets[: octets.index(b"\n\n" if b"\r" not in octets else b"\r\n\r\n", 4) + 1]
    reading = RequestHead()
    for end in range(len(head)):
        assert not reading.complete(octets[:end])
    reading.complete(octets)
    assert reading.host(octets) == host


@pytest.mark.parametrize(
    "octets",
    [
        b"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\r\n",
        b"EHLO mail.test\r\n",
        b"*1\r\n$4\r\nPING\r\n",
        b"PING\r\n",
        b"GET /\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        bytes.fromhex("00000008 04d2162f"),
        b"\x80\x2e\x01\x00\x02",
        b"\xff\xfd\x18",
        b"A" * 33,
        b"GET / HTTP/1.1 x\r\n",
    ],
    ids=[
        "SSH", "SMTP", "Redis", "a Redis command in line", "HTTP/0.9", "HTTP/2 without TLS, which packs its fields",
        "a response", "PostgreSQL's SSLRequest", "an SSLv2 ClientHello", "Telnet", "a method that is too long",
        "something behind the version",
    ],
)  # fmt: skip
def test_what_is_no_request_is_known_at_the_end_of_its_first_line(octets: bytes) -> None:
    with pytest.raises(NotRequestError):
        RequestHead().complete(octets)


@pytest.mark.parametrize(
    "octets", [b"", b"G", b"GET", b"GET ", b"GET /x y", b"\r\n", b"GET / HTTP/1.1\r\nHost: a.test\r"]
)
def test_a_part_is_not_complete(octets: bytes) -> None:
    assert not RequestHead().complete(octets)


def test_a_part_tells_the_host_once_its_line_is_whole() -> None:
    reading = RequestHead()
    octets = b"GET / HTTP/1.1\r\nHost: a.test\r\nX"
    assert not reading.complete(octets)
    assert reading.host(octets) == "a.test"
    assert reading.host(octets[:-3]) is None


@given(
    st.lists(st.sampled_from([b"GET ", b"/", b" HTTP/1.1\r\n", b"Host:", b" a.test", b"\r\n", b"\n", b" ", b"\xff"]))
)
def test_any_octets_give_a_host_or_none(parts: list[bytes]) -> None:
    octets = b"".join(parts)
    whole, bit_by_bit = RequestHead(), RequestHead()
    try:
        complete = whole.complete(octets)
    except NotRequestError:
        return
    assert not any(bit_by_bit.complete(octets[:end]) for end in range(len(octets))) or complete
    bit_by_bit.complete(octets)
    if complete:
        assert whole.host(octets) == bit_by_bit.host(octets)


def fields_named_host(lines: list[bytes]) -> list[bytes]:
    """Line by line, as RFC 9112 section 5.2 says it."""
    values: list[bytes] = []
    in_host = False
    for line in lines:
        if line[:1] in {b" ", b"\t"}:
            if in_host:
                values[-1] += line.strip()
            continue
        name, colon, value = line.partition(b":")
        in_host = bool(colon) and name.strip().lower() == b"host"
        if in_host:
            values.append(value.strip())
    return values


PIECES = st.sampled_from([b"Host", b"hOST", b":", b" ", b"\t", b"\r", b"\v", b"\n", b"\r\n", b"x", b"a.test", b"\r\n "])


@given(st.lists(PIECES, max_size=24).map(b"".join))
def test_host_fields_are_those_that_a_reading_line_by_line_finds(fields: bytes):
    octets = b"GET / HTTP/1.1\r\n" + fields + b"\r\n\r\n"
    head = RequestHead()
    assert head.complete(octets)
    lines = octets[: re.search(rb"\n\r?\n", octets).start() + 1].split(b"\n")[1:-1]
    assert head.host(octets) == combine(list(map(host_of, fields_named_host(lines))))
