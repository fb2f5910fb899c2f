"""Flows as people write them, and the keys that spread them over workers."""

import pytest

from netstack.packet.flow import Flow, address_text, endpoint, endpoint_key, tcp_key

FOUR = bytes([192, 0, 2, 1])
SIX = bytes.fromhex("20010db8000000000000000000000001")


@pytest.mark.parametrize(
    ("address", "text", "with_port"),
    [
        (FOUR, "192.0.2.1", "192.0.2.1:80"),
        (SIX, "2001:db8::1", "[2001:db8::1]:80"),
        (bytes(16), "::", "[::]:80"),
    ],
)
def test_endpoints_are_written_as_people_do(address: bytes, text: str, with_port: str) -> None:
    assert address_text(address) == text
    assert endpoint(address, 80) == with_port


def test_a_flow_is_written_from_client_to_server() -> None:
    assert str(Flow(6, bytes([10, 0, 0, 2]), 49152, FOUR, 443)) == "10.0.0.2:49152 > 192.0.2.1:443"


def test_a_tcp_key_is_addresses_then_ports_as_in_the_packet() -> None:
    assert tcp_key(bytes([10, 0, 0, 2]), 49152, FOUR, 443) == bytes.fromhex("0a000002 c0000201 c000 01bb")
    assert len(tcp_key(SIX, 1, SIX, 2)) == 36


def test_an_endpoint_key_is_the_client_alone() -> None:
    assert endpoint_key(bytes([10, 0, 0, 2]), 5353) == bytes.fromhex("0a000002 14e9")
    assert len(endpoint_key(SIX, 1)) == 18
