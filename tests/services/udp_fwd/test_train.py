"""Which datagrams leave together."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.udp_fwd.flows import Flows, Limits
from services.udp_fwd.lane import MAX_OCTETS, MAX_SEGMENTS
from services.udp_fwd.outgoing import Header, Outgoing
from services.udp_fwd.train import Train, calls

HEADER = Header(tos=0, ttl=63, dont_fragment=True)
FLOWS: Flows[str] = Flows(Limits(30, 120, 10, 10))
HERE = FLOWS.arrive(b"\n\0\0\2", 5000, b"\xc6\x12\0\1", 53, 0.0)
THERE = FLOWS.arrive(b"\n\0\0\2", 5000, b"\xc6\x12\0\1", 54, 0.0)


def sent(*sizes: int, header: Header = HEADER) -> Outgoing:
    return Outgoing([bytes(size) for size in sizes], header, b"", 0, 0)


@pytest.mark.parametrize(
    ("first", "second", "together"),
    [
        (sent(100), sent(100), True),
        (sent(100), sent(60), True),
        (sent(100), sent(101), False),
        (sent(100), sent(0), False),
        (sent(0), sent(0), False),
        (sent(100, 100), sent(100), True),
        (sent(100, 60), sent(60), False),
        (sent(100), sent(100, 100), False),
        (sent(100), sent(100, header=HEADER._replace(ttl=1)), False),
        (sent(100), sent(100, header=HEADER._replace(tos=4)), False),
        (sent(100), sent(100, header=HEADER._replace(dont_fragment=False)), False),
        (sent(40000), sent(40000), False),
    ],
    ids=[
        "equal datagrams",
        "a shorter one at the end",
        "a longer one does not fit",
        "an empty one is no segment",
        "empty ones are no train",
        "one more behind the client's own train",
        "nothing behind a shorter last one",
        "the client's own trains stay alone",
        "another TTL",
        "another TOS",
        "another DF",
        "more octets than a train may have",
    ],
)
def test_what_couples(first, second, together):
    train = Train(HERE, first)
    assert train.couple(HERE, second) is together
    expected = first.payloads + second.payloads if together else first.payloads
    assert train.payloads == expected
    assert train.octets == sum(map(len, expected))


def test_a_shorter_datagram_closes_the_train():
    train = Train(HERE, sent(100))
    assert train.couple(HERE, sent(60))
    assert not train.couple(HERE, sent(60))


def test_a_train_has_one_destination():
    assert not Train(HERE, sent(100)).couple(THERE, sent(100))


def test_a_train_has_no_more_segments_than_every_kernel_takes():
    train = Train(HERE, sent(10))
    assert [train.couple(HERE, sent(10)) for _ in range(MAX_SEGMENTS)] == [True] * (MAX_SEGMENTS - 1) + [False]


@given(size=st.integers(0, 65507), count=st.integers(1, 200), last=st.integers(0, 65507))
def test_calls_lose_nothing_and_fit(size, count, last):
    payloads = [bytes(size)] * count + [bytes(min(size, last))]
    parts = list(calls(payloads))
    assert [payload for part in parts for payload in part] == payloads
    assert all(len(part) <= MAX_SEGMENTS for part in parts)
    assert all(sum(map(len, part)) <= max(MAX_OCTETS, size) for part in parts)
