"""The two ends of the TUN: whose address is this side's, and whose is no host beyond the other."""

import ipaddress
from collections.abc import Iterable


class Gateway:
    """The address of this end, as which it speaks to a client where no host outside has spoken."""

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


def own(tun_addresses: Iterable[str]) -> frozenset[bytes]:
    """The addresses of the TUN itself: a client with one of them is the kernel behind it, not a host beyond."""
    return frozenset(ipaddress.ip_interface(text).ip.packed for text in tun_addresses)
