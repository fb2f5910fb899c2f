"""What commands ask of the tracker, over its links."""

import asyncio
import math

import pytest

from netstack.wire.messages import (
    VERSION,
    Explain,
    Forbid,
    Join,
    Joined,
    Learned,
    LeaseChange,
    ListLeases,
    Message,
    NameRefused,
    NameRules,
    Pause,
    Permit,
    Told,
    Touch,
)
from netstack.wire.reports import DoneReport, LeaseReport, LeaseReports, WhyReport, decode
from services.tracker import commands as module
from tests.services.tracker.links import CLIENT, World, run

WEB, WEB_6 = bytes([198, 18, 0, 1]), bytes.fromhex("20010db8000000000000000000000001")
OTHER = bytes([198, 18, 0, 2])


async def told(world: World, question: Message) -> Told:
    world.cmd.say(question)
    answer = await world.cmd.hear()
    assert isinstance(answer, Told)
    return answer


async def done(world: World, question: Message) -> DoneReport:
    answer = await told(world, question)
    assert answer.ok, answer.report
    return decode(answer.report, DoneReport)


async def why(world: World, target: str) -> WhyReport:
    return decode((await told(world, Explain(1, target))).report, WhyReport)


async def leases(world: World, target: str = "") -> list[LeaseReport]:
    world.cmd.say(ListLeases(1, target))
    found: list[LeaseReport] = []
    while True:
        part = await world.cmd.hear()
        assert isinstance(part, Told)
        assert part.ok
        found += decode(part.report, LeaseReports).leases
        if not part.more:
            return found


async def ending(world: World) -> LeaseChange:
    """The next change that ends leases."""
    while (change := await world.changes.get()).expires_in > 0:
        pass
    return change


async def rules(world: World) -> NameRules:
    """What a dns_filter that joins is told, before it is told that it has joined."""
    world.dns.say(Join(VERSION, "dns_filter", "dns_filter-1", 0))
    said = await world.dns.hear()
    assert isinstance(said, NameRules)
    assert isinstance(await world.dns.hear(), Joined)
    return said


def test_leases_are_listed_whole_by_name_and_by_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LEASES_PER_PART", 3)

    async def story(world: World) -> None:
        assert await leases(world) == []
        many = [bytes([198, 18, 1, n]) for n in range(8)]
        await world.dns.learn("many.example", *many, chain=("cdn.example",))
        await world.dns.learn("www.example", WEB)
        listed = await leases(world)
        assert len(listed) == 9
        (shown,) = await leases(world, "198.18.1.3")
        assert (shown.names, shown.chain, shown.client) == (["many.example"], ["cdn.example"], "10.0.0.2")
        assert shown.rule == "answer"
        assert 299 < shown.expires_in <= 300
        assert [one.address for one in await leases(world, "WWW.example.")] == ["198.18.0.1"]

    run(story)


def test_why_tells_of_the_query_and_of_the_refusal() -> None:
    async def story(world: World) -> None:
        await world.fwd.check(WEB, 80)
        closed = await why(world, "198.18.0.1:80/tcp")
        assert (closed.open, closed.reason) == (False, "not-whitelisted")
        assert closed.refused is not None
        assert (closed.refused.client, closed.refused.detail) == ("10.0.0.2", "198.18.0.1:80/tcp")
        await world.dns.learn("www.example", WEB, chain=("cdn.example",))
        opened = await why(world, "198.18.0.1:80/tcp")
        assert opened.open
        assert (opened.leases[0].names, opened.leases[0].chain) == (["www.example"], ["cdn.example"])
        world.dns.say(NameRefused("ADS.example.", CLIENT, "name-denied", "list x, line 7"))
        refused = await why(world, "ads.example")
        assert (refused.reason, refused.because) == ("name-denied", "list x, line 7")

    run(story)


def test_an_endpoint_is_allowed_for_its_time_and_no_longer() -> None:
    async def story(world: World) -> None:
        assert (await done(world, Permit(1, "198.18.0.1:443/tcp", 0.3))).expires_in == 0.3
        verdict = await world.fwd.check(WEB)
        assert verdict.allowed
        assert verdict.expires_in <= 0.3
        assert not (await world.fwd.check(WEB, 80)).allowed
        while (await world.fwd.check(WEB)).allowed:
            await asyncio.sleep(0.02)

    run(story)


def test_an_allowed_name_is_open_for_its_time_and_what_is_established_goes_on() -> None:
    async def story(world: World) -> None:
        assert await rules(world) == NameRules([], [], lenient=False)
        await done(world, Permit(1, "dns.google", 1.5))
        assert await world.dns.hear() == NameRules(["dns.google"], [], lenient=False)
        google = bytes([8, 8, 8, 8])
        learned = await world.dns.learn("dns.google", google, ttl=3600)
        assert (learned.ok, learned.max_ttl) == (True, 1)
        verdict = await world.fwd.check(google, 853)
        assert verdict.allowed
        assert verdict.expires_in <= 1.5
        world.fwd.say(Touch([google]))  # a flow that uses it makes it no longer than that
        change = await ending(world)
        assert (change.addresses, change.expires_in) == ([google], -1.0)
        assert await world.dns.hear() == NameRules([], [], lenient=False)
        assert not (await world.fwd.check(google)).allowed

    run(story)


