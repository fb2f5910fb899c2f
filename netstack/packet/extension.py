"""What an IPv6 extension header may say (RFC 8200 sections 4.2 to 4.6); whoever refuses one says where.

Nothing of an extension header can be carried on by a host socket. So what may be ignored is, and what the sender wants
refused by whoever does not know it is refused: options by the two highest bits of their type, and routing headers that
would take the packet elsewhere, since a filter has judged the address in front of them.
"""

from typing import Final

from netstack.packet.reason import MalformedPacketError, Problem, Reason

ERRONEOUS_FIELD: Final = 0  # codes of ICMPv6 parameter problem: RFC 4443 section 3.4
UNRECOGNIZED_NEXT_HEADER: Final = 1
UNRECOGNIZED_OPTION: Final = 2

_PAD1: Final = 0
_PAD_N: Final = 1
_ROUTER_ALERT: Final = 5  # RFC 2711; of no concern to us, but of every MLD report
_KNOWN: Final = frozenset({_PAD_N, _ROUTER_ALERT})
MAX_OPTIONS: Final = 64  # in one header; RFC 8504 section 5.3 allows a limit, and Linux has 8 beside padding

_ROUTING_0: Final = 0  # the source route of RFC 2460, of use to attackers alone (RFC 5095)


def check_options(octets: bytes, at: int, length: int, start: int = 0) -> None:
    """Look at the options of a hop-by-hop or destination options header.

    The packet begins at `start`, the header `at` octets into it; `length` octets of header are there.
    Raises MalformedPacketError: malformed-extension, or unknown-option where its type says that a node which does not
    know it must discard the packet.
    """
    end = at + length
    at += 2
    for _ in range(MAX_OPTIONS):
        if at >= end:
            return
        kind = octets[start + at]
        if kind == _PAD1:
            at += 1
            continue
        if at + 2 > end or at + 2 + octets[start + at + 1] > end:
            raise MalformedPacketError(Reason.MALFORMED_EXTENSION, "an option leaves its header")
        if kind not in _KNOWN and kind >> 6:
            # 01 silently, 10 and 11 with an ICMP error (11 not where many would send one): RFC 8200 section 4.2
            problem = Problem(UNRECOGNIZED_OPTION, at) if kind >> 7 else None
            raise MalformedPacketError(Reason.UNKNOWN_OPTION, f"option {kind}", problem)
        at += 2 + octets[start + at + 1]
    if at < end:
        raise MalformedPacketError(Reason.MALFORMED_EXTENSION, f"more than {MAX_OPTIONS} options")


def check_routing(octets: bytes, at: int, start: int = 0) -> None:
    """Look at a routing header, of which 8 octets are there.

    Raises MalformedPacketError (routing-header) where it still has somewhere to go, and for type 0.
    """
    kind, segments_left = octets[start + at + 2], octets[start + at + 3]
    if segments_left or kind == _ROUTING_0:
        detail = f"routing header of type {kind}, {segments_left} segments left"
        raise MalformedPacketError(Reason.ROUTING_HEADER, detail, Problem(ERRONEOUS_FIELD, at + 2))
