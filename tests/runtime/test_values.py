"""What the texts in the configuration mean, and what is said about those that mean nothing."""

from contextlib import suppress
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netstack.runtime.values import (
    TCP,
    UDP,
    AllowedNetwork,
    Store,
    Upstream,
    bootstrap_addresses,
    parse_address,
    parse_allowed_network,
    parse_controld,
    parse_interface,
    parse_key,
    parse_link,
    parse_listen,
    parse_name,
    parse_prefix,
    parse_store,
    parse_upstream,
)


@pytest.mark.parametrize(
    ("text", "upstream"),
    [
        pytest.param("udp://192.0.2.1", Upstream("udp", "192.0.2.1", 53), id="udp has port 53 by default"),
        pytest.param("tcp://192.0.2.1:5353", Upstream("tcp", "192.0.2.1", 5353), id="a port is kept"),
        pytest.param("udp://[2001:db8::1]:53", Upstream("udp", "2001:db8::1", 53), id="IPv6 stands in brackets"),
        pytest.param(
            "https://freedns.controld.com/p1",
            Upstream("https", "freedns.controld.com", 443, "/p1"),
            id="https has port 443 and a path",
        ),
        pytest.param(
            "https://DNS.Example./",
            Upstream("https", "dns.example", 443, "/dns-query"),
            id="the usual path, lower case",
        ),
        pytest.param("h3://192.0.2.1", Upstream("h3", "192.0.2.1", 443, "/dns-query"), id="h3 has port 443 and a path"),
        pytest.param("tls://dns.example", Upstream("tls", "dns.example", 853), id="tls has port 853"),
        pytest.param("quic://dns.example:784", Upstream("quic", "dns.example", 784), id="quic has port 853 if none"),
    ],
)
def test_an_upstream_is_parsed(text: str, upstream: Upstream) -> None:
    assert parse_upstream(text) == upstream
    assert parse_upstream(str(upstream)) == upstream


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("192.0.2.1", "is no URL", id="an address alone is no URL"),
        pytest.param("", "is no URL", id="nothing is no URL"),
        pytest.param("tls://192.0.2.1/p", "tls:// has no path; write tls://192.0.2.1", id="tls has no path"),
        pytest.param("ftp://192.0.2.1", "must be one of https://", id="no such scheme"),
        pytest.param("udp://", "names no host", id="no host"),
        pytest.param("udp://192.0.2.1:70000", "no valid port", id="port too large"),
        pytest.param("udp://192.0.2.1:0", "no valid port", id="port zero"),
        pytest.param("udp://192.0.2.1:", "no valid port", id="colon without a port"),
        pytest.param("udp://192.0.2.1/x", "has no path", id="udp with a path"),
        pytest.param("udp://1.2.3", "neither an address nor a name", id="three octets are no address"),
        pytest.param("https://user@192.0.2.1/", "no user", id="a user is refused"),
        pytest.param("https://a b/", "is no URL", id="a blank is refused"),
        pytest.param("udp://[::1", "is no URL", id="an open bracket"),
        pytest.param("udp://fe80::1%eth0", "", id="a scope is refused"),
    ],
)
def test_what_is_no_upstream_is_refused(text: str, said: str) -> None:
    with pytest.raises(ValueError) as raised:
        parse_upstream(text)
    assert said in str(raised.value)


def test_an_address_is_its_own_bootstrap() -> None:
    assert bootstrap_addresses(parse_upstream("udp://192.0.2.1"), {}) == ("192.0.2.1",)


def test_control_d_has_a_bootstrap_built_in() -> None:
    assert bootstrap_addresses(parse_controld("abc123"), {}) == ("76.76.2.22", "2606:1a40::22")
    assert bootstrap_addresses(parse_upstream("https://freedns.controld.com/p2"), {})[0] == "76.76.2.11"
    assert bootstrap_addresses(parse_upstream("tls://p2.freedns.controld.com"), {})[0] == "76.76.2.11"
    assert bootstrap_addresses(parse_upstream("quic://abc123.dns.controld.com"), {})[0] == "76.76.2.22"
    with pytest.raises(ValueError, match="is not known"):
        bootstrap_addresses(parse_upstream("tls://evilfreedns.controld.com.test"), {})


