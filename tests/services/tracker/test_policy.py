"""The verdict on an endpoint, and what of an answer may be leased."""

from ipaddress import ip_address, ip_network

import pytest

from netstack.packet.reason import Reason
from services.tracker.endpoints import Endpoint, Rule
from services.tracker.policy import STATIC_FOR, UNGATED_FOR, Known, Policy, audited, refusal

TCP, UDP, ICMP, ICMPV6 = 6, 17, 1, 58
NOWHERE = "198.18.0.9"
LEASED = Known(("www.example",), 250.0)
NOTHING = Known()


def policy(*rules: Rule, mode: str = "enforce", allowed: tuple[str, ...] = (), private: tuple[str, ...] = ()) -> Policy:
    return Policy(mode, rules, allowed, private)


def at(text: str, port: int = 443, protocol: int = TCP) -> Endpoint:
    return Endpoint(ip_address(text).packed, port, protocol)


def allow(prefix: str, port: int | None = None, protocol: int | None = None) -> Rule:
    return Rule(ip_network(prefix), port, protocol)


@pytest.mark.parametrize(
    ("rule", "endpoint", "allowed"),
    [
        (allow("10.1.0.0/16"), at("10.1.2.3", 22), True),
        (allow("10.1.0.0/16"), at("10.2.0.1", 22), False),
        (allow("10.1.0.0/16"), at("10.1.2.3", 0, ICMP), True),
        (allow("10.1.0.0/16", 443), at("10.1.2.3", 443, UDP), True),
        (allow("10.1.0.0/16", 443), at("10.1.2.3", 80), False),
        (allow("10.1.0.0/16", 443, TCP), at("10.1.2.3"), True),
        (allow("10.1.0.0/16", 443, TCP), at("10.1.2.3", 443, UDP), False),
        (allow("10.1.0.0/16", 443), at("10.1.2.3", 0, ICMP), False),
        (allow("0.0.0.0/0"), at("203.0.113.1", 1), True),
        (allow("0.0.0.0/0"), at("2001:db8::1", 1), False),
        (allow("2001:db8::/32"), at("2001:db8:1::1", 1), True),
        (allow("2001:db8::/32", 53, UDP), at("2001:db8:1::1", 53, UDP), True),
        (allow("192.0.2.1/32"), at("192.0.2.1", 1), True),
        (allow("192.0.2.1/32"), at("192.0.2.2", 1), False),
        (allow("8.8.8.8/32"), at("8.8.8.8", 853), True),
        (allow("224.0.0.0/4"), at("224.0.0.251", 5353, UDP), True),
    ],
    ids=[
        "inside the prefix",
        "outside of it",
        "a whole prefix includes echo",
        "a port alone means TCP and UDP",
        "another port",
        "port and protocol",
        "another protocol",
        "a port does not include echo",
        "everything of IPv4",
        "is nothing of IPv6",
        "an IPv6 prefix",
        "an IPv6 prefix with port and protocol",
        "one address",
        "not its neighbour",
        "a network goes before encrypted DNS",
        "and before multicast",
    ],
)
def test_static_networks(rule: Rule, endpoint: Endpoint, allowed: bool) -> None:
    ruling = policy(rule).without_lease(endpoint)
    assert (ruling is not None and ruling.allowed) is allowed
    if allowed:
        assert ruling.expires_in == STATIC_FOR


@pytest.mark.parametrize("text", ["224.0.0.251", "255.255.255.255", "ff02::fb"])
def test_multicast_is_refused_as_such(text: str) -> None:
    ruling = policy().without_lease(at(text, 5353, UDP))
    assert ruling == refusal(Reason.MULTICAST)


def test_most_verdicts_depend_on_a_lease() -> None:
    assert policy().without_lease(at(NOWHERE)) is None
    assert policy(allow("10.0.0.0/8")).without_lease(at(NOWHERE)) is None


