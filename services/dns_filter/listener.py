"""Queries over UDP from clients that ask this host itself: `mode = "dns"`. Those over TCP: stream.py."""

import asyncio
import socket
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from netstack.packet.reason import Reason
from netstack.runtime.counters import Counters
from netstack.runtime.listening import IP_PKTINFO
from services.dns_filter.queries import Client
from services.dns_filter.query import MAX_QUERY

_BURST: Final = 64  # datagrams before others get their turn
_ANCILLARY: Final = socket.CMSG_SPACE(20)  # octets of in6_pktinfo, the larger one (ipv6(7))

ClientAddress = tuple[Any, ...]
"""As the socket module has it: two parts for IPv4, four for IPv6."""


class UdpListener:
    """One UDP socket of netstack.runtime.listening."""

    def __init__(self, sock: socket.socket, on_query: Callable[[bytes, Client], bool], counters: Counters) -> None:
        self._socket = sock
        self._on_query = on_query
        self._counters = counters
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(sock, self._readable)
        self._is_listening = True

    def stop_listening(self) -> None:
        """Take no more queries; answers still go out."""
        if self._is_listening:
            self._is_listening = False
            self._loop.remove_reader(self._socket)

    def close(self) -> None:
        """End everything."""
        self.stop_listening()
        self._socket.close()

    def _readable(self) -> None:
        for _ in range(_BURST):
            try:
                octets, ancillary, _, peer = self._socket.recvmsg(MAX_QUERY + 1, _ANCILLARY)
            except BlockingIOError:
                return
            except OSError:
                # An ICMP error about an answer of ours: that client has gone.
                self._counters.drop(Reason.SOCKET_ERROR)
                continue
            self._counters.packets_in += 1
            self._counters.octets_in += len(octets)
            address = socket.inet_pton(self._socket.family, str(peer[0]).partition("%")[0])
            reply = partial(self._send, peer, _source(ancillary))
            self._on_query(octets, Client(address, peer[1], udp=True, reply=reply))

    def _send(self, peer: ClientAddress, source: list[tuple[int, int, bytes]], message: bytes) -> None:
        if self._socket.fileno() < 0:
            return
        try:
            self._socket.sendmsg([message], source, 0, peer)
        except BlockingIOError:
            self._counters.drop(Reason.BUFFER_FULL)
            return
        except OSError:
            self._counters.drop(Reason.SOCKET_ERROR)
            return
        self._counters.packets_out += 1
        self._counters.octets_out += len(message)


def _source(ancillary: list[tuple[int, int, bytes]]) -> list[tuple[int, int, bytes]]:
    """The ancillary data by which an answer leaves from the address that was asked, by whichever interface."""
    for level, kind, data in ancillary:
        if (level, kind) == (socket.IPPROTO_IP, IP_PKTINFO):
            return [(level, kind, bytes(4) + data[4:8] + bytes(4))]  # ipi_spec_dst (ip(7))
        if (level, kind) == (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO):
            return [(level, kind, data[:16] + bytes(4))]
    return []
