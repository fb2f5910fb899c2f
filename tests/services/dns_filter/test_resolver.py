"""The way of a query, with upstreams that are told when to answer and a tracker played by the test."""

import asyncio
import time
from collections.abc import Callable

import pytest

from netstack.runtime.config import Config, Deny, Dns, Tcp, Whitelist
from services.dns_filter import cache
from services.dns_filter import resolver as module
from services.dns_filter.leases import Leases
from services.dns_filter.lists.lookup import Lists
from services.dns_filter.policy import Policy
from services.dns_filter.queries import Bridge, Client
from services.dns_filter.query import Query, emit_upstream
from services.dns_filter.resolver import Resolver
from services.dns_filter.upstreams.pool import Pool
from services.dns_filter.upstreams.upstream import UpstreamError
from tests.services.dns_filter.lists.reading import build
from tests.services.dns_filter.messages import ask, errors, read, respond, texts
from tests.services.dns_filter.tracker_link import World, run, until

RECORD = "www.example.com. 60 A 198.18.1.1"
CLIENT = bytes([10, 0, 0, 2])


class Told:
    """An upstream that answers when the test says so, whatever its patience."""

    label = "udp://test"

    def __init__(self, answer: Callable[[bytes], bytes] = lambda asked: respond(asked, RECORD)) -> None:
        self.answer = answer
        self.asked: list[Query] = []
        self.may = asyncio.Event()
        self.may.set()

    async def ask(self, query: Query, _: float) -> bytes:
        self.asked.append(query)
        await self.may.wait()
        return self.answer(emit_upstream(query, 1))

    async def prepare(self) -> None:
        pass

    async def close(self) -> None:
        pass


class Asker:
    """Clients, and what they get."""

    def __init__(self, world: World, upstream: Told) -> None:
        policy = self.policy = Policy(world.runtime.config)
        self.leases = Leases(world.runtime, lambda: None)
        self.resolver = Resolver(world.runtime, policy, Pool([upstream], policy), self.leases)
        self.got: list[bytes] = []

    def send(self, octets: bytes, *, udp: bool = True, port: int = 5000) -> bool:
        return self.resolver.receive(octets, Client(CLIENT, port, udp, self.got.append))

    async def replies(self, count: int) -> list[bytes]:
        await until(lambda: len(self.got) >= count)
        return self.got


def test_answer_waits_for_the_tracker() -> None:
    async def story(world: World) -> None:
        world.acknowledges = False
        asker = Asker(world, Told())
        assert asker.send(ask())
        learn = await world.learn()
        assert asker.got == []
        assert asker.resolver.in_flight == 1
        world.answer(learn.request, max_ttl=30)
        (reply,) = await asker.replies(1)
        assert texts(reply) == ["www.example.com. 30 A 198.18.1.1"]
        assert asker.resolver.in_flight == 0

    run(story)


def test_what_gets_no_answer_is_told_to_the_caller() -> None:
    async def story(world: World) -> None:
        upstream = Told()
        asker = Asker(world, upstream)
        assert not asker.send(b"")
        upstream.may.clear()
        assert asker.send(ask())
        assert not asker.send(ask()), "the same query again"
        assert asker.send(ask(), udp=False), "on a stream each is answered"
        upstream.may.set()
        await asker.replies(2)
        assert world.runtime.counters.drops == {"malformed-dns": 1}

    run(story)


def test_form_error_is_answered_at_once() -> None:
    async def story(world: World) -> None:
        asker = Asker(world, Told())
        assert asker.send(bytes.fromhex("1234 0100 0000 0000 0000 0000"))
        assert read(asker.got[0]).rcode().name == "FORMERR"

    run(story)


def test_time_runs_out_and_a_late_answer_serves_the_next() -> None:
    async def story(world: World) -> None:
        upstream = Told()
        upstream.may.clear()
        asker = Asker(world, upstream)
        began = time.monotonic()
        asker.send(ask(edns=True))
        (reply,) = await asker.replies(1)
        assert time.monotonic() - began < 1.0
        assert errors(reply) == [(22, "upstream-timeout: no answer within 0.1 s")]
        assert world.runtime.counters.drops == {"upstream-timeout": 1}
        upstream.may.set()
        await until(lambda: asker.resolver.cached)
        asker.send(ask(number=2))
        assert texts((await asker.replies(2))[1])
        assert len(upstream.asked) == 1

    run(story, Config(dns=Dns(timeout=0.1)))


