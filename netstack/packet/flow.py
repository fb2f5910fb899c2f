"""A flow: the five values that say which packets belong together, seen from the client."""

import ipaddress
from typing import NamedTuple


class Flow(NamedTuple):
    """Client and server endpoints of a flow; addresses packed, 4 or 16 octets (both of one length)."""

    protocol: int
    client: bytes
    client_port: int
    server: bytes
    server_port: int

    def __str__(self) -> str:
        return f"{endpoint(self.client, self.client_port)} > {endpoint(self.server, self.server_port)}"


def endpoint(address: bytes, port: int) -> str:
    """An endpoint as people write it: 192.0.2.1:80, [2001:db8::1]:80."""
    text = address_text(address)
    return f"[{text}]:{port}" if ":" in text else f"{text}:{port}"


def address_text(address: bytes) -> str:
    """A packed address as text."""
    return str(ipaddress.ip_address(address))


def tcp_key(client: bytes, client_port: int, server: bytes, server_port: int) -> bytes:
    """What spreads TCP flows over workers: addresses and ports as they stand in the packet, 12 or 36 octets."""
    return client + server + client_port.to_bytes(2, "big") + server_port.to_bytes(2, "big")


def endpoint_key(client: bytes, port: int) -> bytes:
    """What spreads UDP (and echo, by identifier) over workers: the client's endpoint alone, 6 or 18 octets.

    All that one endpoint sends goes through one socket of one worker (RFC 4787 REQ-1).
    """
    return client + port.to_bytes(2, "big")
