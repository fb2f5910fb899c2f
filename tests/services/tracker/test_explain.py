"""Why something is open or closed, and what to type."""

import math
from collections.abc import Callable
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netstack.wire.reports import WhyReport
from services.tracker.endpoints import Endpoint, parse_rule
from services.tracker.explain import Explainer, Facts, Quic, Target, lease_report, parse_target
from services.tracker.leases import Lease, Origin
from services.tracker.policy import Policy
from services.tracker.refused import Refused
from services.tracker.rules import Rules

NOW, WALL = 1000.0, 1.7e9
CLIENT = bytes([10, 0, 0, 2])
TCP, UDP = 6, 17


def lease(name: str = "www.example", left: float = 250.0, clients: dict[bytes, float] | None = None) -> Lease:
    one = Lease(NOW + left)
    one.names = (name,)
    one.origin = Origin("answer", CLIENT, ("cdn.example",), WALL - 5)
    one.clients = clients
    return one


def why(
    text: str,
    *,
    mode: str = "enforce",
    command: Callable[[Rules], None] = lambda rules: None,
    leased: Lease | None = None,
    refused: Refused | None = None,
    withheld: bool = False,
    store_down: bool = False,
) -> WhyReport:
    """What is said with allow.networks = ["192.0.2.0/24:22/tcp"], allow.names = ["good.ads.test"], deny ads.test."""
    rules = Rules()
    command(rules)
    policy = Policy(mode, [parse_rule("192.0.2.0/24:22/tcp")], ["good.ads.test"], [], commanded=rules)
    target = parse_target(text)
    address = target.endpoint.address if target.endpoint else ip_address("198.18.0.1").packed
    facts = Facts([(address, leased)] if leased else [], refused, withheld, store_down, NOW)
    return Explainer(policy, ["ads.test"], Quic(block=True, ports=[443])).explain(target, facts)


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("WWW.Example.", Target(name="www.example")),
        ("192.0.2.1", Target(endpoint=Endpoint(bytes([192, 0, 2, 1]), 0, 0))),
        ("192.0.2.1:443", Target(endpoint=Endpoint(bytes([192, 0, 2, 1]), 443, 0))),
        ("192.0.2.1:443/udp", Target(endpoint=Endpoint(bytes([192, 0, 2, 1]), 443, UDP))),
        ("192.0.2.1/icmp", Target(endpoint=Endpoint(bytes([192, 0, 2, 1]), 0, 1))),
        ("2001:db8::1", Target(endpoint=Endpoint(ip_address("2001:db8::1").packed, 0, 0))),
        ("[2001:db8::1]:443/tcp", Target(endpoint=Endpoint(ip_address("2001:db8::1").packed, 443, TCP))),
        ("2001:db8::1/icmp", Target(endpoint=Endpoint(ip_address("2001:db8::1").packed, 0, 58))),
    ],
)
def test_what_commands_take(text: str, target: Target) -> None:
    assert parse_target(text) == target


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "must be a domain name"),
        ("a b", "must be a domain name"),
        ("www.example:443", "a name stands without a port"),
        ("192.0.2.1:0", "is no port"),
        ("192.0.2.1:443/sctp", "is no protocol"),
        ("192.0.2.1/tcp", "a protocol goes with a port"),
        ("[2001:db8::1]x", "behind the bracket"),
    ],
)
def test_what_they_do_not_take(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_target(text)


def permit(text: str, until: float = NOW + 60) -> Callable[[Rules], None]:
    return lambda rules: rules.permit_endpoint(parse_rule(text), until)


def rule(name: str, *, allowed: bool, until: float = math.inf) -> Callable[[Rules], None]:
    return lambda rules: rules.rule_name(name, allowed=allowed, until=until)


def pause(rules: Rules) -> None:
    rules.paused_until = NOW + 60


@pytest.mark.parametrize(
    ("report", "open_", "reason", "because", "remedy"),
    [
        (why("198.18.0.1:80"), False, "not-whitelisted", "no name was answered", "netstack allow 198.18.0.1:80 --for"),
        (why("198.18.0.1:80", leased=lease()), True, "", "answer to www.example", "netstack revoke 198.18.0.1"),
        (why("192.0.2.5:22/tcp"), True, "", 'allow.networks "192.0.2.0/24:22/tcp"', ""),
        (why("192.0.2.5:23/tcp"), False, "not-whitelisted", "no name", "netstack allow 192.0.2.5:23/tcp"),
        (why("198.18.0.1:80/tcp", command=permit("198.18.0.1")), True, "", "netstack allow 198.18.0.1", "revoke"),
        (why("198.18.0.1", mode="off"), True, "", "whitelist.mode is off", ""),
        (why("198.18.0.1", command=pause), True, "", "netstack pause", "netstack pause --end"),
        (why("198.18.0.1:443/udp", leased=lease()), False, "quic-blocked", "QUIC", "-s quic.block=false"),
        (why("198.18.0.1:853/tcp", leased=lease()), False, "encrypted-dns", "port 853", "netstack allow"),
        (why("8.8.8.8:443/tcp", leased=lease()), False, "encrypted-dns", "public resolver", "netstack allow"),
        (why("198.18.0.1", withheld=True), False, "encrypted-dns", "name of a resolver", "netstack allow"),
        (why("10.0.0.1:80"), False, "not-whitelisted", "a private address", "netstack allow 10.0.0.1:80"),
        (why("224.0.0.251:5353/udp"), False, "multicast", "multicast", ""),
        (why("www.test"), False, "not-whitelisted", "no program has asked", ""),
        (why("www.test", leased=lease()), True, "", "answered with 1 address", "netstack revoke www.test"),
        (why("x.ads.test"), False, "name-denied", 'deny.names "ads.test"', "netstack allow x.ads.test --for"),
        (why("good.ads.test"), False, "not-whitelisted", "no program has asked", ""),
        (why("x.ads.test", command=rule("ads.test", allowed=True)), False, "not-whitelisted", "no program", ""),
        (why("www.test", command=rule("test", allowed=False)), False, "name-denied", "netstack deny test", "revoke"),
        (why("dns.google"), False, "encrypted-dns", "its addresses stay closed", "netstack allow dns.google"),
        (why("r.test", refused=Refused("rebind", "removed 10.1.1.1", CLIENT, WALL)), False, "rebind", "removed", ""),
    ],
    ids=[
        "an address that was no answer", "a leased one", "a static network", "not on its other ports",
        "an endpoint that a command allowed", "off", "a pause", "QUIC goes before a lease", "so does port 853",
        "and a resolver's address", "an answer for a resolver's name", "a private address", "multicast",
        "a name that nobody asked for", "a leased name", "a denied name", "an allowed one below it",
        "allowed by a command", "denied by a command", "a resolver's name", "what dns_filter refused lately",
    ],
)  # fmt: skip
def test_open_or_closed(report: WhyReport, open_: bool, reason: str, because: str, remedy: str) -> None:
    assert (report.open, report.reason) == (open_, reason)
    assert because in report.because
    assert any(remedy in typed for typed in report.remedies) or not remedy


def test_a_lease_is_shown_with_its_query() -> None:
    (shown,) = why("198.18.0.1:80", leased=lease(clients={CLIENT: NOW + 5, b"\x0a\0\0\3": NOW - 5})).leases
    assert (shown.names, shown.chain, shown.client) == (["www.example"], ["cdn.example"], "10.0.0.2")
    assert (shown.learned_at, shown.rule, shown.expires_in) == (WALL - 5, "answer", 250.0)
    assert shown.clients == ["10.0.0.2"]


def test_what_else_is_to_be_known_is_said() -> None:
    assert "let through all the same" in why("198.18.0.1:80", mode="audit").notes[-1]
    assert "the store does not answer" in why("198.18.0.1:80", store_down=True).notes[-1]
    assert "open on some ports: allow.networks" in why("192.0.2.5").notes[-1]
    assert "QUIC" in why("198.18.0.1", leased=lease()).notes[-1]
    scoped = why("198.18.0.1:80", leased=lease(clients={CLIENT: NOW + 5}))
    assert "for those who asked" in scoped.notes[0]


def test_how_long_is_said_where_it_has_an_end() -> None:
    assert why("198.18.0.1:80", leased=lease()).expires_in == 250.0
    assert why("198.18.0.1:80", command=permit("198.18.0.1")).expires_in == 60.0
    assert why("198.18.0.1:80", command=permit("198.18.0.1", math.inf)).expires_in is None
    assert why("192.0.2.5:22/tcp").expires_in is None


def test_a_lease_of_which_nothing_is_known_is_shown_all_the_same() -> None:
    shown = lease_report(CLIENT, Lease(NOW + 1), NOW)
    assert (shown.address, shown.names, shown.client, shown.expires_in) == ("10.0.0.2", [], "", 1.0)


@given(st.text() | st.from_regex(r"\[?[0-9a-f:.*]*\]?(:[0-9]*)?(/[a-z0-9]*)?", fullmatch=True))
def test_whatever_is_typed_is_a_name_or_an_endpoint_or_refused(text: str) -> None:
    try:
        target = parse_target(text)
    except ValueError:
        return
    assert bool(target.name) is (target.endpoint is None)


@pytest.mark.parametrize(
    ("report", "closed"),
    [
        (why("198.18.0.1", leased=lease()), "but for QUIC (UDP 443: quic.block) and encrypted DNS (port 853)"),
        (why("198.18.0.1", command=pause), "but for QUIC (UDP 443: quic.block)"),
        (why("198.18.0.1", command=permit("198.18.0.1")), "but for QUIC (UDP 443: quic.block)"),
    ],
    ids=["a lease does not open encrypted DNS", "a pause does", "a command does"],
)
def test_which_ports_of_an_open_address_are_closed(report: WhyReport, closed: str) -> None:
    assert closed in report.notes
