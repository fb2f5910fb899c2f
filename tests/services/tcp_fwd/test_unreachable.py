"""The ICMP error that a SYN gets whose host socket could not connect."""

import errno

import pytest
from scapy.layers.inet import ICMP, IP, IPerror, TCPerror
from scapy.layers.inet6 import ICMPv6DestUnreach, ICMPv6TimeExceeded, IPerror6, IPv6

from netstack.packet import ipv4, ipv6
from netstack.packet.errqueue import SocketError
from netstack.packet.reason import Reason
from services.tcp_fwd import unreachable

CLIENT, SERVER, GATEWAY, ROUTER = (bytes([10, 0, 0, last]) for last in (2, 9, 1, 77))
CLIENT6, SERVER6, GATEWAY6, ROUTER6 = (bytes.fromhex("fd00 6e73") + bytes(11) + bytes([last]) for last in (2, 9, 1, 77))
TCP = bytes.fromhex("c000 0050 00000001 00000000 5002 0000 0000 0000")  # 49152 > 80, SYN
SYN = ipv4.emit(CLIENT, SERVER, 6, len(TCP)) + TCP
SYN6 = ipv6.emit(CLIENT6, SERVER6, 6, len(TCP)) + TCP


@pytest.mark.parametrize(
    ("error", "reason", "source", "kind"),
    [
        (SocketError(errno.EHOSTUNREACH, 2, 11, 0, 0, ROUTER), Reason.TTL_EXCEEDED, "10.0.0.77", (11, 0)),
        (SocketError(errno.EHOSTUNREACH, 2, 3, 10, 0, ROUTER), Reason.HOST_UNREACHABLE, "10.0.0.77", (3, 10)),
        (SocketError(errno.ECONNREFUSED, 2, 3, 3, 0, SERVER), Reason.CONNECTION_REFUSED, "10.0.0.9", (3, 3)),
        (SocketError(errno.EHOSTUNREACH, 2, 3, 1, 0, b""), Reason.HOST_UNREACHABLE, "10.0.0.1", (3, 1)),
        (None, Reason.NET_UNREACHABLE, "10.0.0.1", (3, 0)),
        (None, Reason.HOST_UNREACHABLE, "10.0.0.1", (3, 1)),
        (None, Reason.ADMIN_PROHIBITED, "10.0.0.1", (3, 13)),
        (SocketError(errno.EPROTO, 2, 5, 0, 0, ROUTER), Reason.HOST_UNREACHABLE, "10.0.0.1", (3, 1)),
    ],
    ids=[
        "time exceeded, from the router that says so",
        "a code that no errno tells apart",
        "a port unreachable of the server",
        "what this host itself found out by ICMP is the gateway's",
        "no route here",
        "no neighbour here",
        "a route of this host forbids it",
        "what is no router's error leaves the errno",
    ],
)
def test_over_ipv4(error, reason, source, kind):
    answer = IP(unreachable.packet(SYN, reason, error, GATEWAY))
    assert (answer.src, answer.dst) == (source, "10.0.0.2")
    assert (answer[ICMP].type, answer[ICMP].code) == kind
    assert (answer[IPerror].dst, answer[TCPerror].sport, answer[TCPerror].dport) == ("10.0.0.9", 49152, 80)


@pytest.mark.parametrize(
    ("error", "reason", "source", "layer", "code"),
    [
        (SocketError(113, 3, 3, 0, 0, ROUTER6), Reason.TTL_EXCEEDED, "fd00:6e73::4d", ICMPv6TimeExceeded, 0),
        (SocketError(113, 3, 1, 5, 0, ROUTER6), Reason.ADMIN_PROHIBITED, "fd00:6e73::4d", ICMPv6DestUnreach, 5),
        (None, Reason.NET_UNREACHABLE, "fd00:6e73::1", ICMPv6DestUnreach, 0),
        (None, Reason.HOST_UNREACHABLE, "fd00:6e73::1", ICMPv6DestUnreach, 3),
        (None, Reason.ADMIN_PROHIBITED, "fd00:6e73::1", ICMPv6DestUnreach, 1),
    ],
    ids=["time exceeded", "source address failed its policy", "no route", "no neighbour", "forbidden here"],
)
def test_over_ipv6(error, reason, source, layer, code):
    answer = IPv6(unreachable.packet(SYN6, reason, error, GATEWAY6))
    assert (answer.src, answer.dst, answer[layer].code) == (source, "fd00:6e73::2", code)
    assert bytes(answer[IPerror6])[:40] == SYN6[:40]


def test_where_nobody_spoke_there_is_no_error():
    assert unreachable.packet(SYN, Reason.CONNECT_TIMEOUT, None, GATEWAY) is None


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (SocketError(errno.EHOSTUNREACH, 2, 11, 0, 0, ROUTER), Reason.TTL_EXCEEDED),
        (SocketError(errno.EHOSTUNREACH, 3, 3, 0, 0, ROUTER6), Reason.TTL_EXCEEDED),
        (SocketError(errno.EHOSTUNREACH, 2, 3, 1, 0, ROUTER), Reason.HOST_UNREACHABLE),
    ],
    ids=["no hop left", "no hop left over IPv6", "anything else is its errno's"],
)
def test_the_slug_under_which_it_is_counted(error, reason):
    assert unreachable.reason_of(error, Reason.HOST_UNREACHABLE) is reason