@pytest.mark.parametrize(
    ("endpoint", "known", "reason"),
    [
        (at(NOWHERE), LEASED, ""),
        (at(NOWHERE, 0, ICMP), LEASED, ""),
        (at(NOWHERE, 12345, UDP), LEASED, ""),
        (at("2001:db8::9"), LEASED, ""),
        (at(NOWHERE), NOTHING, "not-whitelisted"),
        (at(NOWHERE), Known(("www.example",), 0.0), "not-whitelisted"),
        (at(NOWHERE, 853), LEASED, "encrypted-dns"),
        (at(NOWHERE, 853, UDP), LEASED, "encrypted-dns"),
        (at(NOWHERE, 853), NOTHING, "encrypted-dns"),
        (at("8.8.8.8"), NOTHING, "encrypted-dns"),
        (at("8.8.8.8"), LEASED, "encrypted-dns"),
        (at("8.8.8.8", 443, UDP), LEASED, "encrypted-dns"),
        (at("8.8.8.8", 853), LEASED, "encrypted-dns"),
        (at("2606:4700:4700::1111"), LEASED, "encrypted-dns"),
        (at("45.90.28.77"), LEASED, "encrypted-dns"),
        (at("8.8.8.8", 80), LEASED, ""),
        (at("8.8.8.8", 80), NOTHING, "not-whitelisted"),
        (at("8.8.8.8", 0, ICMP), LEASED, ""),
        (at(NOWHERE), Known(answers_dns=True), "encrypted-dns"),
        (at(NOWHERE), Known(("www.example",), 250.0, answers_dns=True), ""),
        (at("10.0.0.1"), LEASED, "not-whitelisted"),
        (at("fd00::1"), LEASED, "not-whitelisted"),
        (at("127.0.0.1"), LEASED, "not-whitelisted"),
    ],
    ids=[
        "a lease allows",
        "also echo",
        "also any other port",
        "also IPv6",
        "no lease, no connection",
        "a lease that has ended is none",
        "DNS over TLS is refused, leased or not",
        "so is DNS over QUIC",
        "and called what it is also without a lease",
        "a known resolver's HTTPS is refused",
        "also when a name was answered with its address",
        "and its HTTP/3",
        "and its DNS over TLS",
        "a resolver's IPv6 address",
        "an address in a resolver's own network",
        "another port of a resolver is reached by a lease",
        "and only by one",
        "so is echo",
        "what a resolver's name was answered with is refused as such",
        "unless another name leased it",
        "a lease on a private address is not believed",
        "nor on a unique local one",
        "nor on loopback",
    ],
)
def test_verdicts(endpoint: Endpoint, known: Known, reason: str) -> None:
    ruling = policy().with_lease(endpoint, known)
    assert ruling.allowed is not bool(reason)
    assert ruling.reason == reason
    if ruling.allowed:
        assert (ruling.names, ruling.expires_in) == (known.names, known.expires_in)


@pytest.mark.parametrize(
    ("endpoint", "names", "reason"),
    [
        (at("8.8.8.8"), ("dns.google",), ""),
        (at("8.8.8.8", 853), ("dns.google",), ""),
        (at("8.8.8.8"), ("www.example", "dns.google"), ""),
        (at("8.8.8.8"), ("www.example",), "encrypted-dns"),
        (at("8.8.8.8"), (), "encrypted-dns"),
    ],
    ids=[
        "HTTPS",
        "DNS over TLS",
        "one of its names suffices",
        "another name does not",
        "nor the address without a lease",
    ],
)
def test_a_name_that_is_allowed_in_spite_of_the_list_opens_its_addresses(
    endpoint: Endpoint, names: tuple[str, ...], reason: str
) -> None:
    known = Known(names, 250.0 if names else 0.0)
    assert policy(allowed=("dns.google",)).with_lease(endpoint, known).reason == reason


def test_a_private_address_may_be_leased_for_a_private_name() -> None:
    known = Known(("nas.lan",), 250.0)
    assert policy(private=("lan",)).with_lease(at("192.168.1.5"), known).allowed
    assert not policy(private=("corp",)).with_lease(at("192.168.1.5"), known).allowed


