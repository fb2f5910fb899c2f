"""What may be reached: the verdict on an endpoint, and which addresses of an answer may be leased. No I/O, no clock.

The order of the rules, first match wins: static networks; multicast; names that are allowed in spite of a list; the
ports and the addresses of encrypted DNS; leases; everything else is not whitelisted.
"""

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Network, IPv6Network
from typing import Final, NamedTuple

from netstack.packet.reason import Reason
from netstack.packet.scope import is_multicast, is_public
from services.tracker.names import NameSet
from services.tracker.resolvers import RESOLVER_NAMES, is_resolver

STATIC_FOR: Final = 300.0
"""Seconds for which a forwarder may remember what the configuration allows."""

UNGATED_FOR: Final = 60.0
"""Seconds for which a forwarder may remember a yes that no rule stands behind (whitelist.mode `off` and `audit`)."""

_TCP: Final = 6
_UDP: Final = 17
_ENCRYPTED_DNS_PORT: Final = 853  # TLS (RFC 7858 section 3.1), DTLS (RFC 8094), QUIC (RFC 9250 section 4.1.1)
_HTTPS_PORT: Final = 443


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


class Known(NamedTuple):
    """What is known of an address: the names of its live lease and how many seconds that has left."""

    names: tuple[str, ...] = ()
    expires_in: float = 0.0
    answers_dns: bool = False
    """Whether it was the answer for the name of a resolver that speaks encrypted DNS."""


class Ruling(NamedTuple):
    """The verdict, and for how many seconds a yes may be remembered."""

    allowed: bool
    reason: str
    names: tuple[str, ...]
    expires_in: float


class Grant(NamedTuple):
    """What becomes of the addresses of an answer."""

    leased: list[bytes]
    rule: str
    """Why they are leased, for people."""
    withheld: list[bytes]
    """Addresses of a resolver that speaks encrypted DNS: the name resolves, but leads nowhere."""
    refused: int
    """How many are not public and were refused."""


class Policy:
    """The configured rules."""

    def __init__(
        self, mode: str, rules: Iterable[Rule], allowed_names: Iterable[str], private_names: Iterable[str],
        resolver_names: Iterable[str] = (),
    ) -> None:  # fmt: skip
        """resolver_names are those of resolvers that speak encrypted DNS, beside RESOLVER_NAMES."""
        self._mode = mode
        self._rules = tuple(map(_compile, rules))
        self._allowed_names = NameSet(allowed_names)
        self._private_names = NameSet(private_names)
        self._resolver_names = NameSet(resolver_names)

    @property
    def audits(self) -> bool:
        """Whether a refusal is only counted."""
        return self._mode == "audit"

    def without_lease(self, endpoint: Endpoint) -> Ruling | None:
        """The verdict, where it does not depend on any lease."""
        if self._mode == "off":
            return _yes((), UNGATED_FOR)
        if any(rule.covers(endpoint) for rule in self._rules):
            return _yes((), STATIC_FOR)
        if is_multicast(endpoint.address):
            return _no(Reason.MULTICAST)
        return None

    def with_lease(self, endpoint: Endpoint, known: Known) -> Ruling:
        """The verdict, where `without_lease` had none."""
        address, port, protocol = endpoint
        leased = known.expires_in > 0 and self._may_have(address, known.names)
        if leased and self._is_allowed_name(known.names):
            return _yes(known.names, known.expires_in)
        has_ports = protocol in (_TCP, _UDP)
        if has_ports and port == _ENCRYPTED_DNS_PORT:
            return _no(Reason.ENCRYPTED_DNS)
        if has_ports and port == _HTTPS_PORT and is_resolver(address):
            return _no(Reason.ENCRYPTED_DNS)
        if leased:
            return _yes(known.names, known.expires_in)
        return _no(Reason.ENCRYPTED_DNS if known.answers_dns else Reason.NOT_WHITELISTED)

    def grant(self, name: str, addresses: Sequence[bytes]) -> Grant:
        """Which addresses of an answer for this (normalized) name may be leased."""
        unique = list(dict.fromkeys(addresses))
        allowed = [address for address in unique if self._may_have(address, (name,))]
        refused = len(unique) - len(allowed)
        if self._allowed_names.covers(name):
            return Grant(allowed, "allow.names", [], refused)
        if RESOLVER_NAMES.covers(name) or self._resolver_names.covers(name):
            return Grant([], "", allowed, refused)
        rule = "dns.private_names" if self._private_names.covers(name) else "answer"
        return Grant(allowed, rule, [], refused)

    def lease_suffices(self, address: bytes, names: Sequence[str]) -> bool:
        """Whether a forwarder that knows of the lease may let through any port but those of encrypted DNS.

        It may not where the address is a resolver's, whatever other name was made to point at it: it has to ask.
        """
        return not is_resolver(address) or self._is_allowed_name(names)

    def _may_have(self, address: bytes, names: Sequence[str]) -> bool:
        if is_public(address):
            return True
        # A rule for some ports only is no reason for a lease, which would open all of them.
        if any(rule.covers_all_of(address) for rule in self._rules):
            return True
        return bool(self._private_names) and any(map(self._private_names.covers, names))

    def _is_allowed_name(self, names: Sequence[str]) -> bool:
        return bool(self._allowed_names) and any(map(self._allowed_names.covers, names))


def audited(ruling: Ruling) -> Ruling:
    """What a refusal becomes where refusals are only counted."""
    return _yes(ruling.names, UNGATED_FOR)


def refusal(reason: Reason) -> Ruling:
    """No, for a reason that lies outside the rules."""
    return _no(reason)


def _yes(names: tuple[str, ...], expires_in: float) -> Ruling:
    return Ruling(allowed=True, reason="", names=names, expires_in=expires_in)


def _no(reason: Reason) -> Ruling:
    return Ruling(allowed=False, reason=reason.value, names=(), expires_in=0.0)


class _Compiled(NamedTuple):
    """A rule with its prefix as an integer, and by how much an address is shifted right before they are compared."""

    octets: int
    prefix: int
    shift: int
    port: int | None
    protocol: int | None

    def covers(self, endpoint: Endpoint) -> bool:
        return (
            self.port in (None, endpoint.port)
            and self.protocol in (None, endpoint.protocol)
            and (self.port is None or endpoint.protocol in (_TCP, _UDP))
            and self._contains(endpoint.address)
        )

    def covers_all_of(self, address: bytes) -> bool:
        return self.port is None and self.protocol is None and self._contains(address)

    def _contains(self, address: bytes) -> bool:
        return len(address) == self.octets and int.from_bytes(address, "big") >> self.shift == self.prefix


def _compile(rule: Rule) -> _Compiled:
    network = rule.network
    shift = network.max_prefixlen - network.prefixlen
    return _Compiled(network.max_prefixlen // 8, int(network.network_address) >> shift, shift, rule.port, rule.protocol)