def test_a_written_bootstrap_goes_before_the_built_in_one() -> None:
    written = {"Dns.ControlD.com.": ["198.18.0.2"]}
    assert bootstrap_addresses(parse_controld("abc123"), written) == ("198.18.0.2",)


def test_a_host_without_bootstrap_is_refused_with_the_remedy() -> None:
    with pytest.raises(ValueError, match=r'dns\.bootstrap\."dns\.example" = '):
        bootstrap_addresses(parse_upstream("https://dns.example/q"), {})


@pytest.mark.parametrize("uid", ["", "a/b/c", "../x", "a b", "ü"])
def test_what_is_no_controld_uid_is_refused(uid: str) -> None:
    with pytest.raises(ValueError, match="UID"):
        parse_controld(uid)


@pytest.mark.parametrize(
    ("text", "network"),
    [
        pytest.param("10.0.0.0/8", AllowedNetwork(ip_network("10.0.0.0/8")), id="a prefix"),
        pytest.param("192.0.2.1", AllowedNetwork(ip_network("192.0.2.1/32")), id="an address"),
        pytest.param("192.0.2.1:53", AllowedNetwork(ip_network("192.0.2.1/32"), 53), id="an address and a port"),
        pytest.param(
            "10.0.0.0/8:443/tcp", AllowedNetwork(ip_network("10.0.0.0/8"), 443, TCP), id="a prefix, port and protocol"
        ),
        pytest.param("2001:db8::/32", AllowedNetwork(ip_network("2001:db8::/32")), id="an IPv6 prefix"),
        pytest.param("[2001:db8::/32]", AllowedNetwork(ip_network("2001:db8::/32")), id="brackets without a port"),
        pytest.param(
            "[2001:db8::1]:53/udp",
            AllowedNetwork(ip_network("2001:db8::1/128"), 53, UDP),
            id="IPv6 with port in brackets",
        ),
    ],
)
def test_an_allowed_network_is_parsed(text: str, network: AllowedNetwork) -> None:
    assert parse_allowed_network(text) == network


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("10.0.0.1/8", "write 10.0.0.0/8", id="host bits: the corrected form is told"),
        pytest.param("2001:db8::1/32", "write 2001:db8::/32", id="host bits of IPv6"),
        pytest.param("10.0.0.0/33", "is no prefix", id="prefix too long"),
        pytest.param("10.0.0.0/8:0", "no port", id="port zero"),
        pytest.param("10.0.0.0/8:70000", "no port", id="port too large"),
        pytest.param("10.0.0.0/8:53/icmp", "no protocol", id="a protocol without ports"),
        pytest.param("10.0.0.0/8:", "no port", id="a colon without a port"),
        pytest.param("2001:db8::/32:443", "is no prefix", id="IPv6 with a port and no brackets"),
        pytest.param("[2001:db8::/32]443", "is no prefix", id="no colon behind the bracket"),
        pytest.param("example.com", "is no prefix", id="a name"),
    ],
)
def test_what_is_no_allowed_network_is_refused(text: str, said: str) -> None:
    with pytest.raises(ValueError) as raised:
        parse_allowed_network(text)
    assert said in str(raised.value)


@pytest.mark.parametrize("text", ["10.0.0.2/24", "fd00:6e73::2/64"])
def test_the_address_of_an_interface_may_have_host_bits(text: str) -> None:
    assert str(parse_interface(text)) == text


@pytest.mark.parametrize("text", ["10.0.0.2", "224.0.0.1/4", "127.0.0.1/8", "0.0.0.0/0", "x/24", "fe80::1%eth0/64"])
def test_what_is_no_interface_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be"):
        parse_interface(text)


