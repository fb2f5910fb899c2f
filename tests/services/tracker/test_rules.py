"""What commands allowed, denied and paused: each for its time."""

import itertools
import math
from ipaddress import ip_address

import pytest

from services.tracker import rules as module
from services.tracker.endpoints import TCP, Endpoint, parse_rule
from services.tracker.rules import Ended, Heard, Rules, RulesFullError, Said

NOTHING = Ended([], [], names=False, pause=False)


def at(text: str, port: int = 443) -> Endpoint:
    return Endpoint(ip_address(text).packed, port, TCP)


def test_an_endpoint_is_allowed_for_its_time() -> None:
    rules = Rules()
    rules.permit_endpoint(parse_rule("192.0.2.1:443/tcp"), 100.0)
    assert rules.endpoint(at("192.0.2.1")) == ("192.0.2.1:443/tcp", 100.0)
    assert rules.endpoint(at("192.0.2.1", 80)) is None
    assert rules.expire(99.9) == NOTHING
    assert rules.expire(100.0) == Ended(["192.0.2.1:443/tcp"], [], names=False, pause=False)
    assert rules.endpoint(at("192.0.2.1")) is None


def test_of_several_rules_the_one_that_lasts_counts() -> None:
    rules = Rules()
    rules.permit_endpoint(parse_rule("192.0.2.0/24"), math.inf)
    rules.permit_endpoint(parse_rule("192.0.2.1"), 100.0)
    assert rules.endpoint(at("192.0.2.1")) == ("192.0.2.0/24", math.inf)
    assert rules.about(ip_address("192.0.2.1").packed) == ["192.0.2.0/24", "192.0.2.1"]


def test_a_name_is_ruled_on_for_its_time() -> None:
    rules = Rules()
    rules.rule_name("a.example", allowed=True, until=10.0)
    rules.rule_name("b.example", allowed=False, until=20.0)
    assert rules.expire(10.0) == Ended([], ["a.example"], names=True, pause=False)
    assert rules.expire(20.0) == Ended([], [], names=True, pause=False)
    assert not rules.names


def test_the_time_of_a_ruling_that_was_replaced_ends_nothing() -> None:
    rules = Rules()
    rules.rule_name("www.example", allowed=True, until=10.0)
    rules.rule_name("example", allowed=False, until=math.inf)
    assert rules.expire(10.0) == NOTHING
    assert rules.names.ruling("www.example") is not None


def test_a_pause_ends_once() -> None:
    rules = Rules()
    rules.paused_until = 10.0
    assert rules.expire(9.9) == NOTHING
    assert rules.expire(10.0) == Ended([], [], names=False, pause=True)
    assert rules.expire(10.0) == NOTHING


@pytest.mark.parametrize(
    ("target", "left"),
    [
        ("192.0.2.1:443/tcp", ["192.0.2.1", "192.0.2.10:80", "[2001:db8::1]:443"]),
        ("192.0.2.1", ["192.0.2.10:80", "[2001:db8::1]:443"]),
        ("2001:db8::1", ["192.0.2.1", "192.0.2.1:443/tcp", "192.0.2.10:80"]),
        ("192.0.2.2", ["192.0.2.1", "192.0.2.1:443/tcp", "192.0.2.10:80", "[2001:db8::1]:443"]),
    ],
    ids=["exactly this rule", "all of this address", "of IPv6 too", "none of another"],
)
def test_rules_are_taken_back(target: str, left: list[str]) -> None:
    rules = Rules()
    texts = ["192.0.2.1", "192.0.2.1:443/tcp", "192.0.2.10:80", "[2001:db8::1]:443"]
    for text in texts:
        rules.permit_endpoint(parse_rule(text), math.inf)
    assert rules.forget(target) is (left != texts)
    assert list(rules.save().endpoints) == left


