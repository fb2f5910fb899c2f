"""Destinations refused at sight."""

import ipaddress

import pytest

from netstack.packet.reason import Reason
from services.udp_fwd.addresses import Destinations

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
