"""As whom this side speaks, and whose addresses are the other end's."""

import ipaddress

import pytest

from netstack.packet.gateway import Gateway, own

TUN = ["10.0.0.2/24", "fd00:6e73::2/64"]


def packed(text):
    return ipaddress.ip_address(text).packed


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
