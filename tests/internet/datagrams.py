"""UDP servers of the small internet that say what they saw: of one datagram, of many, and what time it is."""

import asyncio
import itertools
import json
import socket
import struct
import time
from collections.abc import Callable
from typing import Any

from tests.internet import zones

_SO_RCVBUFFORCE = 33  # asm-generic/socket.h; Python names neither
_SO_SNDBUFFORCE = 32
_MEBIBYTE = 1 << 20
_WANTED = {
    # IP_RECVTTL, IP_RECVTOS (linux/in.h); IPV6_RECVHOPLIMIT, IPV6_RECVTCLASS, IPV6_FLOWINFO (linux/in6.h)
    socket.AF_INET: (socket.IPPROTO_IP, (12, 13)),
    socket.AF_INET6: (socket.IPPROTO_IPV6, (51, 66, 11)),
}
_NAMES = {(0, 1): "tos", (0, 2): "ttl", (41, 67): "tos", (41, 52): "ttl", (41, 11): "flow_label"}
_NTP = struct.Struct("!BBbbII4sQ8sQQ")
_NTP_EPOCH = 2208988800  # seconds from 1900 to 1970
_EVERY = 0.002  # seconds between the bursts of a stream

Said = dict[str, Any]


def bound(address: str, port: int) -> socket.socket:
    """A UDP socket of its own for each address, since a reply must come from the one that was asked."""
    endpoint = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
    endpoint.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 8 * _MEBIBYTE)
    endpoint.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, 8 * _MEBIBYTE)
    endpoint.bind((address, port))
    endpoint.setblocking(False)
    return endpoint


def serve(loop: asyncio.AbstractEventLoop, address: str) -> None:
    """The mirror, the counter and the clock of one address."""
    mirror = bound(address, zones.MIRROR_PORT)
    level, options = _WANTED[mirror.family]
    for option in options:
        mirror.setsockopt(level, option, 1)
    _read(loop, mirror, _mirror)
    counter = Counter(loop, bound(address, zones.COUNTER_PORT))
    _read(loop, counter.endpoint, counter.take)
    _read(loop, bound(address, zones.NTP_PORT), _clock)


class Counter:
    """Counts numbered datagrams of a client (8 octets each, more is padding), or sends them.

    "count": what came since, and forget it. "send N RATE SIZE": N datagrams, RATE a second, of SIZE octets.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, endpoint: socket.socket) -> None:
        self._loop = loop
        self.endpoint = endpoint
        self._seen: dict[Any, list[int]] = {}

    def take(self, endpoint: socket.socket, data: bytes, _: Any, client: Any) -> None:
        """One datagram."""
        word, *rest = data.split() if data[:1].isalpha() else (b"",)
        if word == b"count":
            endpoint.sendto(json.dumps(account(self._seen.pop(client[:2], []))).encode(), client)
        elif word == b"send":
            count, rate, size = map(int, rest)
            self._send(client, iter(range(count)), max(1, int(rate * _EVERY)), size)
        else:
            self._seen.setdefault(client[:2], []).append(int.from_bytes(data[:8], "big"))

    def _send(self, client: Any, numbers: Any, burst: int, size: int) -> None:
        for number in itertools.islice(numbers, burst):
            self.endpoint.sendto(number.to_bytes(8, "big").ljust(size, b"."), client)
        if numbers.__length_hint__():
            self._loop.call_later(_EVERY, self._send, client, numbers, burst, size)


def account(numbers: list[int]) -> Said:
    """How many numbers came, how many of them twice, and how many after one that is higher."""
    late = sum(number < before for before, number in itertools.pairwise(numbers))
    return {"received": len(numbers), "twice": len(numbers) - len(set(numbers)), "late": late}


def _read(
    loop: asyncio.AbstractEventLoop, endpoint: socket.socket, take: Callable[[socket.socket, bytes, Any, Any], None]
) -> None:
    def readable() -> None:
        try:
            for _ in range(64):
                data, ancillary, _, client = endpoint.recvmsg(65535, 256)
                take(endpoint, data, ancillary, client)
        except BlockingIOError:
            return

    loop.add_reader(endpoint, readable)


def _mirror(endpoint: socket.socket, data: bytes, ancillary: list[tuple[int, int, bytes]], client: Any) -> None:
    """What of the client's IP header is visible here, sent back with what is asked: "TTL TOS LABEL" (decimal)."""
    said: Said = {"port": client[1], "octets": len(data)}
    for level, kind, value in ancillary:
        name = _NAMES.get((level, kind))
        if name == "flow_label":
            said[name] = int.from_bytes(value, "big") & 0xFFFFF
        elif name:
            said[name] = int.from_bytes(value, "little")
    ttl, tos, label = map(int, data.split())
    if endpoint.family == socket.AF_INET:
        endpoint.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, ttl)
        endpoint.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, tos)
    else:
        endpoint.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, ttl)
        endpoint.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, tos)
        endpoint.setsockopt(socket.IPPROTO_IPV6, 33, 1)  # IPV6_FLOWINFO_SEND
        client = (*client[:2], label, 0)
    endpoint.sendto(json.dumps(said).encode(), client)


def _clock(endpoint: socket.socket, data: bytes, _: Any, client: Any) -> None:
    """NTP (RFC 5905 section 7.3), mode 4, stratum 2."""
    if len(data) < _NTP.size:
        return
    now = int((time.time() + _NTP_EPOCH) * (1 << 32))
    reply = _NTP.pack(0x24, 2, 6, -20, 0, 0, b"TEST", now - (1 << 32), data[40:48], now, now)
    endpoint.sendto(reply, client)
