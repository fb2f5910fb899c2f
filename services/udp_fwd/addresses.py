"""Addresses that decide something by themselves: where nothing is sent to, and as whom the gateway speaks. No I/O."""

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


def own(tun_addresses: Iterable[str]) -> frozenset[bytes]:
    """The addresses of the TUN itself: a client with one of them is the kernel behind it, not a host beyond."""
    return frozenset(ipaddress.ip_interface(text).ip.packed for text in tun_addresses)


class Gateway:
    """The address of the far end of the TUN, as which this side speaks where no host outside has spoken."""

    def __init__(self, tun_dns: str, tun_addresses: Iterable[str]) -> None:
        """tun.dns is the gateway of its family; the other family's is the first address of the prefix that is not
        the client's own. A family without either has none.
        """
        self._by_length: dict[int, bytes] = {}
        for text in tun_addresses:
            interface = ipaddress.ip_interface(text)
            own = int(interface.ip)
            first = int(interface.network.network_address) + 1
            gateway = type(interface.ip)(first + 1 if first == own else first)
            self._by_length.setdefault(len(gateway.packed), gateway.packed)
        dns = ipaddress.ip_address(tun_dns).packed
        self._by_length[len(dns)] = dns

    def towards(self, client: bytes) -> bytes | None:
        """The gateway's address in the client's family."""
        return self._by_length.get(len(client))
