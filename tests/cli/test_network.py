"""Which addresses can work together."""

from ipaddress import IPv4Interface, IPv6Interface

import pytest

from netstack.cli.network import Addresses, parse_addresses
from netstack.cli.sandbox_messages import SandboxError
from netstack.runtime.config import Tun


def test_the_default_has_both_families() -> None:
    assert parse_addresses(Tun()) == Addresses((IPv4Interface("10.0.0.2/24"),), (IPv6Interface("fd00:6e73::2/64"),))


@pytest.mark.parametrize(
    ("tun", "said"),
    [
        (Tun(addresses=["fd00::2/64"], dns="10.0.0.1"), "tun.addresses has no IPv4 address"),
        (Tun(addresses=["10.0.0.2/24"], dns="fd00::1"), "tun.addresses has no IPv6 address"),
        (Tun(addresses=["10.0.0.2/24"], dns="10.0.0.2"), "is one of tun.addresses"),
        (Tun(addresses=["10.0.0.256/24"]), "10.0.0.256/24"),
    ],
    ids=[
        "an IPv4 resolver needs an IPv4 address",
        "an IPv6 resolver needs an IPv6 address",
        "a resolver that is the namespace itself is never asked through the TUN",
        "no address at all",
    ],
)
def test_what_cannot_work_is_refused(tun: Tun, said: str) -> None:
    with pytest.raises(SandboxError, match=said):
        parse_addresses(tun)
