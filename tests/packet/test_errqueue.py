"""Control messages of an error queue, and the ICMP packets made of them."""

import errno
import socket
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netstack.packet import errqueue, icmp
from netstack.packet.errqueue import IP_RECVERR, IPV6_RECVERR, SocketError

SOL_IP, SOL_IPV6 = socket.IPPROTO_IP, socket.IPPROTO_IPV6
ROUTER = bytes([198, 18, 1, 2])
ROUTER_V6 = socket.inet_pton(socket.AF_INET6, "2001:db8:1::2")
GATEWAY = bytes([10, 0, 0, 1])
QUOTE = bytes.fromhex(
    "4500 0020 0000 4000 4011 6ab8 0a00 0002 c612 0001"  # 10.0.0.2 > 198.18.0.1, length 32, DF, TTL 64, UDP
    "1388 0035 000c 3d33 70696e67"  # 5000 > 53, length 12, "ping"
)
QUOTE_V6 = bytes.fromhex(
    "6000 0000 000c 1140"  # payload length 12, UDP, hop limit 64
    "fd006e73000000000000000000000002 20010db8000000000000000000000001"
    "1388 0035 000c 0000 70696e67"
)


def native(value: int, octets: int) -> bytes:
    return value.to_bytes(octets, sys.byteorder)


def entry(number: int, origin: int, kind: int, code: int, info: int, offender: bytes) -> bytes:
    """struct sock_extended_err with the offender's struct sockaddr_in or sockaddr_in6 behind it."""
    head = native(number, 4) + bytes([origin, kind, code, 0]) + native(info, 4) + bytes(4)
    if len(offender) == 4:
        return head + native(socket.AF_INET, 2) + bytes(2) + offender + bytes(8)
    if len(offender) == 16:
        return head + native(socket.AF_INET6, 2) + bytes(6) + offender + bytes(4)
    return head + bytes(16)


@pytest.mark.parametrize(
    ("ancillary", "error"),
    [
        (
            (SOL_IP, IP_RECVERR, entry(errno.ECONNREFUSED, 2, 3, 3, 0, ROUTER)),
            SocketError(errno.ECONNREFUSED, errqueue.ORIGIN_ICMP, 3, 3, 0, ROUTER),
        ),
        (
            (SOL_IPV6, IPV6_RECVERR, entry(errno.EMSGSIZE, 3, 2, 0, 1400, ROUTER_V6)),
            SocketError(errno.EMSGSIZE, errqueue.ORIGIN_ICMP6, 2, 0, 1400, ROUTER_V6),
        ),
        (
            (SOL_IP, IP_RECVERR, entry(errno.EMSGSIZE, 1, 0, 0, 1400, b"")),
            SocketError(errno.EMSGSIZE, errqueue.ORIGIN_LOCAL, 0, 0, 1400, b""),
        ),
        ((SOL_IP, IP_RECVERR, bytes(15)), None),
        ((SOL_IP, 99, bytes(100)), None),
    ],
    ids=["port unreachable", "packet too big over IPv6", "a local error has no offender", "cut off", "something else"],
)
def test_the_error_is_read_from_the_control_message(ancillary, error):
    assert errqueue.parse([(SOL_IP, 1, b"other"), ancillary]) == error


@given(st.lists(st.tuples(st.sampled_from([0, 41]), st.sampled_from([11, 25]), st.binary(max_size=64)), max_size=3))
def test_any_control_message_is_an_error_or_none(ancillary):
    error = errqueue.parse(ancillary)
    if error is not None:
        for quote in (QUOTE, QUOTE_V6):
            packet = errqueue.packet(error, quote, None)
            assert packet is None or len(packet) >= 28


