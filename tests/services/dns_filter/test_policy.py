"""What the configuration says about names and addresses."""

import pytest

from services.dns_filter.names import to_wire
from tests.services.dns_filter.lists.reading import build
from tests.services.dns_filter.messages import address, policy


def names(*texts: str) -> tuple[bytes, ...]:
    return tuple(map(to_wire, texts))


@pytest.mark.parametrize(
    ("chain", "rule"),
    [
        (("ads.test",), "ads.test"),
        (("x.ads.test",), "ads.test"),
        (("good.ads.test",), None),
        (("www.test",), None),
        (("www.test", "cdn.test", "ads.test"), "ads.test"),
        (("www.test", "good.ads.test"), None),
        (("good.ads.test", "ads.test"), None),
    ],
    ids=[
        "a denied name", "a name below", "allowed in spite of it", "another", "an alias of a denied name",
        "an alias of an allowed one", "where the asked name is allowed its aliases do not matter",
    ],
)  # fmt: skip
def test_denied_names(chain: tuple[str, ...], rule: str | None) -> None:
    found = policy(denied=("ads.test",), allowed=("good.ads.test",)).denied_by(names(*chain))
    assert found == (rule and f'deny.names "{rule}"')


@pytest.mark.parametrize(
    ("chain", "rule"),
    [
        (("www.listed.test",), 'deny.lists /0:1 "listed.test"'),
        (("good.listed.test",), None),
        (("fine.listed.test",), None),
        (("mine.listed.test",), None),
        (("ads.test",), 'deny.names "ads.test"'),
        (("x.ads.test",), 'deny.names "ads.test"'),
        (("fine.ads.test",), None),
        (("www.test", "www.listed.test"), 'deny.lists /0:1 "listed.test"'),
        (("www.test", "good.listed.test"), None),
        (("good.listed.test", "www.listed.test"), None),
        (("good.listed.test", "ads.test"), 'deny.names "ads.test"'),
        (("mine.listed.test", "www.listed.test", "ads.test"), None),
    ],
    ids=[
        "a listed name", "excepted by the list", "allowed by allow.lists", "allowed by allow.names", "deny.names",
        "deny.names against an exception of a list", "deny.names against allow.lists", "an alias of a listed name",
        "an alias of an excepted one", "where the asked name is excepted, lists do not matter",
        "but deny.names do", "where it is allowed, nothing does",
    ],
)  # fmt: skip
def test_precedence_of_lists(chain: tuple[str, ...], rule: str | None) -> None:
    rules = policy(denied=("ads.test",), allowed=("mine.listed.test",))
    listed = b"||listed.test^\n@@||good.listed.test^\n@@||x.ads.test^\n"
    rules.use(build(listed, allows=(b"fine.listed.test\nfine.ads.test\n",)))
    assert rules.denied_by(names(*chain)) == rule


@pytest.mark.parametrize(
    ("text", "removed", "leased"),
    [
        ("198.18.1.1", False, True),
        ("8.8.8.8", False, True),
        ("10.1.2.3", True, False),
        ("127.0.0.1", True, False),
        ("169.254.169.254", True, False),
        ("0.0.0.0", True, False),
        ("::", True, False),
        ("::1", True, False),
        ("::ffff:10.1.2.3", True, False),
        ("fd00::1", True, False),
        ("fe80::1", True, False),
        ("2001:db8::1", False, True),
        ("192.168.7.1", False, False),
        ("192.168.8.1", True, False),
        ("fd12::1", False, False),
    ],
)
def test_addresses(text: str, removed: bool, leased: bool) -> None:
    rules = policy(networks=("192.168.7.0/24:443/tcp", "fd12::/16"))
    assert rules.is_removed(address(text)) is removed
    assert rules.is_leased(address(text), private_name=False) is leased


def test_private_names() -> None:
    rules = policy(private=("home.test",))
    assert rules.may_be_private(to_wire("nas.home.test"))
    assert not rules.may_be_private(to_wire("evil.test"))
    assert rules.is_leased(address("10.1.2.3"), private_name=True)


def test_canaries_are_answered_unless_they_are_switched_off_or_allowed() -> None:
    (name,) = names("use-application-dns.net")
    assert policy().canary(name) is not None
    assert policy().canary(to_wire("www.test")) is None
    assert policy(canaries=False).canary(name) is None
    assert policy(allowed=("use-application-dns.net",)).canary(name) is None


def test_encrypted_client_hello_is_removed_where_server_names_are_enforced() -> None:
    assert policy(sni="enforce").remove_ech
    assert not policy(sni="log").remove_ech


def test_http3_is_removed_where_quic_is_blocked() -> None:
    assert policy().remove_h3
    assert not policy(block_quic=False).remove_h3
