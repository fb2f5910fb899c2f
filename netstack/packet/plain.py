"""The commonest frames, known by a few octets at fixed places: TCP in IPv4 without options or IPv6 without extensions.

What is not plain may be right all the same; netstack.packet.frame says so, and why not.
"""

from netstack.packet import tcp
from netstack.packet.vnet import VNET_LEN

_V4_LEAST = VNET_LEN + 20 + tcp.HEADER_LEN
_V6_LEAST = VNET_LEN + 40 + tcp.HEADER_LEN


def is_tcp(frame: bytes) -> bool:
    """Whether it is plain TCP, no fragment, with a hop left to live. The TCP header is there, and is not looked at."""
    length = len(frame)
    if length < _V4_LEAST:
        return False
    if frame[10] == 0x45:
        return frame[19] == tcp.PROTOCOL and frame[18] > 1 and not (frame[16] & 0x3F or frame[17])
    return frame[10] >> 4 == 6 and length >= _V6_LEAST and frame[16] == tcp.PROTOCOL and frame[17] > 1


def may_open(frame: bytes) -> bool:
    """Whether a plain TCP frame goes to an address to which a connection may be opened.

    Not so: multicast, broadcast, the unspecified address, and IPv6 addresses that stand for an IPv4 one.
    """
    if frame[10] == 0x45:
        return 0 < frame[26] < 224
    # Of ::/8, where the v4-mapped and v4-compatible ones and the unspecified address are, no address is global unicast
    # but 64:ff9b::/96 (RFC 6052), which a slower look lets through.
    return 0 < frame[34] < 0xFF
