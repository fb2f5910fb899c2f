"""Endpoints, and rules about networks that are reachable without a lease. No I/O, no clock."""

from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Final, NamedTuple

from netstack.runtime.values import parse_allowed_network, parse_prefix

TCP: Final = 6  # IANA protocol numbers
UDP: Final = 17
_PROTOCOL_NAMES: Final = {TCP: "tcp", UDP: "udp"}
_PROTOCOLS: Final = {"tcp": TCP, "udp": UDP}


class Rule(NamedTuple):
    """Addresses that may be reached without a lease; None stands for every port, or every protocol."""

    network: IPv4Network | IPv6Network
    port: int | None = None
    protocol: int | None = None


class Endpoint(NamedTuple):
    """Where a client wants to go; the protocol is IANA's number, the port 0 where the protocol has none."""

    address: bytes
    port: int
    protocol: int


class CompiledRule(NamedTuple):
    """A rule with its prefix as an integer, and by how much an address is shifted right before they are compared."""

    octets: int
    prefix: int
    shift: int
    port: int | None
    protocol: int | None

    def covers(self, endpoint: Endpoint) -> bool:
        """Whether it is about this endpoint."""
        return (
            self.port in (None, endpoint.port)
            and self.protocol in (None, endpoint.protocol)
            and (self.port is None or endpoint.protocol in (TCP, UDP))
            and self.contains(endpoint.address)
        )

    def covers_all_of(self, address: bytes) -> bool:
        """Whether it is about every port and protocol of this address."""
        return self.port is None and self.protocol is None and self.contains(address)

    def contains(self, address: bytes) -> bool:
        """Whether the address lies in its network."""
        return len(address) == self.octets and int.from_bytes(address, "big") >> self.shift == self.prefix


def compile_rule(rule: Rule) -> CompiledRule:
    """The rule as it is looked at."""
    network = rule.network
    shift = network.max_prefixlen - network.prefixlen
    return CompiledRule(
        network.max_prefixlen // 8, int(network.network_address) >> shift, shift, rule.port, rule.protocol
    )


def parse_rule(text: str) -> Rule:
    """PREFIX[:PORT][/PROTOCOL], an IPv6 prefix with a port in brackets; ValueError says what is wrong."""
    prefix, slash, name = text.rpartition("/")
    if slash and name in _PROTOCOLS:
        try:
            return Rule(parse_prefix(prefix.removeprefix("[").removesuffix("]")), None, _PROTOCOLS[name])
        except ValueError:
            pass  # it has a port
    allowed = parse_allowed_network(text)
    return Rule(allowed.network, allowed.port, allowed.protocol)


def rule_text(rule: Rule) -> str:
    """The rule as commands write it: PREFIX[:PORT][/PROTOCOL]; one address without its length."""
    network = rule.network
    whole = str(network.network_address) if network.prefixlen == network.max_prefixlen else str(network)
    protocol = "" if rule.protocol is None else f"/{_PROTOCOL_NAMES[rule.protocol]}"
    if rule.port is None:
        return f"{whole}{protocol}"
    return f"[{whole}]:{rule.port}{protocol}" if network.version == 6 else f"{whole}:{rule.port}{protocol}"


def endpoint_text(endpoint: Endpoint) -> str:
    """An endpoint as `netstack why` and `allow` take it."""
    address = ip_address(endpoint.address)
    if not endpoint.port:
        return str(address)
    host = f"[{address}]" if address.version == 6 else str(address)
    protocol = f"/{_PROTOCOL_NAMES[endpoint.protocol]}" if endpoint.protocol in _PROTOCOL_NAMES else ""
    return f"{host}:{endpoint.port}{protocol}"
