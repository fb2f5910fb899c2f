"""Addresses that decide something by themselves: where nothing is sent to. No I/O."""

import ipaddress
from collections.abc import Iterable

from netstack.packet.reason import Reason
from netstack.packet.scope import MAPPED, is_multicast


class Destinations:
    """Which destinations are refused whatever the whitelist says."""

    def __init__(self, tun_addresses: Iterable[str]) -> None:
        """tun_addresses as in the configuration; the last address of an IPv4 prefix is its broadcast address."""
        interfaces = [ipaddress.ip_interface(text) for text in tun_addresses]
        self.broadcast = frozenset(
            each.network.broadcast_address.packed
            for each in interfaces
            if each.version == 4 and each.network.prefixlen < 31
        )

    def refusal(self, address: bytes) -> Reason | None:
        """Multicast and broadcast do not leave (mDNS, SSDP, NetBIOS).

        The unspecified address and its network are malformed, since Linux takes 0.0.0.0 and :: for this very host; and
        so are IPv4-mapped addresses, by which an IPv6 packet could pass a rule written for IPv4.
        """
        first = address[0]
        if len(address) == 4:
            if first == 0:
                return Reason.MALFORMED_IP
            return Reason.MULTICAST if is_multicast(address) or address in self.broadcast else None
        if is_multicast(address):
            return Reason.MULTICAST
        if first == 0 and (address[:12] == MAPPED or not any(address)):
            return Reason.MALFORMED_IP
        return None