def test_too_many_questions_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "Bridge", lambda timeout: Bridge(timeout, max_flights=1))

    async def story(world: World) -> None:
        upstream = Told()
        upstream.may.clear()
        asker = Asker(world, upstream)
        asker.send(ask())
        asker.send(ask("b.test.", edns=True))
        (reply,) = await asker.replies(1)
        assert read(reply).rcode().name == "SERVFAIL"
        assert errors(reply) == [(0, "buffer-full: too many queries in flight")]
        assert world.runtime.counters.drops == {"buffer-full": 1}
        upstream.may.set()
        await asker.replies(2)

    run(story)


def test_without_a_cache_each_question_is_asked() -> None:
    async def story(world: World) -> None:
        upstream = Told()
        asker = Asker(world, upstream)
        for number in range(3):
            asker.send(ask(number=number))
            await asker.replies(number + 1)
        assert len(upstream.asked) == 3
        assert asker.resolver.cache_hits == 0

    run(story, Config(dns=Dns(cache=False)))


def test_answer_in_use_is_asked_for_before_its_time_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "REFRESH_AT", 0.0)

    async def story(world: World) -> None:
        upstream = Told()
        asker = Asker(world, upstream)
        asker.send(ask())
        await asker.replies(1)
        upstream.may.clear()
        for number in (2, 3):
            asker.send(ask(number=number))
            assert texts((await asker.replies(number))[-1]), "nobody waits for it"
        await until(lambda: len(upstream.asked) == 2)
        assert (asker.resolver.refreshed, asker.resolver.cache_hits) == (1, 2)
        upstream.may.set()
        await until(lambda: not asker.resolver.in_flight)
        assert len(asker.got) == 3
        learned = [await world.learn() for _ in range(3)]
        assert {learn.name for learn in learned} == {"www.example.com"}, "each hit renews the lease"

    run(story)


class Failing:
    """What an upstream gives: an answer of one second, and then a refusal for as long as the test wants."""

    def __init__(self, *answer: str, **options: str) -> None:
        self._answer = answer
        self._options = options
        self.is_failing = False

    def __call__(self, asked: bytes) -> bytes:
        if self.is_failing:
            raise UpstreamError("Connection refused")
        return respond(asked, *self._answer, **self._options)  # type: ignore[arg-type]


STALE = Config(dns=Dns(serve_stale=3600, timeout=10.0))


def test_stale_answer_where_no_upstream_answers() -> None:
    async def story(world: World) -> None:
        answer = Failing("www.example.com. 1 A 198.18.1.1", "www.example.com. 600 TXT x")
        upstream = Told(answer)
        asker = Asker(world, upstream)
        asker.send(ask())
        await asker.replies(1)
        await asyncio.sleep(1.05)
        answer.is_failing = True
        for number in (2, 3):  # the first finds out, the second knows
            asker.send(ask(edns=True, number=number))
            reply = (await asker.replies(number))[-1]
            assert texts(reply)[0] == "www.example.com. 1 A 198.18.1.1"
            assert max(rrset.ttl for rrset in read(reply).answer) <= 30
            ((code, text),) = errors(reply)
            assert code == 3
            assert str(text).startswith("no upstream has answered; this is from 1 s ago")
            await until(lambda: not asker.resolver.in_flight)
        assert [(await world.learn()).ttl for _ in range(3)] == [1, 30, 30], "it is leased like any other"
        assert asker.resolver.stale_answers == 2
        assert not world.runtime.counters.drops
        asker.send(ask("other.test.", number=9))
        assert read((await asker.replies(4))[3]).rcode().name == "SERVFAIL"
        await until(lambda: not asker.resolver.in_flight)
        answer.is_failing = False
        asker.send(ask(number=4))
        await until(lambda: not asker.resolver.in_flight)
        asker.send(ask(number=5, edns=True))
        assert errors((await asker.replies(6))[5]) == [], "it is back"

    run(story, STALE)


