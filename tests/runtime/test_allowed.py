"""What may stand at a key, in words for the person who wrote something else there."""

import pytest

from netstack.runtime.allowed import allowed


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("mode", 'one of "dns", "firewall"'),
        ("dns.cache", "true or false"),
        ("tun.mtu", "an integer from 1280 to 65535"),
        ("capture.fd", "an integer at least -1"),
        ("dns.timeout", "a number above 0 and at most 60"),
        ("tun.dns", "a string"),
        ("quic.ports", "an array, each element an integer from 1 to 65535"),
        ("quic.ports.0", "an integer from 1 to 65535"),
        ("dns.upstreams", "a non-empty array, each element a string"),
        ("dns.bootstrap", "a table, each value an array, each element a string"),
        ("deny", "a table with names, lists"),
    ],
)
def test_what_may_stand_at_a_key(key: str, words: str) -> None:
    assert allowed(key.split(".")) == words
