"""Names of servers in the form in which they are compared."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.tcp_fwd.server_name import MAX_NAME, combine, host_of, normalize


@pytest.mark.parametrize(
    ("octets", "name"),
    [
        (b"www.test", "www.test"),
        (b"WwW.TesT", "www.test"),
        (b"www.test.", "www.test"),
        (b"www.test..", "www.test."),
        (b"_svc.www.test", "_svc.www.test"),
        (b"a b", "a\\032b"),
        (b"\x1b[31m\xe9", "\\027[31m\\233"),
        (b"", ""),
    ],
    ids=[
        "as it is", "case does not count", "nor does the final dot", "but one only", "an underscore",
        "a space is escaped", "what a terminal would obey is escaped", "nothing",
    ],
)  # fmt: skip
def test_a_name_is_normalized(octets: bytes, name: str) -> None:
    assert normalize(octets) == name


@pytest.mark.parametrize(
    ("authority", "host"),
    [
        (b"www.test", b"www.test"),
        (b"www.test:8080", b"www.test"),
        (b"www.test:", b"www.test"),
        (b"user:secret@www.test:80", b"www.test"),
        (b"198.18.0.1:80", b"198.18.0.1"),
        (b"[2001:db8::1]:80", b"2001:db8::1"),
        (b"[2001:db8::1]", b"2001:db8::1"),
        (b"[2001:db8::1", b"2001:db8::1"),
        (b"", b""),
    ],
    ids=[
        "a name", "a port", "an empty port", "user information", "an address", "an IPv6 literal with a port",
        "without one", "that is not closed", "nothing",
    ],
)  # fmt: skip
def test_the_host_of_an_authority(authority: bytes, host: bytes) -> None:
    assert host_of(authority) == host


def test_names_that_differ_make_one_that_matches_none() -> None:
    assert combine([b"a.test", b"A.test."]) == "a.test"
    assert combine([b"a.test", b"b.test"]) == "a.test,b.test"
    assert combine([b"", b"b.test"]) == "b.test"
    assert combine([b"."]) is None
    assert combine([]) is None


@given(st.binary(max_size=600))
def test_any_octets_become_text_that_may_be_logged(octets: bytes) -> None:
    name = normalize(octets)
    assert all("!" <= one <= "~" for one in name)
    assert len(name) <= 4 * MAX_NAME