def test_what_is_saved_comes_back() -> None:
    rules = Rules()
    rules.permit_endpoint(parse_rule("192.0.2.1:443/tcp"), 100.0)
    rules.rule_name("example", allowed=False, until=math.inf)
    rules.rule_name("www.example", allowed=True, until=50.0)
    rules.rule_name("a.www.example", allowed=False, until=60.0)
    rules.paused_until = 30.0
    again = Rules()
    again.restore(rules.save(), map(parse_rule, rules.save().endpoints))
    assert again.save() == rules.save()
    for name in ("example", "www.example", "a.www.example", "b.www.example"):
        assert again.names.ruling(name) == rules.names.ruling(name)


def test_there_is_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_RULES", 1)
    rules = Rules()
    for _ in range(2):  # saying the same again needs no room
        rules.permit_endpoint(parse_rule("192.0.2.1"), 1.0)
        rules.rule_name("a.example", allowed=True, until=1.0)
    with pytest.raises(RulesFullError):
        rules.permit_endpoint(parse_rule("192.0.2.2"), 1.0)
    with pytest.raises(RulesFullError):
        rules.rule_name("b.example", allowed=True, until=1.0)


FOR_GOOD = Said("name", "a.example", allowed=False, until=math.inf)
FOR_AN_HOUR = Said("name", "b.example", allowed=True, until=3600.0)
AN_ENDPOINT = Said("endpoint", "192.0.2.1:443/tcp", allowed=True, until=3600.0)


def hearing(*said: Said) -> Rules:
    rules = Rules()
    rules.hear(said, parse_rule, 0.0)
    return rules


def test_what_one_tracker_says_another_can_hear() -> None:
    rules = hearing(FOR_GOOD, FOR_AN_HOUR, AN_ENDPOINT)
    assert set(rules.said()) == {FOR_GOOD, FOR_AN_HOUR, AN_ENDPOINT}
    assert rules.endpoint(at("192.0.2.1")) == ("192.0.2.1:443/tcp", 3600.0)
    assert rules.hear(rules.said(), parse_rule, 1.0) == Heard(changed=False, denied=[], closed=[])


def test_what_is_heard_takes_the_place_of_what_was_known_and_says_what_follows() -> None:
    rules = hearing(FOR_AN_HOUR, AN_ENDPOINT)
    heard = rules.hear([FOR_GOOD], parse_rule, 1.0)
    assert heard == Heard(changed=True, denied=["a.example"], closed=[parse_rule("192.0.2.1:443/tcp")])
    assert rules.said() == [FOR_GOOD]


def test_what_has_ended_by_itself_closes_nothing() -> None:
    rules = hearing(AN_ENDPOINT)
    assert rules.hear([AN_ENDPOINT], parse_rule, 3600.0).closed == []
    assert rules.said() == []


def test_what_has_no_end_here_is_not_ended_by_what_others_know_of_it() -> None:
    rules = hearing(FOR_GOOD)
    rules.hear([FOR_GOOD._replace(until=90.0)], parse_rule, 1.0)
    assert rules.said() == [FOR_GOOD]
    assert rules.hear([], parse_rule, 2.0).changed, "but revoked it may be"


def test_a_pause_is_nobody_elses() -> None:
    rules = hearing(FOR_GOOD)
    rules.paused_until = 50.0
    rules.hear([], parse_rule, 1.0)
    assert rules.paused_until == 50.0


def test_what_is_heard_in_whatever_order_stands_beside_each_other() -> None:
    texts = ["*.a.example", "b.a.example", "a.example", "*.b.a.example", "example"]
    for order in itertools.permutations(texts):
        rules = hearing(*(Said("name", text, allowed=text == "b.a.example", until=9.0) for text in order))
        assert {said.text for said in rules.said()} == set(texts)
        ruling = rules.names.ruling("b.a.example")
        assert ruling is not None
        assert ruling.allowed
        again = Rules()
        again.restore(rules.save(), [])
        assert set(again.said()) == set(rules.said())


def test_what_cannot_be_read_or_is_too_much_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_RULES", 1)
    strange = Said("endpoint", "nowhere", allowed=True, until=9.0)
    assert hearing(strange, FOR_AN_HOUR, FOR_GOOD).said() == [FOR_AN_HOUR]
