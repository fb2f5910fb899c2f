"""Answers that are kept."""

from services.dns_filter.answer import Answer, filter_answer
from services.dns_filter.cache import Cache, Hit
from services.dns_filter.query import emit_upstream
from tests.services.dns_filter.messages import policy, query, respond

ASKED = query()
ANSWER: Answer = filter_answer(
    respond(emit_upstream(ASKED, 1), "www.example.com. 60 A 198.18.1.1"), ASKED, policy()
)  # fmt: skip
OTHERS = [query(f"n{index}.test.") for index in range(10)]


def test_hit_until_its_time_ends() -> None:
    cache = Cache()
    assert cache.get(ASKED.key, 0.0) is None
    cache.put(ASKED.key, ANSWER, 0.0)
    assert cache.get(ASKED.key, 0.0) == Hit(ANSWER, 0)
    assert cache.get(ASKED.key, 59.9) == Hit(ANSWER, 59, is_due=True)
    assert cache.get(ASKED.key, 60.0) is None
    assert (len(cache), cache.octets) == (0, 0)


def test_answer_in_use_is_due_once_before_its_time_ends() -> None:
    cache = Cache()
    cache.put(ASKED.key, ANSWER, 0.0)
    assert cache.get(ASKED.key, 53.9) == Hit(ANSWER, 53)
    assert cache.get(ASKED.key, 54.0) == Hit(ANSWER, 54, is_due=True)
    assert cache.get(ASKED.key, 55.0) == Hit(ANSWER, 55)
    cache.put(ASKED.key, ANSWER, 55.0)
    assert cache.get(ASKED.key, 109.5) == Hit(ANSWER, 54, is_due=True)


def test_short_lived_answer_is_never_due() -> None:
    cache = Cache()
    short = ANSWER._replace(cache_ttl=9)
    cache.put(ASKED.key, short, 0.0)
    assert cache.get(ASKED.key, 8.9) == Hit(short, 8)


def test_stale_answer_is_kept_for_so_long_and_is_no_hit() -> None:
    cache = Cache(stale=100.0)
    cache.put(ASKED.key, ANSWER, 0.0)
    assert cache.get_stale(ASKED.key, 59.9) == Hit(ANSWER, 59)
    assert cache.get(ASKED.key, 60.0) is None
    assert cache.get_stale(ASKED.key, 60.0) == Hit(ANSWER, 60, is_stale=True)
    assert cache.get_stale(ASKED.key, 159.9) == Hit(ANSWER, 159, is_stale=True)
    assert cache.get_stale(ASKED.key, 160.0) is None
    assert (len(cache), cache.octets) == (0, 0)


def test_what_may_not_be_kept_is_not() -> None:
    cache = Cache()
    cache.put(ASKED.key, ANSWER._replace(cache_ttl=0), 0.0)
    assert len(cache) == 0


def test_newer_answer_replaces_the_older() -> None:
    cache = Cache()
    cache.put(ASKED.key, ANSWER, 0.0)
    cache.put(ASKED.key, ANSWER, 30.0)
    assert cache.get(ASKED.key, 80.0) == Hit(ANSWER, 50)
    assert cache.octets == len(ANSWER.body)


def test_least_recently_used_goes_first() -> None:
    cache = Cache(max_entries=2)
    cache.put(OTHERS[0].key, ANSWER, 0.0)
    cache.put(OTHERS[1].key, ANSWER, 0.0)
    cache.get(OTHERS[0].key, 1.0)
    cache.put(OTHERS[2].key, ANSWER, 2.0)
    assert [cache.get(other.key, 3.0) is not None for other in OTHERS[:3]] == [True, False, True]


def test_octets_are_bounded() -> None:
    cache = Cache(max_octets=3 * len(ANSWER.body))
    for other in OTHERS:
        cache.put(other.key, ANSWER, 0.0)
    assert (len(cache), cache.octets) == (3, 3 * len(ANSWER.body))


def test_cache_of_no_entries_keeps_nothing() -> None:
    cache = Cache(max_entries=0)
    cache.put(ASKED.key, ANSWER, 0.0)
    assert cache.get(ASKED.key, 0.0) is None
