"""A forwarder's side of the whitelist link, over real sockets; the test plays the tracker."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import zmq

from netstack.packet.reason import Reason
from netstack.runtime import whitelist
from netstack.runtime.config import Config
from netstack.runtime.leased_names import LeasedNames
from netstack.runtime.service import Runtime
from netstack.runtime.whitelist import Decision, Whitelist
from netstack.wire.bus import Bus, Hub, Publisher
from netstack.wire.messages import VERSION, Check, Join, Joined, LeaseChange, Message, Touch, Verdict
from netstack.wire.topology import Topology
from tests.inbox import Inbox

CLIENT, SERVER, OTHER = bytes([10, 0, 0, 2]), bytes([192, 0, 2, 1]), bytes([192, 0, 2, 2])
TCP = 6
WORKER = b"tcp_fwd-1"

YES = Decision(allowed=True, reason="", names=())
TRACKER_DOWN = Decision(allowed=False, reason="tracker-down", names=())


@pytest.fixture(autouse=True)
def short_times(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in {"_SWEEP": 0.01, "_TOUCH": 0.01, "_JOIN": 0.05}.items():
        monkeypatch.setattr(whitelist, name, seconds)


class Tracker:
    """What the far side of the link hears and says."""

    def __init__(self, bus: Bus, topology: Topology) -> None:
        self.heard = Inbox()
        self.subscribed = Inbox()
        self.hub: Hub = bus.hub(topology.whitelist, self.heard)
        self.changes: Publisher = bus.publisher(topology.changes, bind=True)
        self.changes.on_subscribe = self.subscribed

    def say(self, message: Message) -> None:
        assert self.hub.send(WORKER, message)

    async def check(self) -> Check:
        """The next question; those before are forgotten."""
        question: Check = await self.heard.first(Check)
        self.heard.items.clear()
        return question


@asynccontextmanager
async def forwarder(
    run_dir: Path, on_joined: Inbox | None = None, on_revoked: Inbox | None = None
) -> AsyncIterator[tuple[Whitelist, Runtime]]:
    runtime = Runtime("tcp_fwd", WORKER.decode(), Config(), Topology(run_dir))
    yield Whitelist(runtime, on_joined=on_joined or Inbox(), on_revoked=on_revoked or Inbox()), runtime
    runtime.stop()
    runtime.bus.close(linger=0)


@asynccontextmanager
async def tracker(run_dir: Path) -> AsyncIterator[Tracker]:
    bus = Bus(asyncio.get_running_loop())
    try:
        yield Tracker(bus, Topology(run_dir))
    finally:
        bus.close(linger=0)


def run(test: Callable[[Path], Awaitable[None]]) -> Callable[[Path], None]:
    """A test that is a coroutine."""

    def wrapper(run_dir: Path) -> None:
        asyncio.run(test(run_dir))  # type: ignore[arg-type]

    wrapper.__name__, wrapper.__doc__ = test.__name__, test.__doc__
    return wrapper


@run
async def test_what_is_leased_is_decided_at_once_and_nobody_is_asked(run_dir: Path) -> None:
    async with tracker(run_dir) as far, forwarder(run_dir) as (wl, _runtime):
        await far.subscribed.until(1)
        far.changes.publish(b"", LeaseChange([SERVER], ["www.example.com"], 300.0, 0))
        async with asyncio.timeout(20):
            while not len(wl.replica):
                await asyncio.sleep(0)
        decisions = Inbox()
        wl.check(CLIENT, SERVER, 443, TCP, 0, decisions)
        assert decisions.items == [YES]
        await far.heard.first(Join)
        assert far.heard.of(Check) == []


@run
async def test_a_miss_is_asked_and_a_yes_is_remembered(run_dir: Path) -> None:
    async with tracker(run_dir) as far, forwarder(run_dir) as (wl, _runtime):
        decisions = Inbox()
        wl.check(CLIENT, SERVER, 443, TCP, 77, decisions)
        assert decisions.items == []
        question = await far.check()
        assert question == Check(question.request, CLIENT, SERVER, 443, TCP, 77)
        far.say(Verdict(question.request, True, "", ["www.example.com"], 300.0, 0))
        assert await decisions.until(1) == [Decision(True, "", ("www.example.com",))]
        wl.check(CLIENT, SERVER, 443, TCP, 0, decisions)
        assert decisions.items[1:] == [YES]


@run
async def test_a_no_is_not_remembered_since_a_lease_may_be_on_its_way(run_dir: Path) -> None:
    async with tracker(run_dir) as far, forwarder(run_dir) as (wl, _runtime):
        decisions = Inbox()
        for count in (1, 2):
            wl.check(CLIENT, SERVER, 443, TCP, 0, decisions)
            question = await far.check()
            far.say(Verdict(question.request, False, "not-whitelisted", [], 0.0, 0))
            assert (await decisions.until(count))[-1] == Decision(False, "not-whitelisted", ())


@run
async def test_equal_questions_in_flight_are_asked_once_and_all_are_answered(run_dir: Path) -> None:
    async with tracker(run_dir) as far, forwarder(run_dir) as (wl, _runtime):
        first, second, other = Inbox(), Inbox(), Inbox()
        wl.check(CLIENT, SERVER, 443, TCP, 0, first)
        wl.check(CLIENT, SERVER, 443, TCP, 0, second)
        wl.check(CLIENT, SERVER, 80, TCP, 0, other)
        while len(far.heard.of(Check)) < 2:
            await far.heard.until(len(far.heard.items) + 1)
        https, http = far.heard.of(Check)
        assert (https.port, http.port) == (443, 80)
        far.say(Verdict(http.request, False, "not-whitelisted", [], 0.0, 0))
        far.say(Verdict(https.request, True, "", [], 1.0, 0))
        assert [d.allowed for d in await first.until(1) + await second.until(1) + await other.until(1)] == [1, 1, 0]


def test_a_question_without_an_answer_is_a_no_in_time(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whitelist, "ANSWER_WITHIN", 0.05)

    async def scenario() -> None:
        async with forwarder(run_dir) as (wl, runtime):
            decisions = Inbox()
            began = runtime.loop.time()
            wl.check(CLIENT, SERVER, 443, TCP, 0, decisions)
            wl.check(CLIENT, OTHER, 443, TCP, 0, decisions)
            assert await decisions.until(2) == [TRACKER_DOWN] * 2
            assert runtime.loop.time() - began >= 0.05
            async with tracker(run_dir) as far:
                question = await far.check()
                far.say(Verdict(question.request, True, "", [], 300.0, 0))
                wl.check(CLIENT, SERVER, 443, TCP, 0, decisions)
                while (question := await far.check()).request <= 2:
                    pass
                far.say(Verdict(question.request, True, "", [], 300.0, 0))
                assert (await decisions.until(3))[2].allowed, "a late answer is passed over, the next one counts"

    asyncio.run(scenario())


def test_while_the_tracker_is_away_nothing_piles_up(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whitelist, "ANSWER_WITHIN", 0.0)

    async def scenario() -> None:
        async with forwarder(run_dir) as (wl, _runtime):
            decisions = Inbox()
            for number in range(5000):
                wl.check(CLIENT, number.to_bytes(4, "big"), 443, TCP, 0, decisions)
                wl.use(number.to_bytes(4, "big"))
                wl._sweep()
                wl._send_touched()
                wl._join()
            assert decisions.items == [TRACKER_DOWN] * 5000
            assert wl._peer.waiting <= 1

    asyncio.run(scenario())


@run
async def test_dns_over_tls_is_asked_in_spite_of_a_lease(run_dir: Path) -> None:
    async with tracker(run_dir) as far, forwarder(run_dir) as (wl, runtime):
        wl.replica.lease([SERVER], 300.0, runtime.loop.time())
        wl.check(CLIENT, SERVER, 853, TCP, 0, Inbox())
        assert (await far.check()).port == 853


@run
async def test_what_is_revoked_is_said_and_asked_again(run_dir: Path) -> None:
    revoked = Inbox()
    async with tracker(run_dir) as far, forwarder(run_dir, on_revoked=revoked) as (wl, runtime):
        await far.subscribed.until(1)
        wl.replica.lease([SERVER, OTHER], 300.0, runtime.loop.time())
        far.changes.publish(b"", LeaseChange([SERVER], [], 0.0, 1))
        assert await revoked.until(1) == [[SERVER]]
        wl.check(CLIENT, SERVER, 443, TCP, 0, Inbox())
        assert (await far.check()).address == SERVER


@run
async def test_a_yes_that_a_revocation_overtook_is_asked_for_again(run_dir: Path) -> None:
    revoked = Inbox()
    async with tracker(run_dir) as far, forwarder(run_dir, on_revoked=revoked) as (wl, _runtime):
        await far.subscribed.until(1)
        decisions = Inbox()
        wl.check(CLIENT, SERVER, 443, TCP, 0, decisions)
        wl.check(CLIENT, OTHER, 443, TCP, 0, decisions)
        while len(far.heard.of(Check)) < 2:
            await far.heard.until(len(far.heard.items) + 1)
        first, other = far.heard.of(Check)
        far.heard.items.clear()
        far.changes.publish(b"", LeaseChange([SERVER], [], 0.0, 7))
        await revoked.until(1)
        far.say(Verdict(first.request, True, "", ["old.example"], 300.0, 6))
        far.say(Verdict(other.request, True, "", ["other.example"], 300.0, 6))
        assert await decisions.until(1) == [Decision(True, "", ("other.example",))]
        again = await far.check()
        assert again == first._replace(request=again.request)
        far.say(Verdict(again.request, True, "", ["new.example"], 300.0, 7))
        assert (await decisions.until(2))[1] == Decision(True, "", ("new.example",))


@run
async def test_a_revocation_that_was_lost_is_noticed_by_its_gap_and_caught_up_with(run_dir: Path) -> None:
    revoked = Inbox()
    async with tracker(run_dir) as far, forwarder(run_dir, on_revoked=revoked) as (wl, runtime):
        await far.subscribed.until(1)
        await far.heard.first(Join)
        far.say(Joined(VERSION, "first", 4))
        async with asyncio.timeout(20):
            while (await far.heard.first(Join)).epoch != 4:
                far.heard.items.clear()
        wl.replica.lease([SERVER, OTHER], 300.0, runtime.loop.time())
        far.changes.publish(b"", LeaseChange([OTHER], [], 0.0, 6))  # the fifth was lost
        await revoked.until(1)
        far.heard.items.clear()
        assert (await far.heard.first(Join)).epoch == 4, "so it still says"
        far.say(LeaseChange([SERVER], [], 0.0, 5))
        far.say(LeaseChange([OTHER], [], 0.0, 6))
        assert await revoked.until(3) == [[OTHER], [SERVER], [OTHER]]
        assert len(wl.replica) == 0
        far.heard.items.clear()
        async with asyncio.timeout(20):
            while (await far.heard.first(Join)).epoch != 6:
                far.heard.items.clear()


@run
async def test_a_lease_that_is_over_is_forgotten_and_no_flow_is_cut(run_dir: Path) -> None:
    revoked = Inbox()
    async with tracker(run_dir) as far, forwarder(run_dir, on_revoked=revoked) as (wl, runtime):
        await far.subscribed.until(1)
        wl.replica.lease([SERVER], 300.0, runtime.loop.time())
        far.changes.publish(b"", LeaseChange([SERVER], [], -1.0, 1))
        async with asyncio.timeout(20):
            while len(wl.replica):
                await asyncio.sleep(0)
        assert revoked.items == []


@run
async def test_addresses_in_use_are_reported_together_and_once_in_a_while(run_dir: Path) -> None:
    async with tracker(run_dir) as far, forwarder(run_dir) as (wl, _runtime):
        for address in (SERVER, OTHER, SERVER, OTHER):
            wl.use(address)
        touch = await far.heard.first(Touch)
        assert sorted(touch.addresses) == [SERVER, OTHER]
        wl.use(SERVER)
        far.heard.items.clear()
        await far.heard.first(Join)
        assert far.heard.of(Touch) == []


@run
async def test_a_tracker_that_restarts_is_joined_again(run_dir: Path) -> None:
    joined = Inbox()
    async with forwarder(run_dir, on_joined=lambda: joined("joined")) as (_wl, _runtime):  # type: ignore[arg-type]
        async with tracker(run_dir) as far:
            assert await far.heard.first(Join) == Join(VERSION, "tcp_fwd", "tcp_fwd-1", 0)
            far.say(Joined(VERSION, "first", 0))
            far.say(Joined(VERSION, "first", 0))
            await joined.until(1)
        async with tracker(run_dir) as far:
            await far.heard.first(Join)
            far.say(Joined(VERSION, "second", 0))
            assert await joined.until(2) == ["joined", "joined"]


@run
async def test_a_tracker_of_another_version_is_not_believed(run_dir: Path) -> None:
    joined = Inbox()
    async with tracker(run_dir) as far, forwarder(run_dir, on_joined=joined) as (wl, runtime):
        await far.heard.first(Join)
        for _ in range(2):
            far.say(Joined(VERSION + 1, "newer", 0))
        decisions = Inbox()
        wl.check(CLIENT, SERVER, 443, TCP, 0, decisions)
        far.say(Verdict((await far.check()).request, True, "", [], 300.0, 0))
        assert await decisions.until(1) == [TRACKER_DOWN]
        assert runtime.counters.drops == {Reason.WRONG_VERSION.value: 1}
        assert joined.items == []


def test_no_more_is_asked_at_a_time_than_can_be_kept(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whitelist, "_MAX_ASKED", 2)

    async def scenario() -> None:
        async with forwarder(run_dir) as (wl, _runtime):
            decisions = Inbox()
            for last in range(3):
                wl.check(CLIENT, bytes([192, 0, 2, last]), 443, TCP, 0, decisions)
            assert decisions.items == [TRACKER_DOWN]

    asyncio.run(scenario())


@run
async def test_messages_that_are_for_others_are_passed_over(run_dir: Path) -> None:
    async with tracker(run_dir) as far, forwarder(run_dir) as (_wl, runtime):
        await far.heard.first(Join)
        far.say(Touch([]))
        far.changes.publish(b"", Touch([]))
        far.hub.socket.send_multipart([WORKER, b"garbage"], zmq.NOBLOCK)
        async with asyncio.timeout(20):
            while not runtime.counters.drops:
                await asyncio.sleep(0)
        assert runtime.counters.drops == {Reason.MALFORMED_FRAME.value: 1}


# --- names ------------------------------------------------------------------------------------------------------------


@run
async def test_the_names_of_answers_and_verdicts_are_kept_for_whoever_wants_them(run_dir: Path) -> None:
    async with tracker(run_dir) as far, forwarder(run_dir) as (wl, runtime):
        wl.names = names = LeasedNames()
        now = runtime.loop.time()
        await far.subscribed.until(1)
        far.changes.publish(b"", LeaseChange([SERVER], ["a.test"], 300.0, 0))
        far.changes.publish(b"", LeaseChange([SERVER, OTHER], ["a.test", "b.test"], 600.0, 0))  # a Touch of both
        async with asyncio.timeout(20):
            while len(wl.replica) < 2:
                await asyncio.sleep(0)
        assert names.has(SERVER, "a.test", now + 500)
        assert not names.has(SERVER, "b.test", now)
        assert names.has(OTHER, "b.test", now + 500)
        decisions = Inbox()
        wl.ask(CLIENT, OTHER, 443, TCP, 0, decisions)
        question = await far.check()
        far.say(Verdict(question.request, True, "", ["b.test", "c.test"], 300.0, 0))
        assert await decisions.until(1) == [Decision(True, "", ("b.test", "c.test"))]
        assert names.has(OTHER, "c.test", now)
        far.changes.publish(b"", LeaseChange([OTHER], [], 0.0, 0))
        async with asyncio.timeout(20):
            while len(wl.replica) == 2:
                await asyncio.sleep(0)
        assert not names.has(OTHER, "c.test", now)


@run
async def test_who_asks_is_answered_by_the_tracker_whatever_the_replica_knows(run_dir: Path) -> None:
    async with tracker(run_dir) as far, forwarder(run_dir) as (wl, runtime):
        wl.replica.lease([SERVER], 300.0, runtime.loop.time())
        decisions = Inbox()
        wl.ask(CLIENT, SERVER, 443, TCP, 9, decisions)
        question = await far.check()
        assert question == Check(question.request, CLIENT, SERVER, 443, TCP, 9)
        far.say(Verdict(question.request, False, "not-whitelisted", [], 0.0, 0))
        assert await decisions.until(1) == [Decision(False, "not-whitelisted", ())]
