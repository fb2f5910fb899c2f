"""Endpoints and rules as text. What rules cover: test_policy.py."""

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.tracker.endpoints import TCP, UDP, Endpoint, Rule, compile_rule, endpoint_text, parse_rule, rule_text


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("192.0.2.1", Rule(ip_network("192.0.2.1/32"))),
        ("192.0.2.0/24", Rule(ip_network("192.0.2.0/24"))),
        ("192.0.2.1:443", Rule(ip_network("192.0.2.1/32"), 443)),
        ("192.0.2.0/24:443/tcp", Rule(ip_network("192.0.2.0/24"), 443, TCP)),
        ("192.0.2.1/udp", Rule(ip_network("192.0.2.1/32"), None, UDP)),
        ("2001:db8::1", Rule(ip_network("2001:db8::1/128"))),
        ("2001:db8::1/tcp", Rule(ip_network("2001:db8::1/128"), None, TCP)),
        ("[2001:db8::/32]:443/tcp", Rule(ip_network("2001:db8::/32"), 443, TCP)),
    ],
)
def test_a_rule_is_written_as_it_is_read(text: str, rule: Rule) -> None:
    assert parse_rule(text) == rule
    assert rule_text(rule) == text


@pytest.mark.parametrize("text", ["", "www.example", "192.0.2.1/24", "192.0.2.1:0", "192.0.2.1:443/sctp", "1.2.3/tcp"])
def test_what_is_no_rule(text: str) -> None:
    with pytest.raises(ValueError):
        parse_rule(text)


@pytest.mark.parametrize(
    ("address", "port", "protocol", "text"),
    [
        ("192.0.2.1", 443, TCP, "192.0.2.1:443/tcp"),
        ("192.0.2.1", 443, 0, "192.0.2.1:443"),
        ("192.0.2.1", 0, 1, "192.0.2.1"),
        ("2001:db8::1", 53, UDP, "[2001:db8::1]:53/udp"),
        ("2001:db8::1", 0, 0, "2001:db8::1"),
    ],
)
def test_an_endpoint_as_commands_write_it(address: str, port: int, protocol: int, text: str) -> None:
    assert endpoint_text(Endpoint(ip_address(address).packed, port, protocol)) == text


def test_a_rule_for_a_protocol_covers_its_ports_and_nothing_else() -> None:
    rule = compile_rule(parse_rule("192.0.2.1/udp"))
    address = ip_address("192.0.2.1").packed
    assert [rule.covers(Endpoint(address, 53, protocol)) for protocol in (UDP, TCP, 1)] == [True, False, False]
    assert not rule.covers_all_of(address)


@given(st.text() | st.from_regex(r"\[?[0-9a-f:.]*(/[0-9]*)?\]?(:[0-9]*)?(/[a-z]*)?", fullmatch=True))
def test_whatever_is_typed_is_a_rule_that_reads_the_same_again_or_is_refused(text: str) -> None:
    try:
        rule = parse_rule(text)
    except ValueError:
        return
    assert parse_rule(rule_text(rule)) == rule
