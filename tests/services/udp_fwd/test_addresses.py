"""Destinations refused at sight, and as whom the gateway speaks."""

import ipaddress

import pytest

from netstack.packet.reason import Reason
from services.udp_fwd.addresses import Destinations, Gateway, own

TUN = ["10.0.0.2/24", "fd00:6e73::2/64"]


def packed(text: str) -> bytes:
    return ipaddress.ip_address(text).packed


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("224.0.0.251", Reason.MULTICAST),
        ("239.255.255.250", Reason.MULTICAST),
        ("ff02::fb", Reason.MULTICAST),
        ("255.255.255.255", Reason.MULTICAST),
        ("10.0.0.255", Reason.MULTICAST),
        ("0.0.0.0", Reason.MALFORMED_IP),
        ("0.1.2.3", Reason.MALFORMED_IP),
        ("::", Reason.MALFORMED_IP),
        ("::ffff:198.18.0.1", Reason.MALFORMED_IP),
        ("10.0.1.255", None),
        ("198.18.0.1", None),
        ("240.0.0.1", None),
        ("fe80::1", None),
        ("64:ff9b::c612:1", None),
        ("2001:db8::1", None),
    ],
)
def test_refused_at_sight(address, reason):
    assert Destinations(TUN).refusal(packed(address)) is reason


def test_a_point_to_point_prefix_has_no_broadcast_address():
    assert Destinations(["10.0.0.2/31", "10.0.0.9/32"]).broadcast == frozenset()


@pytest.mark.parametrize(
    ("dns", "addresses", "client", "gateway"),
    [
        ("10.0.0.1", TUN, "10.0.0.2", "10.0.0.1"),
        ("10.0.0.53", TUN, "10.0.0.2", "10.0.0.53"),
        ("10.0.0.1", TUN, "fd00:6e73::2", "fd00:6e73::1"),
        ("10.0.0.1", ["10.0.0.2/24", "fd00:6e73::1/64"], "fd00:6e73::1", "fd00:6e73::2"),
        ("fd00:6e73::53", TUN, "fd00:6e73::2", "fd00:6e73::53"),
        ("fd00:6e73::53", TUN, "10.0.0.2", "10.0.0.1"),
        ("10.0.0.1", ["10.0.0.2/24"], "fd00:6e73::2", None),
    ],
    ids=[
        "tun.dns is the gateway",
        "wherever it is",
        "the other family's is the first of its prefix",
        "unless that is the client",
        "tun.dns may be IPv6",
        "and then IPv4's is the first of its prefix",
        "a family without addresses has none",
    ],
)
def test_the_gateway_of_a_family(dns, addresses, client, gateway):
    expected = None if gateway is None else packed(gateway)
    assert Gateway(dns, addresses).towards(packed(client)) == expected


def test_the_addresses_of_the_tun_itself():
    assert own(["10.0.0.2/24", "fd00:6e73::2/64"]) == {bytes([10, 0, 0, 2]), bytes.fromhex("fd006e73" + "0" * 23 + "2")}
