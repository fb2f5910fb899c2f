"""IPv6 options and routing headers, in literal octets."""

import pytest

from netstack.packet.extension import MAX_OPTIONS, check_options, check_routing
from netstack.packet.reason import MalformedPacketError, Reason

OPTIONS = {
    "padding alone": "1100 0104 00000000",
    "seven single octets of padding": "1100 00 00 00 00 00 00",
    "a router alert, as MLD reports have": "1100 0502 0000 0100",
    "an unknown one that may be skipped": "1100 1e04 00000000",
    "an empty one at the very end": "1100 0102 0000 1e00",
}


@pytest.mark.parametrize("octets", [bytes.fromhex(text) for text in OPTIONS.values()], ids=OPTIONS)
def test_options_that_may_be_ignored(octets):
    check_options(b"packet" + octets, 6, len(octets))
    check_options(b"frame" + b"packet" + octets, 6, len(octets), 5)


@pytest.mark.parametrize(
    ("octets", "reason", "problem"),
    [
        ("1100 0105 00000000", Reason.MALFORMED_EXTENSION, None),
        ("1100 0103 000000 05", Reason.MALFORMED_EXTENSION, None),
        ("1100 4104 00000000", Reason.UNKNOWN_OPTION, None),
        ("1100 8104 00000000", Reason.UNKNOWN_OPTION, (2, 8)),
        ("1100 00 00 c104 0000", Reason.MALFORMED_EXTENSION, None),
        ("1100 00 00 c102 0000", Reason.UNKNOWN_OPTION, (2, 10)),
        ("1100 c204 00010000", Reason.UNKNOWN_OPTION, (2, 8)),
    ],
    ids=[
        "one that leaves its header",
        "a type without a length",
        "01: discard and say nothing",
        "10: discard and say so",
        "one cut off behind padding",
        "11: discard and say so, pointing behind the padding",
        "a jumbogram (RFC 2675), which no TUN has",
    ],
)
def test_options_that_may_not_be_ignored(octets, reason, problem):
    with pytest.raises(MalformedPacketError) as caught:
        check_options(b"packet" + bytes.fromhex(octets), 6, len(bytes.fromhex(octets)))
    assert (caught.value.reason, caught.value.problem) == (reason, problem)


def test_a_header_of_very_many_options_is_refused():
    most = b"\x11\x00" + b"\0" * MAX_OPTIONS
    check_options(most, 0, len(most))
    with pytest.raises(MalformedPacketError) as caught:
        check_options(most + b"\0", 0, len(most) + 1)
    assert caught.value.reason is Reason.MALFORMED_EXTENSION


@pytest.mark.parametrize("octets", ["1100 0400 00000000", "1100 0200 00000000"], ids=["segments", "mobility"])
def test_a_routing_header_that_has_arrived_is_passed_over(octets):
    check_routing(b"packet" + bytes.fromhex(octets), 6)


@pytest.mark.parametrize(
    "octets",
    ["1100 0000 00000000", "1102 0001 00000000", "1102 0401 00000000", "1100 fd01 00000000"],
    ids=["type 0, even where it has arrived", "type 0", "a segment route", "an unknown type"],
)
def test_a_routing_header_that_leads_elsewhere_is_refused(octets):
    with pytest.raises(MalformedPacketError) as caught:
        check_routing(b"frame" + b"packet" + bytes.fromhex(octets), 6, 5)
    assert (caught.value.reason, caught.value.problem) == (Reason.ROUTING_HEADER, (0, 8))
