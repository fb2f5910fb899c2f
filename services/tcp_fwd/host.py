"""Host sockets: opening them towards the world, and what their errors mean."""

import errno
import secrets
import socket
import struct
from pathlib import Path
from typing import Final

from netstack.packet.flow import Flow
from netstack.packet.reason import Reason

KEEPALIVE_INTERVAL: Final = 75  # seconds between probes; Linux's tcp_keepalive_intvl
_MAX_USER_TIMEOUT: Final = (1 << 31) - 1  # milliseconds; an int
_MAX_KEEPALIVE_IDLE: Final = 32767  # seconds; MAX_TCP_KEEPIDLE of <net/tcp.h>

_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)  # SO_LINGER on, 0 s: close() sends RST (socket(7))

_REASONS: Final = {
    errno.ECONNREFUSED: Reason.CONNECTION_REFUSED,
    errno.EHOSTUNREACH: Reason.HOST_UNREACHABLE,
    errno.EHOSTDOWN: Reason.HOST_UNREACHABLE,
    errno.ENETUNREACH: Reason.NET_UNREACHABLE,
    errno.ENETDOWN: Reason.NET_UNREACHABLE,
    errno.EADDRNOTAVAIL: Reason.NET_UNREACHABLE,  # no address of the family to send from
    errno.EAFNOSUPPORT: Reason.NET_UNREACHABLE,
    errno.EACCES: Reason.ADMIN_PROHIBITED,  # of ICMPv6 type 1 codes 1, 5 and 6, and of a route that prohibits
    errno.EPERM: Reason.ADMIN_PROHIBITED,  # a firewall of this host
    errno.ETIMEDOUT: Reason.CONNECT_TIMEOUT,
    errno.EMFILE: Reason.FLOW_TABLE_FULL,
    errno.ENFILE: Reason.FLOW_TABLE_FULL,
}


_REASONS_ESTABLISHED: Final = {
    **_REASONS,
    errno.ECONNRESET: Reason.CONNECTION_RESET,
    errno.EPIPE: Reason.CONNECTION_RESET,
    errno.ETIMEDOUT: Reason.CONNECTION_TIMEOUT,
}


def reason_of(number: int) -> Reason:
    """The slug of a failed connect's errno."""
    return _REASONS.get(number, Reason.SOCKET_ERROR)


def reason_of_end(number: int) -> Reason:
    """The slug of the errno with which an established connection ended."""
    return _REASONS_ESTABLISHED.get(number, Reason.SOCKET_ERROR)


def connect(flow: Flow, idle_timeout: float) -> tuple[socket.socket, int]:
    """Begin to connect to the flow's server; the socket, and the errno of connect (0, EINPROGRESS, or a failure).

    A far end of which nothing is heard for idle_timeout seconds is given up: so long the kernel sends data again
    (TCP_USER_TIMEOUT, RFC 5482), and so long it asks whether an idle one is still there, from half that time on; with a
    user timeout the number of probes does not count (tcp(7)). Raises OSError where not even a socket can be had.
    """
    family = socket.AF_INET if len(flow.server) == 4 else socket.AF_INET6
    host = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    host.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    host.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    idle = min(max(int(idle_timeout / 2), 1), _MAX_KEEPALIVE_IDLE)
    host.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, idle)
    host.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, min(KEEPALIVE_INTERVAL, idle))
    host.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, min(int(idle_timeout * 1000), _MAX_USER_TIMEOUT))
    # Urgent data is ordinary data here (RFC 6093 section 6): none of it is kept apart.
    host.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
    return host, host.connect_ex((socket.inet_ntop(family, flow.server), flow.server_port))


def connect_dns(flow: Flow, directory: Path) -> tuple[socket.socket, int]:
    """Connect to one of the dns_filter workers that listen in directory, and say who the client is.

    Raises OSError where none can be reached.
    """
    workers = list(directory.iterdir())
    if not workers:
        raise ConnectionRefusedError(errno.ECONNREFUSED, f"no dns_filter listens in {directory}")
    host = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        host.connect(str(secrets.choice(workers)))
        host.send(bytes([len(flow.client)]) + flow.client + flow.client_port.to_bytes(2, "big"))
    except OSError:
        host.close()
        raise
    return host, 0


def close(host: socket.socket, *, reset: bool) -> None:
    """Close, with a reset at the far end where asked."""
    if reset and host.family != socket.AF_UNIX:
        host.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    host.close()
