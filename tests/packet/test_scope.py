"""Which addresses a public name may honestly have."""

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netstack.packet.scope import is_multicast, is_public

PUBLIC = [
    ("8.8.8.8", "an address of the Internet"),
    ("172.15.255.255", "the last before RFC 1918's second block"),
    ("172.32.0.0", "the first after it"),
    ("100.63.255.255", "the last before the shared block"),
    ("100.128.0.0", "the first after it"),
    ("169.253.255.255", "the last before link-local"),
    ("192.0.0.170", "what ipv4only.arpa has (RFC 7050)"),
    ("192.0.2.1", "documentation is ordinary"),
    ("198.18.0.1", "benchmarking is ordinary"),
    ("223.255.255.255", "the last before multicast"),
    ("2606:4700::1111", "an IPv6 address of the Internet"),
    ("2001:db8::1", "IPv6 documentation is ordinary"),
    ("64:ff9b::808:808", "a public IPv4 address behind NAT64"),
    ("2002:808:808::1", "a public IPv4 address behind 6to4"),
    ("fe7f:ffff::1", "the last before IPv6 link-local"),
    ("fbff::1", "the last before unique local"),
]
NOT_PUBLIC = [
    ("0.0.0.0", "unspecified, which Linux takes for itself"),
    ("0.1.2.3", "this network"),
    ("10.0.0.1", "RFC 1918, first block"),
    ("172.16.0.0", "RFC 1918, second block, its first"),
    ("172.31.255.255", "RFC 1918, second block, its last"),
    ("192.168.1.1", "RFC 1918, third block"),
    ("100.64.0.0", "shared, its first"),
    ("100.127.255.255", "shared, its last"),
    ("127.0.0.1", "loopback"),
    ("127.255.255.254", "the other end of loopback"),
    ("169.254.169.254", "link-local: a cloud's metadata"),
    ("224.0.0.1", "multicast"),
    ("240.0.0.1", "reserved"),
    ("255.255.255.255", "limited broadcast"),
    ("::", "IPv6 unspecified"),
    ("::1", "IPv6 loopback"),
    ("::ffff:10.0.0.1", "v4-mapped private"),
    ("::ffff:8.8.8.8", "v4-mapped public: no host on the Internet has it"),
    ("::8.8.8.8", "v4-compatible"),
    ("::ffff:0:8.8.8.8", "v4-translated"),
    ("64:ff9b::a00:1", "a private IPv4 address behind NAT64"),
    ("64:ff9b::7f00:1", "loopback behind NAT64"),
    ("64:ff9b:1::808:808", "a NAT64 prefix of the local network"),
    ("2002:a00:1::1", "a private IPv4 address behind 6to4"),
    ("fe80::1", "IPv6 link-local, its first block"),
    ("febf::1", "IPv6 link-local, its last block"),
    ("fec0::1", "site-local"),
    ("fc00::1", "unique local"),
    ("fdff:ffff::1", "unique local, the other end"),
    ("ff02::1", "IPv6 multicast"),
]


@pytest.mark.parametrize("text", [text for text, _ in PUBLIC], ids=[why for _, why in PUBLIC])
def test_public(text: str) -> None:
    assert is_public(ip_address(text).packed)


@pytest.mark.parametrize("text", [text for text, _ in NOT_PUBLIC], ids=[why for _, why in NOT_PUBLIC])
def test_not_public(text: str) -> None:
    assert not is_public(ip_address(text).packed)


@given(st.binary(max_size=20).filter(lambda octets: len(octets) not in (4, 16)))
def test_octets_of_another_length_are_no_address(octets: bytes) -> None:
    assert not is_public(octets)
    assert not is_multicast(octets)


@given(st.binary(min_size=4, max_size=4) | st.binary(min_size=16, max_size=16))
def test_nothing_that_reaches_many_is_public(address: bytes) -> None:
    assert not (is_public(address) and is_multicast(address))


@given(st.binary(min_size=4, max_size=4))
def test_nothing_is_public_that_the_registry_calls_private_but_for_what_is_ordinary_here(address: bytes) -> None:
    ordinary = ip_address(address).packed[:2] in (b"\xc6\x12", b"\xc6\x13") or address[:3] in (
        bytes([192, 0, 0]),
        bytes([192, 0, 2]),
        bytes([198, 51, 100]),
        bytes([203, 0, 113]),
    )
    if ip_address(address).is_private and not ordinary:
        assert not is_public(address)


@pytest.mark.parametrize(
    ("text", "many"),
    [
        ("223.255.255.255", False),
        ("224.0.0.0", True),
        ("239.255.255.250", True),
        ("240.0.0.0", False),
        ("255.255.255.255", True),
        ("ff02::fb", True),
        ("fe80::1", False),
    ],
)
def test_multicast(text: str, many: bool) -> None:
    assert is_multicast(ip_address(text).packed) is many
