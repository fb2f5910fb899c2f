"""The lists of resolvers that speak encrypted DNS."""

from ipaddress import ip_address

import pytest

from services.tracker.resolvers import RESOLVER_NAMES, is_resolver


@pytest.mark.parametrize(
    "text",
    [
        "8.8.8.8",
        "8.8.4.4",
        "1.1.1.1",
        "1.0.0.1",
        "9.9.9.9",
        "149.112.112.112",
        "208.67.222.222",
        "94.140.14.14",
        "76.76.2.0",
        "76.76.2.255",
        "76.76.10.11",
        "45.90.28.1",
        "45.90.30.255",
        "2001:4860:4860::8888",
        "2606:4700:4700::1111",
        "2620:fe::fe",
        "2a10:50c0::ad1:ff",
        "2606:1a40::22",
        "2606:1a40:1::1",
        "2a07:a8c0::12:3456",
    ],
)
def test_resolvers(text: str) -> None:
    assert is_resolver(ip_address(text).packed)


@pytest.mark.parametrize(
    "text",
    ["8.8.8.9", "1.1.1.4", "45.90.29.1", "76.76.3.0", "198.18.0.1", "2606:1a40:2::1", "2a07:a8c2::1", "::808:808"],
)
def test_neighbours_are_no_resolvers(text: str) -> None:
    assert not is_resolver(ip_address(text).packed)


@pytest.mark.parametrize(
    "name",
    [
        "dns.google",
        "cloudflare-dns.com",
        "mozilla.cloudflare-dns.com",
        "one.one.one.one",
        "dns.quad9.net",
        "dns.adguard-dns.com",
        "dns.nextdns.io",
        "abc123.dns.nextdns.io",
        "doh.opendns.com",
        "freedns.controld.com",
        "p1.freedns.controld.com",
        "dns.controld.com",
        "uid.dns.controld.com",
    ],
)
def test_names(name: str) -> None:
    assert RESOLVER_NAMES.covers(name)


@pytest.mark.parametrize("name", ["google", "www.google.com", "controld.com", "opendns.com", "example.com", "one.one"])
def test_other_names_of_the_same_operators_are_ordinary(name: str) -> None:
    assert not RESOLVER_NAMES.covers(name)
