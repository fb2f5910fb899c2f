"""The commonest frames, known by a few octets at fixed places, in IPv4 without options or IPv6 without extensions.

What is not plain may be right all the same; netstack.packet.frame says so, and why not.
"""

from typing import Final

from netstack.packet import icmp, tcp, udp
from netstack.packet.vnet import VNET_LEN

_V4_LEAST: Final = VNET_LEN + 20 + tcp.HEADER_LEN
_V6_LEAST: Final = VNET_LEN + 40 + tcp.HEADER_LEN
_V4_UPPER: Final = VNET_LEN + 20
_V6_UPPER: Final = VNET_LEN + 40
_EIGHT: Final = 8  # octets of a header of UDP, and of an echo request


def is_tcp(frame: bytes | memoryview) -> bool:
    """Whether it is plain TCP, no fragment, with a hop left to live. The TCP header is there, and is not looked at."""
    length = len(frame)
    if length < _V4_LEAST:
        return False
    if frame[10] == 0x45:
        return frame[19] == tcp.PROTOCOL and frame[18] > 1 and not (frame[16] & 0x3F or frame[17])
    return frame[10] >> 4 == 6 and length >= _V6_LEAST and frame[16] == tcp.PROTOCOL and frame[17] > 1


def udp_endpoint(frame: bytes | memoryview) -> bytes:
    """The client's endpoint (netstack.packet.flow.endpoint_key) of plain UDP; empty for what is not.

    Plain is what is no fragment, has a hop left to live, and goes to an address of one host (see may_open).
    """
    if len(frame) >= _V4_UPPER + _EIGHT and may_open(frame):
        if frame[10] == 0x45:
            if frame[19] == udp.PROTOCOL and frame[18] > 1 and not (frame[16] & 0x3F or frame[17]):
                return bytes(frame[22:26]) + frame[30:32]
        elif frame[10] >> 4 == 6 and frame[16] == udp.PROTOCOL and frame[17] > 1 and len(frame) >= _V6_UPPER + _EIGHT:
            return bytes(frame[18:34]) + frame[50:52]
    return b""


def udp_port(frame: bytes | memoryview) -> int:
    """The port to which plain UDP goes."""
    return frame[32] << 8 | frame[33] if frame[10] == 0x45 else frame[52] << 8 | frame[53]


def is_icmp(frame: bytes | memoryview) -> bool:
    """Whether it looks like ICMP: nothing but the protocol is looked at."""
    if len(frame) < _V4_UPPER + _EIGHT:
        return False
    return frame[19] == icmp.PROTOCOL if frame[10] == 0x45 else frame[16] == icmp.PROTOCOL_V6


def echo_endpoint(frame: bytes | memoryview) -> bytes:
    """The same of a plain echo request: the client's address and the identifier."""
    if len(frame) >= _V4_UPPER + _EIGHT and may_open(frame):
        if frame[10] == 0x45:
            if (
                frame[19] == icmp.PROTOCOL and frame[_V4_UPPER] == icmp.ECHO_REQUEST
                and frame[18] > 1 and not (frame[16] & 0x3F or frame[17])
            ):  # fmt: skip
                return bytes(frame[22:26]) + frame[34:36]
        elif (
            frame[10] >> 4 == 6 and frame[16] == icmp.PROTOCOL_V6 and frame[17] > 1
            and len(frame) >= _V6_UPPER + _EIGHT and frame[_V6_UPPER] == icmp.V6_ECHO_REQUEST
        ):  # fmt: skip
            return bytes(frame[18:34]) + frame[54:56]
    return b""


def may_open(frame: bytes | memoryview) -> bool:
    """Whether a plain frame goes to an address to which a flow may be opened.

    Not so: multicast, broadcast, the unspecified address, and IPv6 addresses that stand for an IPv4 one.
    """
    if frame[10] == 0x45:
        return 0 < frame[26] < 224
    # Of ::/8, where the v4-mapped and v4-compatible ones and the unspecified address are, no address is global unicast
    # but 64:ff9b::/96 (RFC 6052), which a slower look lets through.
    return 0 < frame[34] < 0xFF