def test_a_denied_name_loses_its_leases_those_below_it_and_those_through_it() -> None:
    async def story(world: World) -> None:
        await rules(world)
        await world.dns.learn("www.example", WEB)
        await world.dns.learn("alias.test", WEB_6, chain=("cdn.example",))
        await world.dns.learn("other.test", OTHER)
        report = await done(world, Forbid(1, "Example", 0.0))
        assert await world.dns.hear() == NameRules([], ["example"], lenient=False)
        assert set(report.revoked) == {"198.18.0.1", "2001:db8::1"}
        change = await ending(world)
        assert (set(change.addresses), change.expires_in) == ({WEB, WEB_6}, 0.0)
        assert [one.address for one in await leases(world)] == ["198.18.0.2"]
        # What dns_filter had under way is refused; nothing of it is leased from here on.
        assert (await world.dns.learn("new.example", WEB))[1:3] == (False, "name-denied")
        assert (await world.dns.learn("new.test", WEB, chain=("x.example",)))[1:3] == (False, "name-denied")
        assert (await why(world, "www.example")).because == "`netstack deny example`"

    run(story)


def test_revoke_takes_back_what_commands_said() -> None:
    async def story(world: World) -> None:
        await done(world, Forbid(1, "www.example", 0.0))
        await done(world, Permit(1, "198.18.0.2:443/tcp", 0.0))
        assert await world.cmd.revoke("www.example") == 0
        assert (await world.dns.learn("www.example", WEB)).ok
        assert (await world.fwd.check(OTHER)).allowed
        assert await world.cmd.revoke("198.18.0.2:443/tcp") == 0
        assert (await ending(world)).addresses == [OTHER]
        assert not (await world.fwd.check(OTHER)).allowed

    run(story)


def test_revoking_an_allowed_name_ends_what_was_leased_by_it() -> None:
    async def story(world: World) -> None:
        await done(world, Permit(1, "example", 0.0))
        await world.dns.learn("www.example", WEB)
        assert await world.cmd.revoke("example") == 1
        change = await ending(world)
        assert (change.addresses, change.expires_in) == ([WEB], 0.0)

    run(story)


def test_a_pause_lets_everything_through_says_so_and_ends_by_itself() -> None:
    async def story(world: World) -> None:
        await rules(world)
        assert (await done(world, Pause(1, 0.3))).expires_in == 0.3
        assert (await world.dns.hear()).lenient
        verdict = await world.fwd.check(OTHER, 853)
        assert verdict.allowed
        assert verdict.expires_in <= 0.3
        assert "paused until" in world.runtime.counters.notes["pause"]
        assert not (await world.dns.hear()).lenient
        assert "pause" not in world.runtime.counters.notes
        assert not (await world.fwd.check(OTHER, 853)).allowed
        await done(world, Pause(1, 60.0))
        assert (await done(world, Pause(1, 0.0))).done == "the pause is over"
        assert not (await world.fwd.check(OTHER)).allowed

    run(story)


@pytest.mark.parametrize(
    ("question", "said"),
    [
        (Permit(1, "www.example:80", 0.0), "a name stands without a port"),
        (Permit(1, "192.0.2.1/24", 0.0), "has host bits set"),
        (Permit(1, "192.0.2.1:0", 0.0), "is no port"),
        (Permit(1, "a b", 0.0), "must be a domain name"),
        (Permit(1, "www.example", -1.0), "--for must be"),
        (Permit(1, "www.example", math.nan), "--for must be"),
        (Forbid(1, "192.0.2.1:80", 0.0), "an address is closed unless"),
        (Forbid(1, "192.0.2.1", 0.0), "an address is closed unless"),
        (Forbid(1, "2001:db8::1", 0.0), "an address is closed unless"),
        (Forbid(1, "a b", 0.0), "must be a domain name"),
        (Forbid(1, "www.example", math.inf), "--for must be"),
        (Pause(1, -1.0), "must be from"),
        (Pause(1, math.nan), "must be from"),
        (Explain(1, "192.0.2.1:x"), "is no port"),
        (ListLeases(1, "a b"), "must be a domain name"),
    ],
)
def test_what_makes_no_sense_is_said_and_changes_nothing(question: Message, said: str) -> None:
    async def story(world: World) -> None:
        answer = await told(world, question)
        assert not answer.ok
        assert said in answer.report
        assert await rules(world) == NameRules([], [], lenient=False)

    run(story)


def test_what_was_said_is_known_to_the_tracker_after_this_one(tmp_path) -> None:
    async def first(world: World) -> None:
        await done(world, Forbid(1, "ads.example", 0.0))
        await done(world, Permit(1, "198.18.0.2", 0.0))
        await world.dns.learn("www.example", WEB)
        world.fwd.say(Touch([WEB]))

    async def second(world: World) -> None:
        assert await rules(world) == NameRules([], ["ads.example"], lenient=False)
        assert (await world.fwd.check(OTHER)).allowed
        assert (await world.fwd.check(WEB)).names == ["www.example"]

    run(first, directory=tmp_path)
    run(second, directory=tmp_path)


def test_where_an_answer_opens_its_addresses_for_the_client_alone() -> None:
    async def story(world: World) -> None:
        learned = await world.dns.learn("www.example", WEB)
        assert isinstance(learned, Learned)
        assert (await world.fwd.check(WEB)).allowed
        assert not (await world.fwd.check(WEB, client=bytes([10, 0, 0, 3]))).allowed
        world.fwd.say(Touch([WEB]))
        await world.dns.learn("www.example", WEB, client=bytes([10, 0, 0, 3]))
        assert (await world.fwd.check(WEB, client=bytes([10, 0, 0, 3]))).allowed
        assert world.changes.empty(), "no forwarder may decide by itself"
        assert (await leases(world))[0].clients == ["10.0.0.2", "10.0.0.3"]

    run(story, whitelist={"scope": "client"})
