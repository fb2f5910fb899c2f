"""The sockets on which the DNS proxy answers (`dns.listen`): opened by whoever may open them, and handed on.

The supervisor opens them, since a port below 1024 takes a privilege that the services have given up, and keeps them
while a dns_filter is started anew: what clients ask meanwhile waits in the socket.
"""

import contextlib
import errno
import os
import socket
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from typing import Final

from netstack.runtime.values import parse_listen

IP_PKTINFO: Final = 8  # <linux/in.h>; Python names it from 3.14 on
_BACKLOG: Final = 128
_REMEDIES: Final = {
    errno.EACCES: "a port below 1024 needs root or CAP_NET_BIND_SERVICE; choose another, such as 127.0.0.1:5354",
    errno.EADDRINUSE: "something else listens there (`ss -lntup` shows it); stop it, or choose another port or address",
    errno.EADDRNOTAVAIL: "this host has no such address; `ip address` shows those it has",
}


class ListenError(OSError):
    """An address on which we cannot listen; the message says which, why, and the remedy."""


def open_listeners(texts: Iterable[str]) -> list[socket.socket]:
    """For each ADDRESS:PORT a UDP socket, which tells to which address a datagram came, and a listening TCP socket.

    They do not block. Raises ListenError.
    """
    with ExitStack() as stack:
        opened = []
        for text in texts:
            address, port = parse_listen(text)
            family = socket.AF_INET if address.version == 4 else socket.AF_INET6
            for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
                try:
                    sock = stack.enter_context(socket.socket(family, kind | socket.SOCK_NONBLOCK))
                    _bind(sock, str(address), port)
                except OSError as error:
                    remedy = _REMEDIES.get(error.errno or 0)
                    why = os.strerror(error.errno or 0) + (f": {remedy}" if remedy else "")
                    raise ListenError(f"cannot listen on dns.listen = {text}: {why}") from None
                opened.append(sock)
        stack.pop_all()
    return opened


def take_listeners(descriptors: Sequence[int]) -> list[socket.socket]:
    """Sockets of open_listeners that were inherited, by their numbers."""
    return [socket.socket(fileno=descriptor) for descriptor in descriptors]


def _bind(sock: socket.socket, address: str, port: int) -> None:
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    if sock.type == socket.SOCK_STREAM:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((address, port))
        sock.listen(_BACKLOG)
        return
    # An answer must come from the address that was asked, which a host with several of them has to be told.
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)  # octets; a burst waits instead of being lost
    sock.bind((address, port))
