"""Control messages of a receive, as Linux writes them on a little-endian machine."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.udp_fwd.arrival import parse
from services.udp_fwd.reply import UNKNOWN, Arrived


@pytest.mark.parametrize(
    ("ancillary", "expected"),
    [
        ([], (0, UNKNOWN)),
        ([(0, 2, b"\x40\0\0\0"), (0, 1, b"\xb8")], (0, Arrived(tos=0xB8, ttl=63))),
        ([(0, 2, b"\x01\0\0\0"), (0, 1, b"\0")], (0, Arrived(ttl=0))),
        ([(0, 2, b"\x00\0\0\0")], (0, Arrived(ttl=0))),
        ([(0, 2, b"\x40\0\0\0"), (0, 1, b"\0"), (17, 104, b"\xe8\x03\0\0")], (1000, Arrived(ttl=63))),
        (
            [(41, 52, b"\x40\0\0\0"), (41, 67, b"\x2e\0\0\0"), (41, 11, b"\x02\xe1\x23\x45")],
            (0, Arrived(tos=0x2E, ttl=63, flow_label=0x12345)),
        ),
        ([(1, 29, b"\xff" * 16)], (0, UNKNOWN)),
    ],
    ids=[
        "a kernel that says nothing",
        "IPv4: TTL one less, TOS as it was",
        "a TTL that ended here",
        "a TTL that should not have come",
        "a train that GRO made",
        "IPv6: the label without the class beside it",
        "a message that nobody asked for",
    ],
)
def test_what_the_kernel_says(ancillary, expected):
    assert parse(ancillary) == expected


@given(st.lists(st.tuples(st.sampled_from([0, 17, 41]), st.sampled_from([1, 2, 11, 52, 67, 104]), st.binary())))
def test_any_control_messages_are_read(ancillary):
    _, arrived = parse(ancillary)
    assert 0 <= arrived.tos <= 0xFF
    assert 0 <= arrived.ttl <= 0xFF
    assert 0 <= arrived.flow_label <= 0xFFFFF
