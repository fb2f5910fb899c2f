"""A udp_fwd process between a tun_io and a tracker of the test's own, and packets as a client's kernel makes them."""

import asyncio
import contextlib
import socket
from collections.abc import Callable, Coroutine
from typing import ClassVar, Self

from netstack.packet import checksum, datagram, frame, icmp, ipv4, ipv6, udp
from netstack.packet.vnet import NO_OFFLOAD
from tests.pipeline import world as worlds
from tests.pipeline.own_world import OwnQueue
from tests.pipeline.world import CLIENT, CLIENT_V6, GATEWAY, LOOPBACK, LOOPBACK_V6, NOBODY, WITHIN, ForwarderWorld

__all__ = ["CLIENT", "CLIENT_V6", "GATEWAY", "LOOPBACK", "LOOPBACK_V6", "NOBODY", "WITHIN"]


class World(ForwarderWorld):
    """One udp_fwd process."""

    stage: ClassVar[str] = "udp_fwd"
    worker: ClassVar[str] = "udp_fwd-1"

    async def datagram(self) -> datagram.Datagram:
        return datagram.parse(await self.frame())


class OwnWorld(OwnQueue, World):
    """One udp_fwd process that has a queue of its own: what is not traced goes through that, both ways."""


def world(*settings: str, prefix: tuple[str, ...] = ()) -> contextlib.AbstractAsyncContextManager[World]:
    return worlds.world(World, *settings, prefix=prefix)


def run(scenario: Callable[[World], Coroutine[None, None, None]], *settings: str) -> None:
    worlds.play(World, scenario, *settings)


class Server:
    """A UDP socket on loopback whose receives can be awaited."""

    def __init__(self, family: socket.AddressFamily = socket.AF_INET, host: str = "127.0.0.1") -> None:
        self.socket = socket.socket(family, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self.socket.setblocking(False)
        self.socket.bind((host, 0))
        self.port = self.socket.getsockname()[1]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    async def receive(self) -> tuple[bytes, tuple[str, int]]:
        loop = asyncio.get_running_loop()
        return await asyncio.wait_for(loop.sock_recvfrom(self.socket, 65535), WITHIN)


def packet(
    server: bytes, port: int, payload: bytes, *, client_port: int = 5000, ttl: int = 64, tos: int = 0,
    fragment: int = ipv4.DF,
) -> bytes:  # fmt: skip
    """A frame of the client with everything a test may want to vary (IPv4)."""
    upper = udp.emit(CLIENT, server, client_port, port, payload)
    return NO_OFFLOAD + ipv4.emit(CLIENT, server, udp.PROTOCOL, len(upper), ttl=ttl, tos=tos, fragment=fragment) + upper


def packet_v6(port: int, payload: bytes) -> bytes:
    upper = udp.emit(CLIENT_V6, LOOPBACK_V6, 5000, port, payload)
    return NO_OFFLOAD + ipv6.emit(CLIENT_V6, LOOPBACK_V6, udp.PROTOCOL, len(upper)) + upper


def icmp_of(octets: bytes) -> tuple[bytes, int, int, bytes]:
    """Source, type, code and quote of an ICMP error; its checksum has to hold."""
    whole = frame.parse(octets)
    assert whole.protocol == icmp.PROTOCOL
    message = octets[whole.upper : whole.end]
    assert checksum.checksum(message) == 0
    return whole.source, message[0], message[1], message[8:]
