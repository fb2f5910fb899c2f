"""The link to the tracker."""

import logging

import pytest

from netstack.packet.reason import Reason
from netstack.wire.messages import Learned, Several
from services.dns_filter import leases as module
from services.dns_filter.leases import Confirmation, Leases, Wanted
from tests.services.dns_filter.messages import address
from tests.services.dns_filter.tracker_link import World, run, until

WEB = address("198.18.1.1")
CLIENT = bytes([10, 0, 0, 2])


class Told(list[Confirmation]):
    """What `then` was called with."""

    def ask(self, leases: Leases, name: str = "www.example.com") -> None:
        leases.learn(Wanted([name, "cdn.example"], [WEB], 60, CLIENT, 7, 30), self.append)


def test_tracker_is_told_and_its_word_comes_back() -> None:
    async def story(world: World) -> None:
        leases, told = Leases(world.runtime, lambda: None), Told()
        told.ask(leases)
        assert leases.pending == 1
        learn = await world.learn()
        assert learn[1:] == ("www.example.com", [WEB], 60, CLIENT, 7, ["cdn.example"], 30)
        await until(lambda: told)
        assert told == [Confirmation(ok=True, max_ttl=240, reason="")]
        assert leases.pending == 0

    run(story)


def test_answers_belong_to_their_requests_and_count_once() -> None:
    async def story(world: World) -> None:
        world.acknowledges = False
        leases, one, two = Leases(world.runtime, lambda: None), Told(), Told()
        one.ask(leases, "one.test")
        two.ask(leases, "two.test")
        first, second = await world.learn(), await world.learn()
        world.answer(second.request, ok=False, reason="whitelist-full", max_ttl=0)
        world.answer(second.request)
        world.answer(9999)
        world.answer(first.request, max_ttl=5)
        await until(lambda: one and two)
        assert (one, two) == (
            [Confirmation(ok=True, max_ttl=5, reason="")],
            [Confirmation(ok=False, max_ttl=0, reason="whitelist-full")],
        )

    run(story)


def test_what_one_turn_of_the_loop_asks_and_hears_goes_in_one_message() -> None:
    async def story(world: World) -> None:
        leases, told = Leases(world.runtime, lambda: None), [Told() for _ in range(100)]
        for number, each in enumerate(told):
            each.ask(leases, f"n{number}.test")
        assert len(leases._unsaid) == 100
        await until(lambda: all(told))
        assert [len(several) for several in world.several] == [64, 36]
        learned = [world.learned.get_nowait().name for _ in range(100)]
        assert learned == [f"n{number}.test" for number in range(100)], "in order"
        world.acknowledges = False
        one, two = Told(), Told()
        one.ask(leases, "one.test")
        await world.learn()
        two.ask(leases, "two.test")
        await world.learn()
        assert len(world.several) == 2, "alone each is what it is"
        assert world.hub.send(b"dns_filter-1", Several([Learned(101, True, "", 5), Learned(102, True, "", 6)]))
        await until(lambda: one and two)
        assert [one[0].max_ttl, two[0].max_ttl] == [5, 6]

    run(story)


def test_silence_is_a_no_after_its_time_and_a_late_word_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ANSWER_WITHIN", 0.05)

    async def story(world: World) -> None:
        world.acknowledges = False
        leases, told = Leases(world.runtime, lambda: None), Told()
        told.ask(leases)
        learn = await world.learn()
        await until(lambda: told)
        assert not told[0].ok
        assert told[0].reason.startswith("no answer within")
        world.answer(learn.request)
        world.acknowledges = True
        told.ask(leases)
        await until(lambda: len(told) == 2)
        assert told[1].ok

    run(story)


def test_requests_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_PENDING", 1)

    async def story(world: World) -> None:
        world.acknowledges = False
        leases, one, two = Leases(world.runtime, lambda: None), Told(), Told()
        one.ask(leases)
        two.ask(leases)
        assert two == [Confirmation(ok=False, max_ttl=0, reason="the tracker is behind")]
        assert one == []

    run(story)


def test_each_tracker_that_is_new_is_noticed_once() -> None:
    async def story(world: World) -> None:
        joined: list[str] = []
        Leases(world.runtime, lambda: joined.append(world.instance))
        await until(lambda: joined)
        await until(lambda: world.joins == 2)
        world.instance = "two"
        await until(lambda: len(joined) == 2)
        assert joined == ["one", "two"]

    run(story)


def test_tracker_of_another_version_is_not_used(caplog: pytest.LogCaptureFixture) -> None:
    async def story(world: World) -> None:
        world.version += 1
        joined: list[None] = []
        Leases(world.runtime, lambda: joined.append(None))
        await until(lambda: world.runtime.counters.drops)
        assert world.runtime.counters.drops == {Reason.WRONG_VERSION: 1}
        assert joined == []

    with caplog.at_level(logging.ERROR):
        run(story)
    assert "tracker speaks version" in caplog.text


def test_the_tracker_is_asked_again_and_again_whether_leases_stand_and_says_when_one_was_ended() -> None:
    async def story(world: World) -> None:
        leases = Leases(world.runtime, lambda: None)
        endings: list[None] = []
        leases.on_ending = lambda: endings.append(None)
        assert not leases.stand(world.runtime.loop.time())
        await until(lambda: leases.stand(world.runtime.loop.time()))
        assert len(endings) == 1, "nothing is known of a tracker that was not heard of before"
        asked = world.runtime.loop.time()
        await until(lambda: leases.stand(asked + module.CONFIRMED_FOR - 0.01))
        assert len(endings) == 1
        world.confirms = False
        world.end()
        await until(lambda: len(endings) == 2)
        assert not leases.stand(world.runtime.loop.time() + module.CONFIRMED_FOR), "that is no word of now"
        world.instance, world.confirms = "two", True
        await until(lambda: len(endings) == 3)

    run(story)