def told(packet: bytes) -> tuple[bytes, bytes, int, int, int, bytes]:
    """Source, destination, type, code, second word and quote."""
    if packet[0] >> 4 == 4:
        source, destination, message = packet[12:16], packet[16:20], packet[20:]
    else:
        source, destination, message = packet[8:24], packet[24:40], packet[40:]
    return source, destination, message[0], message[1], int.from_bytes(message[4:8], "big"), message[8:]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (SocketError(errno.ECONNREFUSED, 2, 3, 3, 0, ROUTER), (ROUTER, 3, icmp.PORT_UNREACHABLE, 0)),
        (SocketError(errno.EHOSTUNREACH, 2, 11, 0, 0, ROUTER), (ROUTER, icmp.TIME_EXCEEDED, 0, 0)),
        (SocketError(errno.EMSGSIZE, 2, 3, 4, 1400, ROUTER), (ROUTER, 3, icmp.FRAGMENTATION_NEEDED, 1400)),
        (SocketError(errno.EPROTO, 2, 12, 0, 9, ROUTER), (ROUTER, 12, 0, 9 << 24)),
        (SocketError(errno.EMSGSIZE, 1, 0, 0, 1400, b""), (GATEWAY, 3, icmp.FRAGMENTATION_NEEDED, 1400)),
        (SocketError(errno.EHOSTUNREACH, 1, 0, 0, 0, b""), (GATEWAY, 3, icmp.HOST_UNREACHABLE, 0)),
        (SocketError(errno.EHOSTUNREACH, 2, 3, 1, 0, b""), (GATEWAY, 3, icmp.HOST_UNREACHABLE, 0)),
        (SocketError(errno.EACCES, 1, 0, 0, 0, b""), None),
        (SocketError(0, 2, 5, 1, 0, ROUTER), None),
        (SocketError(errno.ECONNREFUSED, 3, 1, 4, 0, ROUTER_V6), None),
        (SocketError(0, 4, 0, 0, 0, b""), None),
    ],
    ids=[
        "port unreachable from whom it came",
        "time exceeded",
        "fragmentation needed carries the MTU",
        "parameter problem carries the pointer",
        "too big for this host's route: the gateway says so",
        "this host finds no neighbour: the gateway says so",
        "this host finds none and says so in ICMP: the gateway too",
        "a local ban is not told",
        "a redirect is not passed on",
        "ICMPv6 about an IPv4 packet is nothing",
        "a time stamp is no error",
    ],
)
def test_what_the_client_is_told_over_ipv4(error, expected):
    packet = errqueue.packet(error, QUOTE, GATEWAY)
    if expected is None:
        assert packet is None
    else:
        source, kind, code, rest = expected
        assert told(packet) == (source, bytes([10, 0, 0, 2]), kind, code, rest, QUOTE)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (SocketError(errno.ECONNREFUSED, 3, 1, 4, 0, ROUTER_V6), (ROUTER_V6, 1, icmp.V6_PORT_UNREACHABLE, 0)),
        (SocketError(errno.EMSGSIZE, 3, 2, 0, 1400, ROUTER_V6), (ROUTER_V6, icmp.V6_PACKET_TOO_BIG, 0, 1400)),
        (SocketError(errno.EHOSTUNREACH, 3, 3, 0, 77, ROUTER_V6), (ROUTER_V6, icmp.V6_TIME_EXCEEDED, 0, 0)),
        (SocketError(errno.EMSGSIZE, 1, 0, 0, 1300, b""), (ROUTER_V6, icmp.V6_PACKET_TOO_BIG, 0, 1300)),
        (SocketError(errno.ENETUNREACH, 1, 0, 0, 0, b""), (ROUTER_V6, 1, icmp.V6_NO_ROUTE, 0)),
    ],
    ids=["port unreachable", "packet too big", "time exceeded", "too big for this host's route", "no route here"],
)
def test_what_the_client_is_told_over_ipv6(error, expected):
    source, kind, code, rest = expected
    packet = errqueue.packet(error, QUOTE_V6, ROUTER_V6)
    assert told(packet) == (source, QUOTE_V6[8:24], kind, code, rest, QUOTE_V6)


@pytest.mark.parametrize(
    ("ancillary", "quote", "at"),
    [
        ([(SOL_IP, 2, native(60, 4)), (SOL_IP, IP_RECVERR, entry(0, 2, 11, 0, 0, ROUTER))], QUOTE, 8),
        ([(SOL_IPV6, 52, native(60, 4)), (SOL_IPV6, IPV6_RECVERR, entry(0, 3, 3, 0, 0, ROUTER_V6))], QUOTE_V6, 7),
    ],
    ids=["IPv4", "IPv6"],
)
def test_an_error_has_come_as_far_as_it_came(ancillary, quote, at):
    assert errqueue.packet(errqueue.parse(ancillary), quote, None)[at] == 59


def test_time_exceeded_comes_from_the_gateway():
    assert told(errqueue.time_exceeded(QUOTE, GATEWAY))[:4] == (GATEWAY, bytes([10, 0, 0, 2]), icmp.TIME_EXCEEDED, 0)
    assert told(errqueue.time_exceeded(QUOTE_V6, ROUTER_V6))[2:4] == (icmp.V6_TIME_EXCEEDED, 0)


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (errno.EHOSTUNREACH, icmp.HOST_UNREACHABLE),
        (errno.ENETUNREACH, icmp.NET_UNREACHABLE),
        (errno.EADDRNOTAVAIL, icmp.NET_UNREACHABLE),
        (errno.EPERM, None),
        (errno.EAGAIN, None),
        (errno.EINVAL, None),
    ],
    ids=["no neighbour", "no route", "no source address", "our own firewall", "full", "not sendable"],
)
def test_what_this_hosts_own_refusal_means_to_the_client(number, code):
    packet = errqueue.unreachable(QUOTE, number, GATEWAY)
    assert (None if packet is None else told(packet)[3]) == code
