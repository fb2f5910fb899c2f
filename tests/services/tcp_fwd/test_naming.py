"""What is done about the name of a flow: when octets wait, and what is refused."""

import socket

import pytest

from netstack.packet import tcp
from netstack.packet.flow import Flow
from netstack.packet.reason import Reason
from netstack.runtime.values import parse_allowed_network
from services.tcp_fwd.first_octets import NOTHING, Seen
from services.tcp_fwd.naming import Naming, is_address, is_exempt, refusal

REQUEST = b"GET / HTTP/1.1\r\nHost: www.test\r\n\r\n"
SERVER = bytes([198, 18, 0, 9])
SERVER_V6 = socket.inet_pton(socket.AF_INET6, "2001:db8::9")


def flow(server: bytes = SERVER, port: int = 443) -> Flow:
    return Flow(tcp.PROTOCOL, bytes(len(server)), 40000, server, port)


def test_octets_wait_once_and_only_after_the_client_has_spoken() -> None:
    naming = Naming(0, may_hold=True)
    assert not naming.should_hold()
    naming.client_spoke(REQUEST[:10])
    assert naming.seen is None
    assert naming.should_hold()
    assert naming.held
    assert not naming.should_hold()
    naming.client_spoke(REQUEST[10:])
    assert naming.seen == Seen("http", "www.test")


def test_without_enforcement_nothing_ever_waits() -> None:
    naming = Naming(0, may_hold=False)
    naming.client_spoke(REQUEST[:10])
    assert not naming.should_hold()
    assert not naming.held


def test_what_comes_after_the_name_is_not_looked_at() -> None:
    naming = Naming(0, may_hold=True)
    naming.client_spoke(REQUEST)
    naming.client_spoke(b"GET / HTTP/1.1\r\nHost: other.test\r\n\r\n")
    assert naming.seen == Seen("http", "www.test")


def test_a_server_that_speaks_first_speaks_neither_tls_nor_http() -> None:
    naming = Naming(0, may_hold=True)
    naming.server_spoke()
    assert naming.seen == NOTHING


def test_a_server_that_speaks_later_does_not_hide_the_name() -> None:
    naming = Naming(0, may_hold=True)
    naming.client_spoke(REQUEST[:10])
    naming.server_spoke()
    assert naming.seen is None


def test_a_client_that_ends_has_said_all() -> None:
    naming = Naming(0, may_hold=True)
    naming.client_spoke(REQUEST[:10])
    naming.client_ended()
    assert naming.seen == NOTHING
    known = Naming(0, may_hold=True)
    known.client_spoke(REQUEST)
    known.client_ended()
    assert known.seen == Seen("http", "www.test")


@pytest.mark.parametrize(
    ("name", "server", "expected"),
    [
        ("198.18.0.9", SERVER, True),
        ("198.18.0.8", SERVER, False),
        ("2001:db8:0::9", SERVER_V6, True),
        ("2001:db8::8", SERVER_V6, False),
        ("198.18.0.9", SERVER_V6, False),
        ("198.18.0.9.", SERVER, False),
        ("www.test", SERVER, False),
    ],
    ids=["the address", "another", "an IPv6 address", "another", "of another family", "a dot too many", "a name"],
)
def test_a_name_may_be_the_address(name: str, server: bytes, expected: bool) -> None:
    assert is_address(name, server) is expected


@pytest.mark.parametrize(
    ("networks", "expected"),
    [
        ([], False),
        (["198.18.0.0/24"], True),
        (["198.18.1.0/24"], False),
        (["198.18.1.0/24", "198.18.0.9:443/tcp"], True),
        (["198.18.0.9:443"], True),
        (["198.18.0.9:80/tcp"], False),
        (["198.18.0.9:443/udp"], False),
        (["::/0"], False),
    ],
    ids=[
        "nothing", "its network", "another", "its port and protocol", "its port", "another port", "another protocol",
        "another family",
    ],
)  # fmt: skip
def test_where_no_name_is_needed_none_is_wrong(networks: list[str], expected: bool) -> None:
    assert is_exempt(flow(), [parse_allowed_network(text) for text in networks]) is expected


@pytest.mark.parametrize(
    ("allowed", "reason", "names", "expected"),
    [
        (True, "", ["a.test", "www.test"], None),
        (True, "", ["a.test"], Reason.SNI_MISMATCH),
        (True, "", [], None),
        (False, "not-whitelisted", [], Reason.SNI_MISMATCH),
        (False, "tracker-down", [], Reason.TRACKER_DOWN),
        (False, "a reason of tomorrow", [], Reason.SNI_MISMATCH),
    ],
    ids=[
        "the name was answered with this address", "others were", "it is allowed without a name",
        "its lease has ended", "nobody knows", "a reason that is not known",
    ],
)  # fmt: skip
def test_what_the_tracker_says_decides(allowed: bool, reason: str, names: list[str], expected: Reason | None) -> None:
    assert refusal("www.test", allowed=allowed, reason=reason, names=names) is expected
