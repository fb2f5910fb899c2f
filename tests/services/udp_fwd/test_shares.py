"""Who makes room in a full table."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netstack.packet.reason import Reason
from services.udp_fwd.shares import Shares

ALICE, BOB, CAROL = b"alice", b"bob", b"carol"


@dataclass(eq=False)
class One:
    key: bytes
    client: bytes
    answered: bool = False


def table(text: str) -> Shares[One]:
    """Mappings as words, the idlest first: a1 is one of Alice's that nobody answered, A1 a conversation of hers."""
    shares: Shares[One] = Shares()
    for word in text.split():
        one = One(word.encode(), {"a": ALICE, "b": BOB, "c": CAROL}[word[0].lower()])
        shares.add(one)
        if word[0].isupper():
            shares.answer(one)
    return shares


@pytest.mark.parametrize(
    ("kept", "client", "victim", "reason"),
    [
        ("A1 a1 a2 A2", ALICE, b"a1", Reason.FLOW_TABLE_FULL),
        ("A1 A2 A3 A4", ALICE, b"A1", Reason.FLOW_TABLE_FULL),
        ("b1 A1 a1 A2", ALICE, b"a1", Reason.CLIENT_LIMIT),
        ("B1 A1 A2 A3", ALICE, b"A1", Reason.CLIENT_LIMIT),
        ("B1 A1 a2 a3", BOB, b"a2", Reason.FLOW_TABLE_FULL),
        ("B1 A1 A2 A3", BOB, b"A1", Reason.CLIENT_LIMIT),
        ("A1 A2 A3 A4", BOB, b"A1", Reason.CLIENT_LIMIT),
        ("c1 b1 A1 a1", BOB, b"b1", Reason.CLIENT_LIMIT),
        ("A1 B1", CAROL, b"A1", Reason.CLIENT_LIMIT),
    ],
    ids=[
        "alone: the idlest that nobody answered",
        "alone: else the idlest conversation",
        "one with more than its share loses its own, though another's is idler",
        "and its own conversation before another's",
        "one with less takes what nobody answered",
        "or the idlest conversation of one with more than its share, not its own",
        "so does a newcomer",
        "where a share is one mapping, one that has it loses it",
        "a newcomer among those with one each takes the idlest",
    ],
)
def test_who_makes_room(kept, client, victim, reason):
    found, why = table(kept).victim(client)
    assert (found.key, why) == (victim, reason)


def test_a_flood_of_one_client_leaves_the_conversations_of_another_alone():
    shares = table("B1 B2 b3")
    for number in range(100):
        if len(shares) >= 10:
            shares.remove(shares.victim(ALICE)[0])
        shares.add(One(b"a%d" % number, ALICE))
    assert len(shares) == 10
    assert [shares.victim(client)[0].key for client in (ALICE, BOB)] == [b"a93", b"b3"]


def test_a_flood_of_invented_clients_leaves_conversations_alone():
    shares = table("B1 B2 b3")
    for number in range(100):
        if len(shares) >= 10:
            shares.remove(shares.victim(b"invented %d" % number)[0])
        shares.add(One(b"i%d" % number, b"invented %d" % number))
    assert shares.idlest(answered=True).key == b"B1"


@given(
    st.lists(st.tuples(st.sampled_from(["add", "touch", "answer", "remove", "evict"]), st.integers(0, 9)), max_size=60)
)
def test_the_order_is_that_of_use_whatever_happens(steps):
    shares: Shares[One] = Shares()
    order: list[One] = []  # the idlest first
    for step, number in steps:
        known = next((one for one in order if one.key == b"%d" % number), None)
        if step == "add" and known is None:
            order.append(One(b"%d" % number, (ALICE, BOB, CAROL)[number % 3]))
            shares.add(order[-1])
        elif step == "evict" and order:
            victim, _ = shares.victim((ALICE, BOB, CAROL)[number % 3])
            same = [one for one in order if one.client == victim.client and one.answered == victim.answered]
            assert victim is same[0]
            order.remove(victim)
            shares.remove(victim)
        elif known is not None and step == "remove":
            order.remove(known)
            shares.remove(known)
        elif known is not None:
            order.remove(known)
            order.append(known)
            if step == "answer" and not known.answered:
                shares.answer(known)
            else:
                shares.touch(known)
        assert len(shares) == len(order)
        for answered in (False, True):
            expected = next((one for one in order if one.answered == answered), None)
            assert shares.idlest(answered=answered) is expected
