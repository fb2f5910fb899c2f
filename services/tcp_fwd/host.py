"""Host sockets: opening them towards the world, and what their errors mean.

What only a connection that lasts needs is set later, with `tend`: many are over before.

While one connects, what ICMP says of its SYN is kept in its error queue (IP_RECVERR): an errno alone would not tell who
said it, nor with which code. On an established connection Linux takes ICMP errors for passing ones, unless the socket
has that option: then a call fails with each. `was_soft` takes it away with the first, which few connections ever have.
"""

import errno
import secrets
import socket
import struct
from pathlib import Path
from typing import Final

from netstack.packet import errqueue
from netstack.packet.errqueue import SocketError
from netstack.packet.flow import Flow
from netstack.packet.reason import Reason

KEEPALIVE_INTERVAL: Final = 75  # seconds between probes; Linux's tcp_keepalive_intvl
_MAX_USER_TIMEOUT: Final = (1 << 31) - 1  # milliseconds; an int
_MAX_KEEPALIVE_IDLE: Final = 32767  # seconds; MAX_TCP_KEEPIDLE of <net/tcp.h>

# An attribute of a module costs more than a name here, and an IntEnum more than an int.
_V4: Final = int(socket.AF_INET)
_V6: Final = int(socket.AF_INET6)
_STREAM: Final = socket.SOCK_STREAM | socket.SOCK_NONBLOCK
_TCP: Final = socket.IPPROTO_TCP
_IP: Final = socket.IPPROTO_IP
_IPV6: Final = socket.IPPROTO_IPV6
_SOCKET: Final = socket.SOL_SOCKET
_NODELAY: Final = socket.TCP_NODELAY
_OOBINLINE: Final = socket.SO_OOBINLINE
_TTL: Final = socket.IP_TTL
_new_socket: Final = socket.SocketType  # not socket.socket, which extends it by what no one needs here, in Python
_text: Final = socket.inet_ntop

_DSCP: Final = 0xFC  # of TOS; the rest is for the kernel's own congestion control

_CLOSED: Final = 7  # of tcpi_state: TCP_CLOSE of <net/tcp_states.h>
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


def connect(flow: Flow, syn: bytes) -> tuple[socket.SocketType, int]:
    """Begin to connect to the flow's server; the socket, and the errno of connect (0, EINPROGRESS, or a failure).

    syn is the client's IP packet: its TTL, one less, and its DSCP are those of the connection, as behind a router.
    Raises OSError where not even a socket can be had.
    """
    is_v4 = len(flow.server) == 4
    host = _new_socket(_V4 if is_v4 else _V6, _STREAM)
    host.setsockopt(_TCP, _NODELAY, 1)
    # Urgent data is ordinary data here (RFC 6093 section 6): none of it is kept apart.
    host.setsockopt(_SOCKET, _OOBINLINE, 1)
    if is_v4:
        host.setsockopt(_IP, errqueue.IP_RECVERR, 1)
        host.setsockopt(_IP, _TTL, max(1, syn[8] - 1))
        if syn[1] & _DSCP:
            host.setsockopt(_IP, socket.IP_TOS, syn[1] & _DSCP)
        return host, host.connect_ex((_text(_V4, flow.server), flow.server_port))
    # To an IPv4-mapped address such a socket would send IPv4, past any rule for that (frames with one are refused).
    host.setsockopt(_IPV6, socket.IPV6_V6ONLY, 1)
    host.setsockopt(_IPV6, errqueue.IPV6_RECVERR, 1)
    host.setsockopt(_IPV6, socket.IPV6_UNICAST_HOPS, max(1, syn[7] - 1))
    dscp = (syn[0] << 4 | syn[1] >> 4) & _DSCP
    if dscp:
        host.setsockopt(_IPV6, socket.IPV6_TCLASS, dscp)
    return host, host.connect_ex((_text(_V6, flow.server), flow.server_port))


def tend(host: socket.SocketType, idle_timeout: float) -> None:
    """See to it that a far end of which nothing is heard for idle_timeout seconds is given up.

    So long the kernel sends data again (TCP_USER_TIMEOUT, RFC 5482), and so long it asks whether an idle one is still
    there, from half that time on; with a user timeout the number of probes does not count (tcp(7)).
    """
    idle = min(max(int(idle_timeout / 2), 1), _MAX_KEEPALIVE_IDLE)
    host.setsockopt(_TCP, socket.TCP_KEEPIDLE, idle)
    host.setsockopt(_TCP, socket.TCP_KEEPINTVL, min(KEEPALIVE_INTERVAL, idle))
    host.setsockopt(_TCP, socket.TCP_USER_TIMEOUT, min(int(idle_timeout * 1000), _MAX_USER_TIMEOUT))
    host.setsockopt(_SOCKET, socket.SO_KEEPALIVE, 1)


def error_of(host: socket.SocketType) -> SocketError | None:
    """What the network said of a socket that connects; None where it said nothing.

    Of an error that this host itself has sent, since it finds no neighbour, the offender is left out.
    """
    try:
        _, ancillary, _, _ = host.recvmsg(0, errqueue.ANCILLARY, socket.MSG_ERRQUEUE)
    except OSError:
        return None
    error = errqueue.parse(ancillary)
    if error is not None and error.offender:
        own = socket.inet_pton(host.family, host.getsockname()[0].partition("%")[0])
        if error.offender == own:
            return error._replace(offender=b"")
    return error


def was_soft(host: socket.SocketType, number: int) -> bool:
    """Whether a call on an established connection failed with this errno for an ICMP error alone: then try it again.

    Of a connection that is established nothing lies in the error queue; what ends one closes it, though.
    """
    if host.family == socket.AF_UNIX or number == errno.EPIPE:
        return False
    (state,) = host.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)
    if state == _CLOSED:
        return False
    if host.family == socket.AF_INET:
        host.setsockopt(socket.IPPROTO_IP, errqueue.IP_RECVERR, 0)
    else:
        host.setsockopt(socket.IPPROTO_IPV6, errqueue.IPV6_RECVERR, 0)
    return True


def connect_dns(flow: Flow, directory: Path) -> tuple[socket.SocketType, int]:
    """Connect to one of the dns_filter workers that listen in directory, and say who the client is.

    Raises OSError where none can be reached.
    """
    workers = list(directory.iterdir())
    if not workers:
        raise ConnectionRefusedError(errno.ECONNREFUSED, f"no dns_filter listens in {directory}")
    host = socket.SocketType(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        host.connect(str(secrets.choice(workers)))
        host.send(bytes([len(flow.client)]) + flow.client + flow.client_port.to_bytes(2, "big"))
    except OSError:
        host.close()
        raise
    return host, 0


def close(host: socket.SocketType, *, reset: bool) -> None:
    """Close, with a reset at the far end where asked."""
    if reset and host.family != socket.AF_UNIX:
        host.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    host.close()
