"""What a SYN offers, and what becomes of it."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netstack.packet import tcp
from services.tcp_fwd.terms import MIN_MSS, Terms, accept, answer
from tests.services.tcp_fwd.builders import segment


def offered(options: tcp.Options, **changes):
    return segment(flags=tcp.SYN, options=tcp.emit_options(options), **changes)


@pytest.mark.parametrize(
    ("options", "is_v6", "terms"),
    [
        (tcp.Options(mss=1400, window_scale=7, sack_permitted=True, timestamps=(5, 0)), False, Terms(1400, 7, True, 5)),
        (tcp.Options(mss=9000), False, Terms(1460, None, False, None)),
        (tcp.Options(), False, Terms(536, None, False, None)),
        (tcp.Options(), True, Terms(1220, None, False, None)),
        (tcp.Options(mss=1), False, Terms(MIN_MSS, None, False, None)),
        (tcp.Options(mss=1460, timestamps=(0, 0)), False, Terms(1460, None, False, 0)),
    ],
    ids=[
        "all of it", "no larger segments than our link takes", "no MSS is 536", "over IPv6 1220", "nor tiny ones",
        "a timestamp of 0 is one",
    ],
)  # fmt: skip
def test_what_is_offered_is_taken(options, is_v6, terms):
    assert accept(offered(options), 1460, is_v6=is_v6) == terms


@given(mss=st.integers(0, 0xFFFF), scale=st.integers(0, 255), tsval=st.integers(0, 0xFFFFFFFF))
def test_the_order_of_linux_is_read_as_any_other(mss, scale, tsval):
    usual = struct.pack("!BBHHBBIIBBBB", 2, 4, mss, 0x0402, 8, 10, tsval, 0, 1, 3, 3, scale)
    other = usual[:16] + usual[17:] + b"\1"
    assert accept(segment(options=usual), 1460, is_v6=False) == accept(segment(options=other), 1460, is_v6=False)


def test_timestamps_in_their_usual_place_are_seen_too():
    syn = offered(tcp.Options(mss=1460)).stamped(9, 0)
    assert accept(syn, 1460, is_v6=False).tsval == 9


def test_the_answer_has_what_was_offered_and_our_mss():
    terms = Terms(1400, 3, sack=True, tsval=5)
    assert tcp.parse_options(answer(terms, 1460, 77)) == tcp.Options(1460, 7, True, (77, 5))


def test_what_was_not_offered_is_not_answered():
    assert answer(Terms(536, None, sack=False, tsval=None), 1460, 77) == bytes.fromhex("020405b4")
