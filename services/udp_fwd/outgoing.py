"""What the client sends, on its way out. No I/O."""

from typing import NamedTuple


class Header(NamedTuple):
    """What of the client's IP header is carried over to the host's."""

    tos: int
    ttl: int
    """As it is to leave: one hop less than it came with."""
    dont_fragment: bool
    flow_label: int = 0
    """Of IPv6; 0 where the client gave none."""


class Outgoing(NamedTuple):
    """One packet of the client on its way out."""

    payloads: list[bytes]
    header: Header
    packet: bytes
    """As much of the client's IP packet as an ICMP error quotes."""
    number: int
    """By which an error finds this packet again: the sequence number of an echo request, 0 for UDP."""
    trace_id: int