@pytest.mark.parametrize(
    ("text", "store"),
    [
        ("memory://", Store("memory")),
        ("redis://198.18.0.2", Store("redis", "198.18.0.2", 6379)),
        ("redis://redis:6380/2", Store("redis", "redis", 6380, "", 2)),
        ("rediss://[2001:db8::1]/0", Store("rediss", "2001:db8::1", 6379)),
        ("redis://:secret@198.18.0.2/1", Store("redis", "198.18.0.2", 6379, "", 1)),
        ("redis://user:a,b@198.18.0.2", Store("redis", "198.18.0.2", 6379)),
        ("unix://user:secret@/run/redis.sock", Store("unix", path="/run/redis.sock")),
        ("unix:///run/redis/redis.sock?db=3", Store("unix", path="/run/redis/redis.sock", db=3)),
    ],
)
def test_a_store_is_parsed(text: str, store: Store) -> None:
    assert parse_store(text) == store


@pytest.mark.parametrize(
    "text",
    [
        "memory", "memory://x", "mysql://h", "redis://", "redis://h/x", "redis://h:0", "unix://x", "unix:///p?x=1",
        "redis:///0", "rediss://h/0?ssl_cert_reqs=none", "redis://h/0#x", "unix://u:p@h/p",
    ],
)  # fmt: skip
def test_what_is_no_store_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_store(text)


@pytest.mark.parametrize(
    "text", ["redis+sentinel://h:26379/mymaster", "redis-cluster://h", "rediss+cluster://h", "redis://a:1,b:2/0"]
)
def test_several_servers_are_refused_for_what_they_are(text: str) -> None:
    with pytest.raises(ValueError, match="Redis Sentinel and Cluster are not supported; name the one server"):
        parse_store(text)


def test_where_to_listen_is_parsed() -> None:
    assert parse_listen("127.0.0.1:9153") == (ip_address("127.0.0.1"), 9153)
    assert parse_listen("[::1]:9153") == (ip_address("::1"), 9153)


@pytest.mark.parametrize("text", ["9153", ":9153", "::1:9153", "127.0.0.1:", "127.0.0.1:99999", "localhost:1"])
def test_where_nobody_can_listen_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_listen(text)


@pytest.mark.parametrize(
    ("text", "name"), [("Example.COM.", "example.com"), ("*.example.com", "*.example.com"), ("_a._tcp.b", "_a._tcp.b")]
)
def test_a_name_is_in_lower_case_without_final_dot(text: str, name: str) -> None:
    assert parse_name(text) == name


@pytest.mark.parametrize("text", ["", ".", "a..b", "*", "a.*.b", "a b", "-a.b", "ä.de", "a." * 127 + "abc", "a" * 64])
def test_what_is_no_name_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be a domain name"):
        parse_name(text)


@pytest.mark.parametrize(
    "parse",
    [
        parse_upstream, parse_allowed_network, parse_interface, parse_store, parse_listen, parse_name, parse_prefix,
        parse_address, parse_controld,
    ],
)  # fmt: skip
@given(text=st.text() | st.from_regex(r"(udp|https|redis|unix|memory)://[\[\]a-z0-9:./%?=-]*", fullmatch=True))
def test_any_text_gives_a_value_or_a_sentence(parse, text: str) -> None:
    with suppress(ValueError):
        parse(text)


def test_a_link_is_an_address_and_the_first_of_its_ports() -> None:
    assert parse_link("tcp://192.0.2.1:65531") == (ip_address("192.0.2.1"), 65531)
    assert parse_link("tcp://[2001:db8::1]:5700") == (ip_address("2001:db8::1"), 5700)


def test_a_public_key_is_hexadecimal() -> None:
    assert parse_key("0aB1" * 16) == bytes.fromhex("0ab1" * 16)
    with pytest.raises(ValueError, match="64 hexadecimal digits"):
        parse_key("0aB1" * 16 + "\n")
