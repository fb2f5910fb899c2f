"""Why a name or an endpoint is open or closed, in words, and what to type to change it. No I/O, no clock."""

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final, NamedTuple

from netstack.packet.reason import Reason
from netstack.packet.scope import is_public
from netstack.runtime.values import parse_address, parse_name, parse_port
from netstack.wire.reports import LeaseReport, RefusalReport, WhyReport
from services.tracker.endpoints import TCP, UDP, Endpoint, endpoint_text
from services.tracker.leases import Lease
from services.tracker.names import NameSet, normalize
from services.tracker.policy import Known, Policy
from services.tracker.refused import Refused

_FOR: Final = "--for 1h"
_PROTOCOLS: Final = {"tcp": TCP, "udp": UDP, "icmp": 1}


class Target(NamedTuple):
    """What a command is about: a name, or an endpoint whose port is 0 where none was written."""

    name: str = ""
    endpoint: Endpoint | None = None


class Quic(NamedTuple):
    """What tun_io refuses by itself."""

    block: bool
    ports: Sequence[int]


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known when the question is asked."""

    leases: list[tuple[bytes, Lease]]
    """Live ones, of the address or of the name."""
    refused: Refused | None
    withheld: bool
    """Whether the address was the answer for a resolver's name."""
    store_down: bool
    now: float


def parse_target(text: str) -> Target:
    """NAME or ADDRESS[:PORT[/PROTOCOL]], an IPv6 address with a port in brackets; ValueError says what is wrong."""
    rest, slash, protocol = text.strip().rpartition("/")
    if not slash:
        rest, protocol = text.strip(), ""
    elif protocol not in _PROTOCOLS:
        raise ValueError(f"{protocol!r} is no protocol: ADDRESS[:PORT[/PROTOCOL]] with PROTOCOL tcp or udp")
    host, port = _split_port(rest)
    try:
        address = parse_address(host).packed
    except ValueError:
        if port or slash:
            raise ValueError("a name stands without a port: its addresses are open on every port") from None
        return Target(name=normalize(parse_name(host)))
    number = parse_port(port) if port else 0
    if protocol == "icmp":
        return Target(endpoint=Endpoint(address, 0, 1 if len(address) == 4 else 58))
    if protocol and not number:
        raise ValueError("a protocol goes with a port: ADDRESS:PORT/PROTOCOL")
    return Target(endpoint=Endpoint(address, number, _PROTOCOLS.get(protocol, 0)))


def lease_report(address: bytes, lease: Lease, now: float) -> LeaseReport:
    """A lease as commands show it."""
    origin = lease.origin
    return LeaseReport(
        address=_text(address),
        names=list(lease.names),
        chain=list(origin.chain),
        client=_text(origin.client),
        learned_at=origin.when,
        rule=origin.rule,
        expires_in=round(max(0.0, lease.until - now), 3),
        clients=[_text(client) for client, until in (lease.clients or {}).items() if until > now],
    )


