"""CURVE on the links between hosts (ZeroMQ RFC 26): keys, and the options of a socket that other hosts can reach.

Only sockets at tcp:// endpoints are secured. libzmq takes over a socket's options when it binds or connects, so one
socket may serve Unix sockets of this host, which the directory's mode guards, and then hosts elsewhere, under CURVE.
Who may come in says netstack.wire.doorman; where that is not there, nobody (ZMQ_ZAP_ENFORCE_DOMAIN).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import zmq
from zmq.utils import z85

KEY_OCTETS: Final = 32

TCP: Final = "tcp://"
"""Begins the endpoints that other hosts can reach."""

DOMAIN: Final = "netstack"
_MAX_MESSAGE: Final = 64 << 20  # octets; also of what somebody sends who has not shown a key yet
_PING: Final = 1000  # milliseconds between two pings (ZMTP 3.1) of a link that is idle
_PING_TIMEOUT: Final = 4000  # milliseconds; a host that vanished is noticed after so long
_CONNECT_TIMEOUT: Final = 3000  # milliseconds; the kernel's is two minutes


@dataclass(frozen=True)
class Curve:
    """The keys of one host, each of KEY_OCTETS octets: its own, and those of the hosts that it trusts."""

    secret: bytes = field(repr=False)
    server: bytes = b""
    """The public key of the host that is connected to."""
    peers: Mapping[bytes, str] = field(default_factory=dict)
    """The public keys of the hosts that may connect, and what they are called."""

    @property
    def public(self) -> bytes:
        """The public key that belongs to the secret one."""
        return public_of(self.secret)


def new_secret() -> bytes:
    """A fresh secret key."""
    return z85.decode(zmq.curve_keypair()[1])


def public_of(secret: bytes) -> bytes:
    """The public key of a secret one."""
    return z85.decode(zmq.curve_public(z85.encode(secret)))


def serve(socket: "zmq.Socket[bytes]", endpoint: str, curve: Curve | None) -> None:
    """Have this endpoint, once the socket binds it, serve other hosts; with keys, those of curve.peers only."""
    _tcp(socket, endpoint)
    if curve is not None:
        socket.zap_domain = DOMAIN.encode()
        socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)
        socket.curve_secretkey = curve.secret
        socket.curve_server = True


def join(socket: "zmq.Socket[bytes]", endpoint: str, curve: Curve | None) -> None:
    """Have this endpoint, once the socket connects to it, be another host's; with keys, that of curve.server only."""
    _tcp(socket, endpoint)
    socket.connect_timeout = _CONNECT_TIMEOUT
    if curve is not None:
        socket.curve_publickey = curve.public
        socket.curve_secretkey = curve.secret
        socket.curve_serverkey = curve.server


def _tcp(socket: "zmq.Socket[bytes]", endpoint: str) -> None:
    socket.ipv6 = "[" in endpoint  # else addresses of IPv4 were shown in IPv6's form
    socket.maxmsgsize = _MAX_MESSAGE
    socket.heartbeat_ivl = _PING
    socket.heartbeat_timeout = _PING_TIMEOUT
