"""What the ZAP handler answers, and what it says about those it turns away."""

import logging
from collections.abc import Iterator

import pytest
import zmq
from zmq.utils import z85

from netstack.wire.curve import Curve, new_secret, public_of
from netstack.wire.doorman import Doorman

KNOWN, STRANGER = (public_of(new_secret()) for _ in range(2))


@pytest.fixture
def asker() -> Iterator["zmq.Socket[bytes]"]:
    """In libzmq's place: a socket at which the handler is asked (RFC 27)."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    doorman = Doorman(context, Curve(new_secret(), peers={KNOWN: "web2"}))
    with context.socket(zmq.REQ) as socket:
        socket.connect("inproc://zeromq.zap.01")
        socket.rcvtimeo = 5000
        yield socket
    doorman.stop()
    context.term()


def asked(
    asker: "zmq.Socket[bytes]", *credentials: bytes, mechanism: bytes = b"CURVE", domain: bytes = b"netstack"
) -> bytes:
    """The status code of the answer."""
    asker.send_multipart([b"1.0", b"1", domain, b"198.18.7.2", b"", mechanism, *credentials])
    return asker.recv_multipart()[2]


def test_a_known_host_comes_in(asker) -> None:
    assert asked(asker, KNOWN) == b"200"


@pytest.mark.parametrize(
    ("credentials", "mechanism", "domain"),
    [
        pytest.param([STRANGER], b"CURVE", b"netstack", id="a key that is not known"),
        pytest.param([KNOWN], b"CURVE", b"elsewhere", id="another domain"),
        pytest.param([], b"CURVE", b"netstack", id="no key"),
        pytest.param([b"user", b"password"], b"PLAIN", b"netstack", id="a password"),
    ],
)
def test_anybody_else_does_not(asker, credentials, mechanism: bytes, domain: bytes) -> None:
    assert asked(asker, *credentials, mechanism=mechanism, domain=domain) == b"400"


def test_who_was_turned_away_is_named_once(asker, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    for _ in range(5):
        assert asked(asker, STRANGER) == b"400"
    assert len(caplog.records) == 1
    assert caplog.records[0].message.startswith(f"198.18.7.2 may not join: its public key {STRANGER.hex()} is not in")
    assert z85.encode(STRANGER).decode() not in caplog.text