def test_stale_nxdomain_has_a_code_of_its_own() -> None:
    async def story(world: World) -> None:
        soa = ("example.com. 1 SOA ns.test. admin.test. 1 2 3 4 1",)
        answer = Failing(rcode="NXDOMAIN", authority=soa)  # type: ignore[arg-type]
        asker = Asker(world, Told(answer))
        asker.send(ask())
        await asker.replies(1)
        await asyncio.sleep(1.05)
        answer.is_failing = True
        asker.send(ask(edns=True, number=2))
        reply = (await asker.replies(2))[1]
        assert read(reply).rcode().name == "NXDOMAIN"
        assert errors(reply)[0][0] == 19

    run(story, STALE)


def test_stale_answer_where_the_upstream_is_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_STALE_AFTER", 0.1)

    async def story(world: World) -> None:
        upstream = Told(lambda asked: respond(asked, "www.example.com. 1 A 198.18.1.1"))
        asker = Asker(world, upstream)
        asker.send(ask())
        await asker.replies(1)
        await asyncio.sleep(1.05)
        upstream.may.clear()
        asker.send(ask(edns=True, number=2))
        asker.send(ask(edns=True, number=3))
        asker.send(ask("other.test.", number=4))
        replies = await asker.replies(3)
        assert [errors(reply)[0][0] for reply in replies[1:]] == [3, 3]
        upstream.may.set()
        assert read((await asker.replies(4))[3]).id == 4, "who has no stale answer waits on"
        await asyncio.sleep(0.05)
        assert len(asker.got) == 4, "nobody is answered twice"

    run(story, STALE)


def test_without_the_key_nothing_stale_is_given() -> None:
    async def story(world: World) -> None:
        answer = Failing("www.example.com. 1 A 198.18.1.1")
        asker = Asker(world, Told(answer))
        asker.send(ask())
        await asker.replies(1)
        await asyncio.sleep(1.05)
        answer.is_failing = True
        asker.send(ask(number=2))
        assert read((await asker.replies(2))[1]).rcode().name == "SERVFAIL"

    run(story)


@pytest.mark.parametrize(
    ("rtype", "rcode", "says"),
    [
        ("AXFR", "REFUSED", "unsupported-dns: a zone transfer"),
        ("MAILB", "NOTIMP", "unsupported-dns: type MAILB is obsolete"),
    ],
)
def test_what_is_not_passed_on_is_refused_with_a_reason(rtype: str, rcode: str, says: str) -> None:
    async def story(world: World) -> None:
        upstream = Told()
        asker = Asker(world, upstream)
        assert asker.send(ask(rtype=rtype, edns=True))
        assert read(asker.got[0]).rcode().name == rcode
        assert errors(asker.got[0]) == [(21, says)]
        assert upstream.asked == []
        assert world.runtime.counters.drops == {"unsupported-dns": 1}

    run(story)


def test_any_is_answered_with_little() -> None:
    async def story(world: World) -> None:
        upstream = Told()
        asker = Asker(world, upstream)
        assert asker.send(ask(rtype="ANY", edns=True))
        assert texts(asker.got[0]) == ['www.example.com. 3600 HINFO "RFC8482" ""']
        assert upstream.asked == []
        assert world.learned.empty()

    run(story)


def test_denied_name_is_not_asked() -> None:
    async def story(world: World) -> None:
        upstream = Told()
        asker = Asker(world, upstream)
        asker.send(ask("x.ads.test."))
        assert read(asker.got[0]).rcode().name == "NXDOMAIN"
        assert upstream.asked == []

    run(story, Config(deny=Deny(names=["ads.test"])))


def test_nothing_is_answered_before_the_lists_are_in_use() -> None:
    async def story(world: World) -> None:
        asker = Asker(world, Told())
        assert not asker.send(ask())
        assert world.runtime.counters.drops == {"lists-loading": 1}
        asker.policy.use(Lists())
        assert asker.send(ask())
        assert texts((await asker.replies(1))[0])

    run(story, Config(deny=Deny(lists=["/x"])))


