"""What may be given out again without asking the tracker."""

import pytest

from netstack.runtime.config import Config
from services.dns_filter.answer import Answer, filter_answer
from services.dns_filter.leased import Leased
from services.dns_filter.policy import Policy
from services.dns_filter.query import parse
from tests.services.dns_filter.messages import ask, respond


def answer(*records: str, name: str = "www.example.com") -> Answer:
    octets = ask(name)
    return filter_answer(respond(octets, *records), parse(octets), Policy(Config()))


WEB = answer("www.example.com. 60 A 198.18.1.1")


@pytest.mark.parametrize(
    ("ttl", "until", "covered"),
    [
        (60, 1330.0, True),
        (60, 1329.9, False),
        (240, 1330.0, True),
        (241, 1330.9, False),
        (241, 1331.0, True),
        (3600, 4690.0, True),
        (3600, 4689.0, False),
    ],
    ids=[
        "the lease lasts for the floor from now",
        "and ends a moment too early",
        "TTL and grace are as much as the floor",
        "TTL and grace are more than the floor",
        "and the lease lasts for these",
        "a long TTL",
        "and ends a moment too early for it",
    ],
)
def test_an_answer_is_covered_while_its_lease_lasts_as_long_as_it_must(
    ttl: int, until: float, *, covered: bool
) -> None:
    leased = Leased(300, 60)
    leased.remember(WEB, until)
    assert leased.covers(WEB, ttl, 1030.0) is covered


def test_only_what_the_tracker_confirmed_is_covered() -> None:
    leased = Leased(300, 60)
    leased.remember(WEB, 9999.0)
    other = answer("www.example.com. 60 A 198.18.1.1", "www.example.com. 60 A 198.18.1.2")
    alias = answer("www.example.com. 60 CNAME cdn.test.", "cdn.test. 60 A 198.18.1.1")
    named = answer("api.example.com. 60 A 198.18.1.1", name="api.example.com")
    assert leased.covers(WEB, 60, 0.0)
    assert not any(leased.covers(one, 60, 0.0) for one in (other, alias, named))


def test_what_was_said_is_never_shortened() -> None:
    leased = Leased(300, 60)
    leased.remember(WEB, 400.0)
    leased.remember(WEB, 350.0)
    assert leased.covers(WEB, 60, 100.0)


def test_all_is_forgotten_when_a_lease_is_ended() -> None:
    leased = Leased(300, 60)
    leased.remember(WEB, 9999.0)
    leased.forget()
    assert not leased.covers(WEB, 60, 0.0)
    assert len(leased) == 0


def test_the_oldest_is_forgotten_where_there_are_too_many() -> None:
    leased = Leased(300, 60, max_answers=2)
    answers = [answer(f"www.example.com. 60 A 198.18.1.{number}") for number in range(3)]
    for each in answers[:2]:
        leased.remember(each, 9999.0)
    leased.remember(answers[0], 9999.0)
    leased.remember(answers[2], 9999.0)
    assert [leased.covers(each, 60, 0.0) for each in answers] == [True, False, True]


@pytest.mark.parametrize(
    ("floor", "grace", "ttl", "max_ttl"),
    [(300, 60, 60, 240), (300, 60, 3600, 3600), (1, 60, 0, 1), (300, 0, 299, 300)],
    ids=["the floor", "a long TTL", "a grace beyond the floor", "no grace"],
)
def test_a_client_that_obeys_never_outlives_its_lease(floor: int, grace: int, ttl: int, max_ttl: int) -> None:
    assert Leased(floor, grace).max_ttl(ttl) == max_ttl


def test_leases_are_asked_for_with_a_tenth_of_the_floor_to_spare() -> None:
    assert (Leased(300, 60).spare, Leased(9, 60).spare) == (30, 0)
