"""Cutting a packet larger than the MTU of the TUN into fragments (RFC 791 3.2, RFC 8200 4.5). No I/O.

The kernel behind the TUN takes packets of any size for itself, and that is how they are written where the client is on
this very machine. A client beyond it gets fragments: a router sends on what fits the next link, and over IPv6 may not
cut anything itself.
"""

from collections.abc import Iterator
from typing import Final

from netstack.packet import ipv4, ipv6
from netstack.packet.checksum import checksum
from netstack.packet.vnet import NO_OFFLOAD

_BLOCK: Final = 8  # octets; what offsets count
_FRAGMENT_HEADER: Final = 8  # octets


def cut(packet: bytes, mtu: int, identification: int) -> list[bytes]:
    """Frames that hold a packet; one where it fits the MTU.

    The packet is complete (no checksum is left to the kernel) and has neither IPv4 options nor IPv6 extension headers.
    identification: of one sender's packets no two in flight may have the same; its low 16 bits for IPv4, 32 for IPv6.
    """
    if len(packet) <= mtu:
        return [NO_OFFLOAD + packet]
    return list(_cut_v4(packet, mtu, identification) if packet[0] >> 4 == 4 else _cut_v6(packet, mtu, identification))


def _cut_v4(packet: bytes, mtu: int, identification: int) -> Iterator[bytes]:
    data = packet[ipv4.HEADER_LEN :]
    for at, piece in _pieces(data, mtu - ipv4.HEADER_LEN):
        head = bytearray(packet[: ipv4.HEADER_LEN])
        head[2:4] = (ipv4.HEADER_LEN + len(piece)).to_bytes(2, "big")
        head[4:6] = (identification & 0xFFFF).to_bytes(2, "big")
        more = ipv4.MF if at + len(piece) < len(data) else 0
        head[6:8] = (more | at // _BLOCK).to_bytes(2, "big")
        head[10:12] = bytes(2)
        head[10:12] = checksum(head).to_bytes(2, "big")
        yield NO_OFFLOAD + bytes(head) + piece


def _cut_v6(packet: bytes, mtu: int, identification: int) -> Iterator[bytes]:
    data = packet[ipv6.HEADER_LEN :]
    for at, piece in _pieces(data, mtu - ipv6.HEADER_LEN - _FRAGMENT_HEADER):
        head = bytearray(packet[: ipv6.HEADER_LEN])
        head[4:6] = (_FRAGMENT_HEADER + len(piece)).to_bytes(2, "big")
        head[6] = ipv6.FRAGMENT
        more = at + len(piece) < len(data)
        place = (at | more).to_bytes(2, "big")  # an offset is a multiple of 8: the flag has a bit of its own
        fragment = packet[6:7] + b"\0" + place + (identification & 0xFFFFFFFF).to_bytes(4, "big")
        yield NO_OFFLOAD + bytes(head) + fragment + piece


def _pieces(data: bytes, room: int) -> Iterator[tuple[int, bytes]]:
    """Pieces of at most `room` octets with their offsets; all but the last are multiples of 8."""
    step = room // _BLOCK * _BLOCK
    for at in range(0, len(data), step):
        yield at, data[at : at + step]