def packed(*texts: str) -> list[bytes]:
    return [ip_address(text).packed for text in texts]


@pytest.mark.parametrize(
    ("rules", "private", "name", "addresses", "leased"),
    [
        ((), (), "www.example", [NOWHERE, "2001:db8::1"], [NOWHERE, "2001:db8::1"]),
        ((), (), "www.example", [NOWHERE, NOWHERE], [NOWHERE]),
        ((), (), "www.example", ["10.0.0.1", NOWHERE, "::ffff:10.0.0.1", "0.0.0.0"], [NOWHERE]),
        ((), ("lan",), "nas.lan", ["192.168.1.5"], ["192.168.1.5"]),
        ((), ("lan",), "www.example", ["192.168.1.5"], []),
        ((allow("192.168.1.0/24"),), (), "www.example", ["192.168.1.5"], ["192.168.1.5"]),
        ((allow("192.168.1.0/24", 443),), (), "www.example", ["192.168.1.5"], []),
    ],
    ids=[
        "public addresses are leased",
        "each once",
        "what is not public is refused, the rest leased",
        "a private name may have private addresses",
        "another name may not",
        "unless the network is allowed anyway",
        "for some of its ports is not enough: a lease opens all",
    ],
)
def test_what_is_leased(rules, private, name: str, addresses: list[str], leased: list[str]) -> None:
    grant = policy(*rules, private=private).grant(name, packed(*addresses))
    assert grant.leased == packed(*leased)
    assert grant.withheld == []
    assert grant.refused == len(set(addresses)) - len(leased)


def test_a_resolvers_name_resolves_but_leases_nothing() -> None:
    grant = policy().grant("mozilla.cloudflare-dns.com", packed(NOWHERE, "10.0.0.1"))
    assert (grant.leased, grant.withheld, grant.refused) == ([], packed(NOWHERE), 1)


def test_further_names_of_resolvers_are_like_the_known_ones() -> None:
    rules = Policy("enforce", (), ("open.doh.example",), (), ("doh.example",))
    assert rules.grant("a.doh.example", packed(NOWHERE)).withheld == packed(NOWHERE)
    assert rules.grant("dns.google", packed(NOWHERE)).withheld == packed(NOWHERE)
    assert rules.grant("open.doh.example", packed(NOWHERE)).leased == packed(NOWHERE)
    assert rules.grant("example", packed(NOWHERE)).leased == packed(NOWHERE)


def test_unless_that_name_is_allowed() -> None:
    grant = policy(allowed=("cloudflare-dns.com",)).grant("mozilla.cloudflare-dns.com", packed(NOWHERE))
    assert (grant.leased, grant.withheld, grant.rule) == (packed(NOWHERE), [], "allow.names")


@pytest.mark.parametrize(
    ("address", "names", "suffices"),
    [
        (NOWHERE, ("www.example",), True),
        ("8.8.8.8", ("www.example",), False),
        ("8.8.8.8", ("dns.google",), True),
    ],
    ids=["an ordinary address", "a resolver's has to be asked for", "unless its name is allowed"],
)
def test_whether_a_forwarder_may_decide_by_the_lease(address: str, names: tuple[str, ...], suffices: bool) -> None:
    assert policy(allowed=("dns.google",)).lease_suffices(ip_address(address).packed, names) is suffices


def test_off_allows_everything_for_a_while() -> None:
    for text in (NOWHERE, "8.8.8.8", "224.0.0.1", "10.0.0.1"):
        ruling = policy(mode="off").without_lease(at(text, 853))
        assert (ruling.allowed, ruling.expires_in) == (True, UNGATED_FOR)


def test_audit_allows_what_would_be_refused() -> None:
    assert policy(mode="audit").audits
    assert not policy().audits
    ruling = audited(policy(mode="audit").with_lease(at(NOWHERE), NOTHING))
    assert (ruling.allowed, ruling.reason, ruling.expires_in) == (True, "", UNGATED_FOR)
