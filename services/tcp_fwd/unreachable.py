"""The ICMP error that answers a SYN whose host socket could not connect. No I/O, no clock.

What the network said of the host socket's SYN is told on as it was said: type, code and source, about the client's own
SYN. What this host found out by itself, before anything was sent, the gateway says.
"""

from typing import Final

from netstack.packet import errqueue, icmp
from netstack.packet.errqueue import SocketError
from netstack.packet.reason import Reason

# Type and code by IP version.
_OWN: Final = {
    Reason.HOST_UNREACHABLE: {
        4: (icmp.UNREACHABLE, icmp.HOST_UNREACHABLE), 6: (icmp.V6_UNREACHABLE, icmp.V6_ADDRESS_UNREACHABLE),
    },
    Reason.NET_UNREACHABLE: {
        4: (icmp.UNREACHABLE, icmp.NET_UNREACHABLE), 6: (icmp.V6_UNREACHABLE, icmp.V6_NO_ROUTE),
    },
    Reason.ADMIN_PROHIBITED: {
        4: (icmp.UNREACHABLE, icmp.ADMIN_PROHIBITED), 6: (icmp.V6_UNREACHABLE, icmp.V6_ADMIN_PROHIBITED),
    },
}  # fmt: skip


def packet(syn: bytes, reason: Reason, error: SocketError | None, gateway: bytes | None) -> bytes | None:
    """The IP packet for the client, about its packet syn; None where neither the network nor this host said anything.

    error is what the network said, if it did; reason is one of those of which this host speaks (TELLS).
    """
    if error is not None:
        told = errqueue.packet(error, syn, gateway)
        if told is not None:
            return told
    own = _OWN.get(reason)
    if own is None:
        return None
    kind, code = own[syn[0] >> 4]
    return icmp.error(syn, kind, code, source=gateway)


def reason_of(error: SocketError, reason: Reason) -> Reason:
    """The slug under which it is counted: reason, that of the errno, but for a time to live that ended."""
    ended = (errqueue.ORIGIN_ICMP, icmp.TIME_EXCEEDED), (errqueue.ORIGIN_ICMP6, icmp.V6_TIME_EXCEEDED)
    return Reason.TTL_EXCEEDED if (error.origin, error.kind) in ended else reason


TELLS: Final = frozenset(_OWN)
"""Reasons for which a SYN is answered with an ICMP error though the network said nothing."""
