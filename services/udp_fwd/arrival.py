"""What the control messages of a receive say about the IP header of what came in (ip(7), ipv6(7)). No I/O."""

from typing import Final

from services.udp_fwd.reply import UNKNOWN, Arrived

SOL_IP: Final = 0
SOL_UDP: Final = 17
SOL_IPV6: Final = 41

# linux/in.h: what a control message is, and the option that asks for it.
IP_TOS: Final = 1
IP_TTL: Final = 2
IP_RECVTTL: Final = 12
IP_RECVTOS: Final = 13
# linux/in6.h; IPV6_FLOWINFO is both.
IPV6_FLOWINFO: Final = 11
IPV6_FLOWINFO_SEND: Final = 33
IPV6_RECVHOPLIMIT: Final = 51
IPV6_HOPLIMIT: Final = 52
IPV6_RECVTCLASS: Final = 66
IPV6_TCLASS: Final = 67
UDP_GRO: Final = 104  # linux/udp.h

_FLOW_LABEL: Final = 0xFFFFF


def parse(ancillary: list[tuple[int, int, bytes]]) -> tuple[int, Arrived]:
    """The size of the datagrams that GRO put together, 0 for one alone; and what is carried over to the client.

    The TTL is one less than it was, as behind any router: 0 where it ended with this hop.
    """
    segment = 0
    tos, ttl, flow_label = UNKNOWN
    for level, kind, data in ancillary:
        if level == SOL_UDP and kind == UDP_GRO:
            segment = int.from_bytes(data[:4], "little")
        elif level == SOL_IP and kind == IP_TOS:
            tos = data[0] if data else 0
        elif level == SOL_IPV6 and kind == IPV6_TCLASS:
            tos = int.from_bytes(data[:4], "little") & 0xFF
        elif (level == SOL_IP and kind == IP_TTL) or (level == SOL_IPV6 and kind == IPV6_HOPLIMIT):
            ttl = max(0, int.from_bytes(data[:4], "little") - 1) & 0xFF
        elif level == SOL_IPV6 and kind == IPV6_FLOWINFO:
            flow_label = int.from_bytes(data[:4], "big") & _FLOW_LABEL
    return segment, Arrived(tos, ttl, flow_label)
