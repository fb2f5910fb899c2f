"""First octets of every kind: whole, in pieces, too many, and none that anybody knows."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.tcp_fwd.first_octets import LIMIT, NOTHING, FirstOctets, Seen
from tests.services.tcp_fwd.hellos import hello, hello_of, in_records, pieces, python_hello, server_name

REQUEST = b"GET / HTTP/1.1\r\nHost: www.test\r\n\r\n"
HELLO = python_hello("www.test")
TLS, HTTP = Seen("tls", "www.test"), Seen("http", "www.test")


def seen(octets: bytes, size: int = 1 << 20) -> Seen | None:
    """What is seen when octets come in pieces of this size; what comes after it is known is not given any more."""
    first = FirstOctets()
    for piece in pieces(octets, size):
        found = first.receive(memoryview(piece))
        if found is not None:
            return found
    return None


@pytest.mark.parametrize("size", [1, 2, 7, 100, 1 << 20])
@pytest.mark.parametrize(
    ("octets", "expected"),
    [
        pytest.param(HELLO, TLS, id="a ClientHello"),
        pytest.param(in_records(HELLO, 1, 3, 50), TLS, id="in several records"),
        pytest.param(python_hello(None), Seen("tls", None), id="without a name"),
        pytest.param(REQUEST, HTTP, id="a request"),
        pytest.param(REQUEST + bytes(LIMIT), HTTP, id="a request with a large body"),
        pytest.param(b"SSH-2.0-OpenSSH_9.2\r\n", NOTHING, id="SSH"),
        pytest.param(b"\x80\x2e\x01\x00\x02", NOTHING, id="SSLv2"),
        pytest.param(b"\x16\x03\x01\xff\xff", NOTHING, id="an impossible record"),
        pytest.param(b"GET / HTTP/1.1\r\n", None, id="the beginning of a request"),
        pytest.param(HELLO[:-1], None, id="a ClientHello but for one octet"),
        pytest.param(hello(server_name(b"www.test"), padding=LIMIT), NOTHING, id="the name lies beyond the limit"),
        pytest.param(hello(server_name(b"www.test")) + bytes(LIMIT), TLS, id="what follows does not count"),
        pytest.param(b"GET / HTTP/1.1\r\nX: " + bytes(LIMIT), NOTHING, id="a head without end"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: www.test\r\nX: " + bytes(LIMIT), HTTP, id="but the Host comes first"),
        pytest.param(b"GET /" + b"x" * LIMIT, NOTHING, id="a request line without end"),
        pytest.param(b"\r\n" * LIMIT, NOTHING, id="empty lines without end"),
    ],
)
def test_first_octets(octets: bytes, expected: Seen | None, size: int) -> None:
    assert seen(octets, size) == expected


def test_a_large_client_hello_whose_name_comes_first_is_known_at_the_limit() -> None:
    octets = in_records(hello(server_name(b"www.test"), b"\x00\x15\x3f\xff" + bytes(0x3FFF)), 10000)
    assert len(octets) > LIMIT
    assert seen(octets) == TLS
    assert seen(octets[: LIMIT - 1]) is None


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (["openssl", "s_client", "-connect", "127.0.0.1:PORT", "-servername", "www.test"], TLS),
        (["openssl", "s_client", "-connect", "127.0.0.1:PORT", "-noservername"], Seen("tls", None)),
        (["openssl", "s_client", "-connect", "127.0.0.1:PORT", "-servername", "www.test", "-tls1_2"], TLS),
        (["curl", "-s", "--connect-to", "::127.0.0.1:PORT", "https://www.test/"], TLS),
        (["curl", "-s", "--connect-to", "::127.0.0.1:PORT", "--tls-max", "1.2", "https://www.test/"], TLS),
        (["curl", "-s", "https://127.0.0.1:PORT/"], Seen("tls", None)),
    ],
    ids=["openssl", "openssl without a name", "TLS 1.2", "curl", "curl with TLS 1.2", "curl to an address"],
)
def test_what_real_programs_say_first(command: list[str], expected: Seen) -> None:
    assert seen(hello_of(*command)) == expected


def test_octets_are_taken_up_to_the_limit_and_no_further() -> None:
    first = FirstOctets()
    assert first.receive(b"") is None
    assert first.receive(b"GET / HTTP/1.1\r\nX: ") is None
    assert first.receive(bytes(10 * LIMIT)) == NOTHING
    assert len(first) == LIMIT


@given(st.data())
def test_how_octets_are_cut_makes_no_difference(data: st.DataObject) -> None:
    octets = data.draw(
        st.one_of(
            st.sampled_from([HELLO, REQUEST]),
            st.binary(max_size=100),
            st.binary(max_size=100).map(lambda rest: b"\x16\x03\x01" + rest),
            st.builds(
                lambda cut, octet: HELLO[:cut] + octet + HELLO[cut + 1 :], st.integers(0, 300), st.binary(max_size=3)
            ),
        )
    )
    first = FirstOctets()
    found = None
    at = 0
    while at < len(octets) and found is None:
        size = data.draw(st.integers(1, len(octets) - at))
        found = first.receive(octets[at : at + size])
        at += size
    if found is None:
        assert seen(octets) is None
    else:
        assert seen(octets[:at]) == found


def test_octet_by_octet_costs_no_more_than_linear_work() -> None:
    # Quadratic work would take minutes; the timeout of all tests is one.
    for octets in (
        b"\r\n" * LIMIT,
        in_records(hello(padding=LIMIT // 8), *range(1, 2000)),
        b"GET / HTTP/1.1\r\n" + b"\n " * LIMIT,
    ):
        for _ in range(5):
            seen(octets, 1)
