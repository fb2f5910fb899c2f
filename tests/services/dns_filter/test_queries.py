"""Who waits for which question."""

from services.dns_filter.queries import Asked, Bridge, Client, Outcome
from tests.services.dns_filter.messages import query

ALICE, BOB = bytes([10, 0, 0, 2]), bytes([10, 0, 0, 3])
TIMEOUT = 5.0


def asked(
    client: bytes = ALICE, port: int = 5000, *, number: int = 1, name: str = "a.test.", udp: bool = True
) -> Asked:
    return Asked(query(name, number=number), Client(client, port, udp, reply=lambda _: None))


def test_equal_questions_are_asked_once_and_all_are_answered() -> None:
    bridge = Bridge(TIMEOUT)
    first, second, third = asked(), asked(BOB), asked(number=2, name="A.TEST.")
    outcome, flight = bridge.ask(first, 0.0)
    assert flight is not None
    assert outcome is Outcome.ASK
    assert bridge.ask(second, 1.0) == (Outcome.JOINED, flight)
    assert bridge.ask(third, 2.0) == (Outcome.JOINED, flight)
    assert len(bridge) == 1
    assert bridge.end(flight.number) == [first, second, third]
    assert len(bridge) == 0


def test_another_question_is_asked() -> None:
    bridge = Bridge(TIMEOUT)
    bridge.ask(asked(), 0.0)
    assert bridge.ask(asked(name="b.test."), 0.0)[0] is Outcome.ASK


def test_same_query_again_is_answered_once() -> None:
    bridge = Bridge(TIMEOUT)
    _, flight = bridge.ask(asked(), 0.0)
    assert flight is not None
    assert bridge.ask(asked(), 1.0)[0] is Outcome.REPEATED
    assert bridge.ask(asked(port=5001), 1.0)[0] is Outcome.JOINED
    assert bridge.ask(asked(number=2), 1.0)[0] is Outcome.JOINED
    assert len(bridge.end(flight.number)) == 3


def test_on_a_stream_each_query_is_answered() -> None:
    bridge = Bridge(TIMEOUT)
    bridge.ask(asked(udp=False), 0.0)
    assert bridge.ask(asked(udp=False), 0.0)[0] is Outcome.JOINED


def test_what_has_ended_ends_once() -> None:
    bridge = Bridge(TIMEOUT)
    _, flight = bridge.ask(asked(), 0.0)
    assert flight is not None
    assert len(bridge.end(flight.number)) == 1
    assert bridge.end(flight.number) == []
    assert bridge.ask(asked(), 1.0)[0] is Outcome.ASK


def test_time_runs_out() -> None:
    bridge = Bridge(TIMEOUT)
    assert bridge.next_timeout() is None
    first, second = asked(), asked(name="b.test.")
    bridge.ask(first, 0.0)
    bridge.ask(second, 1.0)
    assert bridge.next_timeout() == 5.0
    assert bridge.handle_timeout(4.9) == []
    assert bridge.handle_timeout(5.0) == [first]
    assert bridge.next_timeout() == 6.0
    assert bridge.handle_timeout(10.0) == [second]
    assert bridge.next_timeout() is None


def test_answer_after_its_time_is_late() -> None:
    bridge = Bridge(TIMEOUT)
    _, flight = bridge.ask(asked(), 0.0)
    assert flight is not None
    bridge.handle_timeout(5.0)
    assert bridge.end(flight.number) == []


def test_questions_are_bounded() -> None:
    bridge = Bridge(TIMEOUT, max_flights=2)
    bridge.ask(asked(), 0.0)
    bridge.ask(asked(name="b.test."), 0.0)
    assert bridge.ask(asked(name="c.test."), 0.0) == (Outcome.FULL, None)
    assert bridge.ask(asked(BOB), 0.0)[0] is Outcome.JOINED


def test_clients_are_bounded_and_room_comes_back() -> None:
    bridge = Bridge(TIMEOUT, max_waiting=2)
    _, flight = bridge.ask(asked(), 0.0)
    assert flight is not None
    bridge.ask(asked(number=2), 0.0)
    assert bridge.ask(asked(number=3), 0.0)[0] is Outcome.FULL
    bridge.end(flight.number)
    assert bridge.ask(asked(number=3), 0.0)[0] is Outcome.ASK


def test_question_for_which_nobody_waits_can_be_joined() -> None:
    bridge = Bridge(TIMEOUT)
    flight = bridge.refresh(query("a.test."), 0.0)
    assert flight is not None
    assert bridge.refresh(query("A.test."), 0.0) is None, "it is being asked already"
    assert bridge.ask(asked(), 1.0) == (Outcome.JOINED, flight)
    assert [one.query.id for one in bridge.end(flight.number)] == [1]


def test_question_for_which_nobody_waits_ends_in_silence_and_counts_as_one() -> None:
    bridge = Bridge(TIMEOUT, max_flights=1)
    assert bridge.refresh(query("a.test."), 0.0) is not None
    assert bridge.refresh(query("b.test."), 0.0) is None
    assert bridge.ask(asked(name="b.test."), 0.0)[0] is Outcome.FULL
    assert bridge.handle_timeout(5.0) == []
    assert len(bridge) == 0


def test_who_waits_can_be_answered_before_the_question_is() -> None:
    bridge = Bridge(TIMEOUT, max_waiting=1)
    first = asked()
    _, flight = bridge.ask(first, 0.0)
    assert flight is not None
    assert bridge.take_waiting(flight.number) == [first]
    assert bridge.take_waiting(flight.number) == []
    assert bridge.ask(asked(), 1.0)[0] is Outcome.JOINED, "there is room again, and it is no repetition"
    assert len(bridge.end(flight.number)) == 1
    assert bridge.take_waiting(flight.number) == []
