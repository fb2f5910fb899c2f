"""Mappings, destinations, permissions and limits, on a clock of the test's own."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netstack.packet.flow import endpoint_key
from netstack.packet.reason import Reason
from services.udp_fwd.flows import (
    GRAIN,
    MAX_HELD,
    MAX_HELD_IN_ALL,
    MAX_HELD_OCTETS,
    MAX_SENDERS,
    RECENT,
    Destination,
    Flows,
    Limits,
    State,
)
from services.udp_fwd.outgoing import Header, Outgoing

CLIENT = bytes([10, 0, 0, 2])
A = bytes([198, 18, 0, 1])
B = bytes([198, 18, 0, 2])
UNANSWERED, CONVERSATION = 30.0, 120.0
LIMITS = Limits(UNANSWERED, CONVERSATION, max_flows=3, max_destinations=6)
HEADER = Header(tos=0, ttl=63, dont_fragment=True)
A_53 = ("198.18.0.1", 53)


def outgoing(payload: bytes = b"x", number: int = 0) -> Outgoing:
    return Outgoing([payload], HEADER, b"packet %d" % number, number, 0)


def flows(limits: Limits = LIMITS) -> Flows[str]:
    return Flows(limits)


def allowed(table: Flows[str], *, port: int = 5000, server: bytes = A, server_port: int = 53, now: float = 0.0):
    """A destination that the tracker said yes to, its mapping with a socket."""
    destination = table.arrive(CLIENT, port, server, server_port, now)
    table.asked(destination)
    table.allow(destination, now)
    destination.mapping.socket = "socket"
    return destination


def ended(table: Flows[str]) -> list[tuple[int, Reason | None]]:
    return [(mapping.port, mapping.ended) for mapping in table.take_ended()]


# --- verdicts ---


def test_a_new_destination_is_to_be_asked_about_and_what_comes_meanwhile_is_given_back_in_order():
    table = flows()
    first = table.arrive(CLIENT, 5000, A, 53, 0.0)
    assert first.state is State.NEW
    assert table.hold(first, outgoing(b"1"))
    table.asked(first)
    second = table.arrive(CLIENT, 5000, A, 53, 0.1)
    assert second is first
    assert second.state is State.ASKED
    assert table.hold(second, outgoing(b"2"))
    assert table.waiting == 2
    assert [each.payloads for each in table.allow(first, 0.2)] == [[b"1"], [b"2"]]
    assert first.state is State.ALLOWED
    assert table.waiting == 0


def test_a_verdict_that_comes_before_asking_is_over_is_not_undone():
    table = flows()
    destination = table.arrive(CLIENT, 5000, A, 53, 0.0)
    table.allow(destination, 0.0)
    table.asked(destination)
    assert destination.state is State.ALLOWED


def test_a_mapping_that_reaches_nobody_ends_with_its_refusal():
    table = flows()
    destination = table.arrive(CLIENT, 5000, A, 53, 0.0)
    table.hold(destination, outgoing())
    assert table.refuse(destination) == [outgoing()]
    assert destination.state is State.ENDED
    assert ended(table) == [(5000, Reason.NOT_WHITELISTED)]
    assert len(table) == 0


def test_a_refusal_leaves_the_other_destinations_of_the_mapping_alone():
    table = flows()
    good = allowed(table)
    bad = table.arrive(CLIENT, 5000, B, 53, 0.0)
    table.refuse(bad)
    assert table.arrive(CLIENT, 5000, A, 53, 0.0) is good
    assert ended(table) == []
    assert table.arrive(CLIENT, 5000, B, 53, 0.0).state is State.NEW


@pytest.mark.parametrize("decide", ["allow", "refuse"])
def test_a_verdict_for_what_has_ended_meanwhile_does_nothing(decide):
    table = flows()
    destination = table.arrive(CLIENT, 5000, A, 53, 0.0)
    table.hold(destination, outgoing())
    table.end(destination.mapping, Reason.FLOW_TABLE_FULL)
    assert (table.allow(destination, 1.0) if decide == "allow" else table.refuse(destination)) == []
    assert table.lost == 1
    assert len(table) == 0


# --- what waits is bounded ---


def test_at_most_sixteen_datagrams_wait_for_one_verdict():
    table = flows()
    destination = table.arrive(CLIENT, 5000, A, 53, 0.0)
    assert [table.hold(destination, outgoing()) for _ in range(MAX_HELD + 1)] == [True] * MAX_HELD + [False]


def test_one_datagram_of_the_largest_size_may_wait_and_little_more():
    table = flows()
    destination = table.arrive(CLIENT, 5000, A, 53, 0.0)
    assert table.hold(destination, outgoing(bytes(65507)))
    assert not table.hold(destination, outgoing(bytes(MAX_HELD_OCTETS - 65507 + 1)))
    assert table.hold(destination, outgoing(bytes(MAX_HELD_OCTETS - 65507)))


def test_what_waits_in_all_is_bounded_and_room_comes_back():
    table = flows(Limits(UNANSWERED, CONVERSATION, 1000, 1000))
    count = MAX_HELD_IN_ALL // MAX_HELD_OCTETS
    destinations = [table.arrive(CLIENT, port, A, 53, 0.0) for port in range(1, count + 2)]
    full = outgoing(bytes(MAX_HELD_OCTETS))
    assert [table.hold(each, full) for each in destinations] == [True] * count + [False]
    table.refuse(destinations[0])
    assert table.hold(destinations[-1], full)


# --- who is heard ---


def test_only_addresses_sent_to_are_heard_from_and_any_port_of_them():
    table = flows()
    mapping = allowed(table).mapping
    assert table.heard(mapping, A_53, A, 1.0).port == 53
    assert table.heard(mapping, ("198.18.0.1", 40000), A, 1.0).port == 40000
    assert table.heard(mapping, ("198.18.0.2", 53), B, 1.0) is None
    assert set(mapping.senders) == {A_53, ("198.18.0.1", 40000)}


def test_an_address_asked_about_is_not_heard_before_the_verdict():
    table = flows()
    mapping = table.arrive(CLIENT, 5000, A, 53, 0.0).mapping
    assert table.heard(mapping, A_53, A, 0.1) is None


def test_an_address_not_used_for_as_long_as_a_conversation_may_pause_is_heard_no_more():
    table = flows()
    mapping = allowed(table).mapping
    table.heard(mapping, A_53, A, 1.0)
    allowed(table, server=B, now=100.0)
    late = 1.0 + CONVERSATION + GRAIN
    assert table.heard(mapping, A_53, A, late) is None
    assert mapping.senders == {}


def test_a_destination_not_used_for_so_long_is_asked_about_again():
    table = flows()
    old = allowed(table)
    allowed(table, server=B, now=100.0)
    again = table.arrive(CLIENT, 5000, A, 53, CONVERSATION + GRAIN)
    assert again is not old
    assert again.state is State.NEW
    assert again.mapping is old.mapping


def test_traffic_in_either_direction_keeps_a_destination():
    table = flows()
    destination = allowed(table)
    for now in range(0, 1000, 100):
        assert table.heard(destination.mapping, A_53, A, float(now)) is not None
    assert table.arrive(CLIENT, 5000, A, 53, 1000.0) is destination
    assert table.heard(destination.mapping, A_53, A, 1100.0) is not None


def test_senders_remembered_are_bounded():
    table = flows()
    mapping = allowed(table).mapping
    for port in range(1, MAX_SENDERS * 2):
        table.heard(mapping, ("198.18.0.1", port), A, 0.0)
        assert len(mapping.senders) <= MAX_SENDERS


def test_revoked_addresses_are_neither_sent_to_nor_heard_and_the_others_stay():
    table = flows()
    to_a, to_b = allowed(table), allowed(table, server=B)
    table.heard(to_a.mapping, A_53, A, 0.0)
    waiting = table.arrive(CLIENT, 5000, A, 54, 0.0)
    table.hold(waiting, outgoing())
    assert table.revoke([A]) == [outgoing()]
    assert to_a.state is waiting.state is State.ENDED
    assert to_b.state is State.ALLOWED
    assert table.heard(to_a.mapping, A_53, A, 0.0) is None
    assert table.arrive(CLIENT, 5000, A, 53, 0.0).state is State.NEW
    assert table.waiting == 0


# --- timeouts ---


@pytest.mark.parametrize(
    ("answered", "timeout"),
    [(False, UNANSWERED), (True, CONVERSATION)],
    ids=["30 s while nobody answered", "120 s for a conversation"],
)
def test_an_idle_mapping_ends(answered, timeout):
    table = flows()
    mapping = allowed(table).mapping
    if answered:
        table.heard(mapping, A_53, A, 0.0)
    table.expire(timeout)
    assert ended(table) == []
    table.expire(timeout + GRAIN)
    assert ended(table) == [(5000, Reason.IDLE_TIMEOUT)]
    assert table.live_keys() == []


def test_sending_keeps_a_mapping():
    table = flows()
    for now in range(0, 200, 20):
        table.expire(float(now))
        allowed(table, now=float(now))
    assert table.live_keys() == [endpoint_key(CLIENT, 5000)]
    assert endpoint_key(CLIENT, 5000) in table


def test_a_mapping_in_use_does_not_keep_the_idle_ones_behind_it():
    table = flows()
    allowed(table, port=1, now=0.0)
    allowed(table, port=2, now=1.0)
    table.arrive(CLIENT, 1, A, 53, 25.0)
    table.expire(40.0)
    assert ended(table) == [(2, Reason.IDLE_TIMEOUT)]


# --- limits ---


def test_the_idlest_mapping_that_nobody_answered_makes_room():
    table = flows()
    talking = allowed(table, port=1).mapping
    table.heard(talking, ("198.18.0.1", 53), A, 0.0)
    allowed(table, port=2, now=1.0)
    allowed(table, port=3, now=2.0)
    table.arrive(CLIENT, 2, A, 53, 3.0)
    allowed(table, port=4, now=4.0)
    assert ended(table) == [(3, Reason.FLOW_TABLE_FULL)]
    assert len(table) == 3


def test_where_all_are_conversations_the_idlest_of_them_makes_room():
    table = flows()
    for port in (1, 2, 3):
        table.heard(allowed(table, port=port, now=float(port)).mapping, A_53, A, float(port))
    table.arrive(CLIENT, 4, A, 53, 5.0)
    assert ended(table) == [(1, Reason.FLOW_TABLE_FULL)]


def test_a_mapping_with_too_many_destinations_loses_its_oldest():
    table = flows()
    destinations = [allowed(table, server_port=port) for port in range(7)]
    assert [each.state for each in destinations] == [State.ENDED] + [State.ALLOWED] * 6
    assert ended(table) == []


def test_where_others_hold_all_destinations_the_idlest_mapping_makes_room():
    table = flows()
    for port in range(6):
        allowed(table, port=1, server_port=port)
    assert allowed(table, port=2, now=1.0).state is State.ALLOWED
    assert ended(table) == [(1, Reason.FLOW_TABLE_FULL)]


def test_what_waited_at_a_destination_that_became_stale_is_counted_as_lost():
    table = flows()
    destination = table.arrive(CLIENT, 5000, A, 53, 0.0)
    table.hold(destination, outgoing())
    table.arrive(CLIENT, 5000, B, 53, CONVERSATION / 2)  # keeps the mapping
    table.arrive(CLIENT, 5000, A, 53, CONVERSATION + 1)
    assert (table.waiting, table.lost) == (0, 1)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["send", "allow", "refuse", "hear", "expire", "revoke"]),
            st.integers(1, 6), st.sampled_from([A, B]), st.integers(1, 4), st.floats(0, 50),
        ),
        max_size=80,
    )
)  # fmt: skip
def test_whatever_happens_the_limits_hold_and_the_counts_agree(steps):
    table = flows()
    now = 0.0
    pending: list[Destination[str]] = []
    for action, port, server, server_port, wait in steps:
        now += wait
        if action == "send":
            destination = table.arrive(CLIENT, port, server, server_port, now)
            if destination.state is not State.ALLOWED:
                table.hold(destination, outgoing())
                pending.append(destination)
        elif action in {"allow", "refuse"} and pending:
            destination = pending.pop(0)
            if action == "allow":
                table.allow(destination, now)
            elif destination.state is not State.ALLOWED:
                table.refuse(destination)
        elif action == "hear":
            for mapping in table.mappings():
                table.heard(mapping, ("198.18.0.1", server_port), server, now)
        elif action == "expire":
            table.expire(now)
        elif action == "revoke":
            table.revoke([server])
        live = table.mappings()
        assert len(live) <= LIMITS.max_flows
        destinations = [each for mapping in live for each in mapping.destinations.values()]
        assert len(destinations) <= LIMITS.max_destinations
        assert table.waiting == sum(len(each.held) for each in destinations)
        assert table.live_keys() == [mapping.key for mapping in live]
    for mapping in table.mappings():
        table.end(mapping, Reason.IDLE_TIMEOUT)
    assert table.waiting == len(table) == 0
    table.expire(now + 1000)


# --- what errors quote, and what is in use ---


def test_an_error_quotes_the_packet_sent_last_to_that_destination():
    table = flows()
    destination = allowed(table)
    assert destination.last_quote() is None
    table.sent(destination, Outgoing([b""], HEADER, b"old", 0, 0))
    table.sent(destination, Outgoing([b""], HEADER, b"new", 0, 0))
    assert table.quote(destination.mapping, A, 53, 0) == b"new"
    assert table.quote(destination.mapping, A, 54, 0) is None
    assert destination.last_quote() == b"new"


def test_an_error_about_an_echo_quotes_the_request_of_its_sequence_number():
    table = flows(Limits(60, 60, 3, 6, keep_recent=True))
    destination = allowed(table, server_port=0)
    for number in range(RECENT + 1):
        table.sent(destination, outgoing(number=number))
    assert table.quote(destination.mapping, A, 0, 0) is None
    assert table.quote(destination.mapping, A, 0, 1) == b"packet 1"
    assert table.quote(destination.mapping, A, 0, RECENT) == b"packet %d" % RECENT
    assert table.quote(destination.mapping, A, 0, None) is None
    assert len(destination.quotes) == RECENT


def test_an_address_in_use_is_reported_once_a_second_at_most():
    table = flows()
    mapping = allowed(table).mapping
    for now in (0.1, 0.5, 1.0, 1.5, 2.1):
        table.arrive(CLIENT, 5000, A, 53, now)
    assert table.take_used() == [A, A]
    assert table.take_used() == []
    table.heard(mapping, A_53, A, 9.0)
    assert table.take_used() == [A]


# --- what the client's side says ---


def test_a_mapping_is_found_by_what_was_sent_to_its_client():
    table = flows()
    mapping = allowed(table).mapping
    assert table.heard_from(CLIENT, 5000, A) is mapping
    assert table.heard_from(CLIENT, 5000, B) is None
    assert table.heard_from(CLIENT, 5001, A) is None


def test_a_mapping_ends_when_nobody_listens_to_its_last_server():
    table = flows()
    mapping = allowed(table).mapping
    allowed(table, server=B)
    table.close(mapping, A, 53)
    assert ended(table) == []
    table.close(mapping, A, 53)
    table.close(mapping, B, 99)  # nothing was sent there
    assert ended(table) == []
    table.close(mapping, B, 53)
    assert ended(table) == [(5000, Reason.CONNECTION_REFUSED)]
    assert len(table) == 0