def test_listed_name_is_denied_from_the_moment_its_list_is_in_use() -> None:
    async def story(world: World) -> None:
        asker = Asker(world, Told())
        asker.send(ask(edns=True))
        assert texts((await asker.replies(1))[0])
        asker.policy.use(build(b"# why\n||example.com^\n"))
        asker.send(ask(edns=True, number=2))
        assert read(asker.got[1]).rcode().name == "NXDOMAIN"
        assert errors(asker.got[1]) == [(15, 'name-denied: deny.lists /0:2 "example.com"')]
        asker.policy.use(Lists())
        asker.send(ask(edns=True, number=3))
        assert texts((await asker.replies(3))[2])
        assert world.runtime.counters.drops == {"name-denied": 1}

    run(story)


@pytest.mark.parametrize(
    ("name", "rcode"), [("use-application-dns.net.", "NXDOMAIN"), ("_dns.resolver.arpa.", "NOERROR")], ids=str
)
def test_canary_is_answered_here(name: str, rcode: str) -> None:
    async def story(world: World) -> None:
        upstream = Told()
        asker = Asker(world, upstream)
        asker.send(ask(name, "SVCB", edns=True))
        reply = read(asker.got[0])
        assert (reply.rcode().name, reply.answer) == (rcode, [])
        ((code, text),) = errors(asker.got[0])
        assert code == 15
        assert "dns.canaries=false" in str(text)
        assert world.runtime.counters.drops == {"encrypted-dns": 1}
        assert upstream.asked == []

    run(story)


def test_failure_names_the_upstream() -> None:
    async def story(world: World) -> None:
        def fail(_: bytes) -> bytes:
            raise UpstreamError("Connection refused")

        asker = Asker(world, Told(fail))
        asker.send(ask(edns=True))
        (reply,) = await asker.replies(1)
        assert errors(reply) == [(23, "upstream-down: udp://test: Connection refused")]

    run(story)


def test_a_name_that_a_command_denied_is_refused_from_then_on_also_from_the_cache() -> None:
    async def story(world: World) -> None:
        asker = Asker(world, Told())
        asker.send(ask())
        await asker.replies(1)
        world.rule(denied=("example.com",))
        await until(lambda: asker.leases.rulings)
        asker.send(ask(edns=True))
        reply = (await asker.replies(2))[1]
        assert read(reply).rcode() == 3
        assert errors(reply) == [(15, "name-denied: netstack deny example.com")]
        refused = await asyncio.wait_for(world.refused.get(), 5)
        assert refused == ("www.example.com", CLIENT, "name-denied", "netstack deny example.com")
        world.rule()
        await until(lambda: not asker.leases.rulings)
        asker.send(ask())
        assert texts((await asker.replies(3))[2]) != []

    run(story)


def test_a_name_that_a_command_allowed_is_answered_in_spite_of_the_configuration() -> None:
    async def story(world: World) -> None:
        asker = Asker(world, Told())
        await until(lambda: world.joins)
        world.rule(allowed=("www.example.com",))
        await until(lambda: asker.leases.rulings)
        asker.send(ask())
        assert texts((await asker.replies(1))[0]) == [RECORD]

    run(story, Config(deny=Deny(names=["example.com"])))


def test_a_name_that_is_denied_while_it_is_leased_is_refused_for_that() -> None:
    async def story(world: World) -> None:
        world.acknowledges = False
        asker = Asker(world, Told())
        asker.send(ask(edns=True))
        world.answer((await world.learn()).request, ok=False, reason="name-denied", max_ttl=0)
        reply = (await asker.replies(1))[0]
        assert (read(reply).rcode(), errors(reply)) == (3, [(15, "name-denied: netstack deny")])

    run(story)


