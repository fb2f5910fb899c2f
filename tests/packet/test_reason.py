"""The slugs of refusals and drops."""

import re

from netstack.packet.reason import MalformedPacketError, Reason


def test_each_slug_is_its_name_in_lower_case_with_hyphens() -> None:
    assert {reason.value for reason in Reason} == {reason.name.lower().replace("_", "-") for reason in Reason}
    assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", reason) for reason in Reason)


def test_an_error_carries_its_reason_and_says_it_with_the_detail() -> None:
    error = MalformedPacketError(Reason.MALFORMED_TCP, "3 octets are no TCP header")
    assert error.reason is Reason.MALFORMED_TCP
    assert str(error) == "malformed-tcp: 3 octets are no TCP header"


def test_a_refusal_for_a_reason_that_is_not_known_is_a_refusal() -> None:
    assert Reason.of_refusal("encrypted-dns") is Reason.ENCRYPTED_DNS
    assert Reason.of_refusal("a reason of tomorrow") is Reason.NOT_WHITELISTED
