"""What may be reached: the verdict on an endpoint, and which addresses of an answer may be leased. No I/O, no clock.

The order of the rules, first match wins: a pause; static networks; endpoints that a command allowed; multicast; names
that are allowed in spite of a list; the ports and the addresses of encrypted DNS; leases; everything else is not
whitelisted.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from netstack.packet.reason import Reason
from netstack.packet.scope import is_multicast, is_public
from services.tracker.endpoints import TCP, UDP, Endpoint, Rule, compile_rule, rule_text
from services.tracker.names import NameSet
from services.tracker.resolvers import RESOLVER_NAMES, is_resolver
from services.tracker.rules import Rules

STATIC_FOR: Final = 300.0
"""Seconds for which a forwarder may remember what the configuration allows."""

UNGATED_FOR: Final = 60.0
"""Seconds for which a forwarder may remember a yes that no rule stands behind (whitelist.mode `off` and `audit`)."""

COMMANDED_FOR: Final = 2.0
"""The same where a command stands behind it, which may be taken back."""

COMMANDED: Final = "netstack allow"
"""The rule of a lease that is there because of the command."""

_ENCRYPTED_DNS_PORT: Final = 853  # TLS (RFC 7858 section 3.1), DTLS (RFC 8094), QUIC (RFC 9250 section 4.1.1)
_HTTPS_PORT: Final = 443


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
    denied: str = ""
    """The pattern that a command denied, where it covers the name or one that it is an alias of."""
    at_most: float = math.inf
    """Seconds for which a lease may last: what a command allowed for an hour is not open for longer."""


class Policy:
    """The configured rules."""

    def __init__(
        self,
        mode: str,
        rules: Iterable[Rule],
        allowed_names: Iterable[str],
        private_names: Iterable[str],
        resolver_names: Iterable[str] = (),
        commanded: Rules | None = None,
    ) -> None:
        """resolver_names are those of resolvers that speak encrypted DNS, beside RESOLVER_NAMES."""
        self.mode = mode
        self.commanded = commanded if commanded is not None else Rules()
        """What commands allowed and denied."""
        self._rule_texts = tuple(map(rule_text, rules := tuple(rules)))
        self._rules = tuple(map(compile_rule, rules))
        self._allowed_names = NameSet(allowed_names)
        self._private_names = NameSet(private_names)
        self._resolver_names = NameSet(resolver_names)

    @property
    def audits(self) -> bool:
        """Whether a refusal is only counted."""
        return self.mode == "audit"

    def without_lease(self, endpoint: Endpoint, now: float = 0.0) -> Ruling | None:
        """The verdict, where it does not depend on any lease."""
        if self.mode == "off":
            return _yes((), UNGATED_FOR)
        if self.commanded.paused_until > now:
            return _yes((), min(COMMANDED_FOR, self.commanded.paused_until - now))
        if any(rule.covers(endpoint) for rule in self._rules):
            return _yes((), STATIC_FOR)
        permitted = self.commanded.endpoint(endpoint)
        if permitted is not None and permitted[1] > now:
            return _yes((), min(COMMANDED_FOR, permitted[1] - now))
        if is_multicast(endpoint.address):
            return _no(Reason.MULTICAST)
        return None

    def with_lease(self, endpoint: Endpoint, known: Known) -> Ruling:
        """The verdict, where `without_lease` had none."""
        address, port, protocol = endpoint
        leased = known.expires_in > 0 and self._may_have(address, known.names)
        if leased and self._is_allowed_name(known.names):
            return _yes(known.names, known.expires_in)
        has_ports = protocol in (TCP, UDP)
        if has_ports and port == _ENCRYPTED_DNS_PORT:
            return _no(Reason.ENCRYPTED_DNS)
        if has_ports and port == _HTTPS_PORT and is_resolver(address):
            return _no(Reason.ENCRYPTED_DNS)
        if leased:
            return _yes(known.names, known.expires_in)
        return _no(Reason.ENCRYPTED_DNS if known.answers_dns else Reason.NOT_WHITELISTED)

    def rules_about(self, address: bytes) -> list[str]:
        """The configured rules that allow something of an address, as `allow.networks` writes them."""
        return [text for text, rule in zip(self._rule_texts, self._rules, strict=True) if rule.contains(address)]

    def rule_for(self, endpoint: Endpoint) -> str | None:
        """The configured rule that allows an endpoint."""
        both = zip(self._rule_texts, self._rules, strict=True)
        return next((text for text, rule in both if rule.covers(endpoint)), None)

    def grant(self, name: str, addresses: Sequence[bytes], chain: Sequence[str] = (), now: float = 0.0) -> Grant:
        """Which addresses of an answer for this (normalized) name, an alias of those of the chain, may be leased."""
        unique = list(dict.fromkeys(addresses))
        ruling = self.commanded.names.decide((name, *chain)) if self.commanded.names else None
        if ruling is not None and not ruling.allowed:
            return Grant([], "", [], 0, denied=ruling.pattern)
        allowed = [address for address in unique if self._may_have(address, (name,))]
        refused = len(unique) - len(allowed)
        if self._allowed_names.covers(name):
            return Grant(allowed, "allow.names", [], refused)
        if ruling is not None:
            return Grant(allowed, COMMANDED, [], refused, at_most=self.commanded.name_until(ruling.pattern) - now)
        if self.is_resolver_name(name):
            return Grant([], "", allowed, refused)
        rule = "dns.private_names" if self._private_names.covers(name) else "answer"
        return Grant(allowed, rule, [], refused)

    def allows_name(self, name: str) -> bool:
        """Whether the configuration or a command allows a (normalized) name in spite of every list."""
        return self._is_allowed_name((name,))

    def is_resolver_name(self, name: str) -> bool:
        """Whether it is a (normalized) name of a resolver that speaks encrypted DNS."""
        return RESOLVER_NAMES.covers(name) or self._resolver_names.covers(name)

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
        if self.commanded.names:
            rulings = filter(None, map(self.commanded.names.ruling, names))
            if any(ruling.allowed for ruling in rulings):
                return True
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