class Explainer:
    """Answers for one configuration."""

    def __init__(self, policy: Policy, denied_names: Sequence[str], quic: Quic) -> None:
        self._policy = policy
        self._denied = [(pattern, NameSet([pattern])) for pattern in denied_names]
        self._quic = quic

    def explain(self, target: Target, facts: Facts) -> WhyReport:
        """Whether it is open, and why."""
        report = self._name(target.name, facts) if target.endpoint is None else self._endpoint(target.endpoint, facts)
        report.leases = [lease_report(address, lease, facts.now) for address, lease in facts.leases]
        refused = facts.refused
        if refused is not None:
            report.refused = RefusalReport(
                reason=refused.reason, detail=refused.detail, client=_text(refused.client), at=refused.at,
                count=refused.count,
            )  # fmt: skip
        if self._policy.audits and not report.open:
            report.notes.append("whitelist.mode is audit: this is counted and logged, and let through all the same")
        if facts.store_down:
            report.notes.append("the store does not answer: nothing new is allowed until it does (`netstack status`)")
        return report

    def _endpoint(self, endpoint: Endpoint, facts: Facts) -> WhyReport:
        policy, text, leased = self._policy, endpoint_text(endpoint), False
        report = WhyReport(target=text, open=False, because="")
        commanded = policy.commanded
        if self._quic_answers(endpoint):
            report.reason = Reason.QUIC_BLOCKED.value
            report.because = "QUIC is refused so that programs use TCP (quic.block, quic.ports)"
            report.remedies.append("in the configuration: -s quic.block=false")
        elif policy.mode == "off":
            report.open, report.because = True, "whitelist.mode is off: every address is open"
        elif commanded.paused_until > facts.now:
            report.open, report.because = True, "`netstack pause`: nothing is refused"
            report.expires_in = commanded.paused_until - facts.now
            report.remedies.append("netstack pause --end")
        elif (rule := policy.rule_for(endpoint)) is not None:
            report.open, report.because = True, f'allow.networks "{rule}"'
        elif (permitted := commanded.endpoint(endpoint)) is not None:
            report.open, report.because = True, f"`netstack allow {permitted[0]}`"
            report.expires_in = _finite(permitted[1] - facts.now)
            report.remedies.append(f"netstack revoke {permitted[0]}")
        else:
            self._by_lease(endpoint, facts, report)
            leased = True
        self._note_other_ports(endpoint, report, leased=leased)
        return report

    def _by_lease(self, endpoint: Endpoint, facts: Facts, report: WhyReport) -> None:
        lease = facts.leases[0][1] if facts.leases else None
        known = Known(answers_dns=facts.withheld)
        if lease is not None:
            known = Known(lease.names, lease.until - facts.now, facts.withheld)
        ruling = self._policy.without_lease(endpoint, facts.now) or self._policy.with_lease(_guess(endpoint), known)
        address = _text(endpoint.address)
        if ruling.allowed and lease is not None:
            report.open, report.expires_in = True, lease.until - facts.now
            report.because = f"leased as an answer to {lease.names[-1] if lease.names else 'a name'}"
            report.remedies.append(f"netstack revoke {address}")
            if lease.clients is not None:
                report.notes.append('whitelist.scope is "client": it is open for those who asked, and for nobody else')
            return
        report.reason = ruling.reason
        report.remedies.append(f"netstack allow {report.target} {_FOR}")
        report.remedies.append(f"or for good, in the configuration: -s 'allow.networks=[\"{report.target}\"]'")
        if ruling.reason == Reason.MULTICAST:
            report.because = "many would get what is sent there: multicast and broadcast are never forwarded"
            report.remedies.clear()
        elif ruling.reason == Reason.ENCRYPTED_DNS:
            report.because = self._encrypted(endpoint, facts)
        elif not is_public(endpoint.address):
            report.because = "it is a private address: no answer opens those (DNS rebinding)"
            report.notes.append("dns.private_names lets the answers for names of yours hold private addresses")
        else:
            report.because = "no name was answered with it, or its lease has ended"
            report.notes.append("it opens by itself when a program asks for a name of it through the captured network")

    def _encrypted(self, endpoint: Endpoint, facts: Facts) -> str:
        if endpoint.port == 853:
            return "port 853 is DNS over TLS or QUIC: names are resolved through dns.upstreams only"
        if facts.withheld:
            return "it was the answer for the name of a resolver that speaks encrypted DNS"
        return "it is a public resolver that speaks DNS over HTTPS: names are resolved through dns.upstreams only"

    def _note_other_ports(self, endpoint: Endpoint, report: WhyReport, *, leased: bool) -> None:
        if endpoint.port:
            return
        open_anyway = [f'allow.networks "{text}"' for text in self._policy.rules_about(endpoint.address)]
        open_anyway += [f"`netstack allow {text}`" for text in self._policy.commanded.about(endpoint.address)]
        if not report.open and open_anyway:
            report.notes.append(f"open on some ports: {', '.join(open_anyway)}")
        if report.open and self._quic.block:
            ports = ", ".join(map(str, self._quic.ports))
            closed = f"but for QUIC (UDP {ports}: quic.block)"
            report.notes.append(closed if not leased else f"{closed} and encrypted DNS (port 853)")

    def _name(self, name: str, facts: Facts) -> WhyReport:
        report = WhyReport(target=name, open=bool(facts.leases), because="")
        ruling = self._policy.commanded.names.ruling(name)
        denied = next((pattern for pattern, names in self._denied if names.covers(name)), None)
        allowed = self._policy.allows_name(name)
        if ruling is not None and not ruling.allowed:
            report.open, report.reason = False, Reason.NAME_DENIED.value
            report.because = f"`netstack deny {ruling.pattern}`"
            report.expires_in = _finite(self._policy.commanded.name_until(ruling.pattern) - facts.now)
            report.remedies.append(f"netstack revoke {ruling.pattern}")
            report.remedies.append(f"netstack allow {name} {_FOR}")
        elif ruling is None and denied is not None and not allowed and not facts.leases:
            report.open, report.reason = False, Reason.NAME_DENIED.value
            report.because = f'deny.names "{denied}"'
            report.remedies.append(f"netstack allow {name} {_FOR}")
            report.remedies.append(f"or for good, in the configuration: -s 'allow.names=[\"{name}\"]'")
        elif facts.leases:
            report.because = f"it was asked for, and answered with {len(facts.leases)} address"
            report.because += "es" if len(facts.leases) > 1 else ""
            report.expires_in = max(lease.until for _, lease in facts.leases) - facts.now
            report.remedies.append(f"netstack revoke {name}")
            report.remedies.append(f"netstack deny {name}")
        elif facts.refused is not None:
            report.reason, report.because = facts.refused.reason, facts.refused.detail
            report.remedies.append(f"netstack allow {name} {_FOR}")
        elif self._policy.is_resolver_name(name) and not allowed:
            report.reason = Reason.ENCRYPTED_DNS.value
            report.because = "it is a resolver that speaks encrypted DNS: it resolves, and its addresses stay closed"
            report.remedies.append(f"netstack allow {name} {_FOR}")
        else:
            report.reason = Reason.NOT_WHITELISTED.value
            report.because = "no program has asked for it, or its leases have ended"
            report.notes.append("it opens by itself when a program asks for it through the captured network")
        if ruling is not None and ruling.allowed:
            report.notes.append(f"`netstack allow {ruling.pattern}`: no list denies it")
        return report

    def _quic_answers(self, endpoint: Endpoint) -> bool:
        return self._quic.block and endpoint.protocol == UDP and endpoint.port in self._quic.ports


def _split_port(text: str) -> tuple[str, str]:
    if text.startswith("["):
        host, _, port = text[1:].partition("]")
        if port and not port.startswith(":"):
            raise ValueError(f"{text!r}: behind the bracket stands :PORT, such as [2001:db8::1]:443")
        return host, port[1:]
    if text.count(":") == 1:
        host, _, port = text.partition(":")
        return host, port
    return text, ""


def _guess(endpoint: Endpoint) -> Endpoint:
    """Where no port was written, any that is not special; where no protocol was, TCP."""
    if endpoint.port == 0 and endpoint.protocol == 0:
        return endpoint
    return endpoint._replace(protocol=endpoint.protocol or TCP)


def _text(address: bytes) -> str:
    return str(ip_address(address)) if address else ""


def _finite(seconds: float) -> float | None:
    return None if seconds == float("inf") else seconds