@pytest.mark.parametrize("record", [RECORD, "www.example.com. 60 A 10.1.2.3"], ids=["denied", "private"])
def test_during_a_pause_everything_is_let_through_and_nothing_is_leased_that_would_stay_open(record: str) -> None:
    async def story(world: World) -> None:
        asker = Asker(world, Told(lambda asked: respond(asked, record)))
        asker.send(ask())
        refused = (await asker.replies(1))[0]
        assert texts(refused) == []
        await until(lambda: world.joins)
        world.rule(lenient=True)
        await until(lambda: asker.leases.lenient)
        asker.send(ask())
        assert texts((await asker.replies(2))[1]) == [record]
        assert world.learned.empty()
        world.rule()
        await until(lambda: not asker.leases.lenient)
        asker.send(ask())
        assert texts((await asker.replies(3))[2]) == [], "what was kept during the pause is not handed out after it"

    denied = ["example.com"] if record == RECORD else []
    run(story, Config(deny=Deny(names=denied)))


def test_audit_counts_what_it_lets_through() -> None:
    async def story(world: World) -> None:
        asker = Asker(world, Told())
        asker.send(ask())
        assert texts((await asker.replies(1))[0]) == [RECORD]
        assert asker.resolver.audited == 1
        assert world.runtime.counters.drops == {}

    run(story, Config(whitelist=Whitelist(mode="audit"), deny=Deny(names=["example.com"])))


async def confirmed(asker: Asker) -> None:
    """The tracker has been heard of."""
    await until(lambda: asker.leases.stand(asyncio.get_running_loop().time()))


def test_what_is_leased_for_long_enough_is_given_out_again_at_once() -> None:
    async def story(world: World) -> None:
        asker = Asker(world, Told())
        world.lease = 330.0
        await confirmed(asker)
        asker.send(ask())
        assert (await world.learn()).spare == 30
        await asker.replies(1)
        world.acknowledges = False
        asker.send(ask(number=2), port=5001)
        assert texts(asker.got[1]) == ["www.example.com. 60 A 198.18.1.1"]
        assert world.learned.empty()
        assert asker.resolver.in_flight == 0

    run(story)


def test_after_a_lease_was_ended_the_tracker_is_asked_again() -> None:
    async def story(world: World) -> None:
        asker = Asker(world, Told())
        world.lease = 330.0
        await confirmed(asker)
        asker.send(ask())
        await world.learn()
        await asker.replies(1)
        forgotten = asyncio.Event()
        forget, asker.leases.on_ending = asker.leases.on_ending, forgotten.set
        world.end()
        await asyncio.wait_for(forgotten.wait(), 5)
        forget()
        world.acknowledges = False
        asker.send(ask(number=2))
        learn = await world.learn()
        assert len(asker.got) == 1
        world.answer(learn.request)
        await asker.replies(2)

    run(story)


def test_without_news_of_the_tracker_what_it_said_is_not_built_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.dns_filter.leases.CONFIRMED_FOR", 0.3)

    async def story(world: World) -> None:
        asker = Asker(world, Told())
        world.lease = 330.0
        await confirmed(asker)
        asker.send(ask())
        await world.learn()
        await asker.replies(1)
        world.confirms = world.acknowledges = False
        await until(lambda: not asker.leases.stand(asyncio.get_running_loop().time()))
        asker.send(ask(number=2))
        await world.learn()
        assert len(asker.got) == 1

    run(story)


@pytest.mark.parametrize(
    "config", [Config(whitelist=Whitelist(scope="client")), Config(tcp=Tcp(sni="enforce"))], ids=["scope", "sni"]
)
def test_where_more_than_the_address_matters_each_answer_is_leased_anew(config: Config) -> None:
    async def story(world: World) -> None:
        asker = Asker(world, Told())
        world.lease = 330.0
        await confirmed(asker)
        for number in (1, 2):
            asker.send(ask(number=number))
            assert (await world.learn()).spare == 0
            await asker.replies(number)

    run(story, config)


def test_aliases_are_told_to_the_tracker_in_their_order() -> None:
    records = ("www.example.com. 60 CNAME cdn.test.", "cdn.test. 60 CNAME edge.test.", "edge.test. 60 A 198.18.1.1")

    async def story(world: World) -> None:
        asker = Asker(world, Told(lambda asked: respond(asked, *records)))
        asker.send(ask())
        learn = await world.learn()
        assert (learn.name, learn.chain) == ("www.example.com", ["cdn.test", "edge.test"])

    run(story)
