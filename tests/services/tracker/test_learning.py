"""How the addresses of answers come to be leased, over the links, in this process."""

from collections.abc import Sequence

import pytest

from netstack.wire.messages import Learn, Learned, Message, Revoke, Revoked, Several
from services.tracker import service
from services.tracker.leases import Origin
from services.tracker.memory import MemoryStore
from tests.services.tracker.links import CLIENT, World, run

WEB, OTHER = bytes([198, 18, 0, 1]), bytes([198, 18, 0, 2])


def asks(number: int, *addresses: bytes, name: str = "www.example") -> Learn:
    return Learn(number, name, list(addresses), 60, CLIENT, 0, [], 30)


def test_what_is_asked_together_is_answered_and_told_together() -> None:
    async def story(world: World) -> None:
        world.dns.say(Several([asks(1, WEB), asks(2), asks(3, OTHER, name="b.example"), asks(4, name="x" * 1025)]))
        stored = [Learned(number, ok=True, reason="", max_ttl=240, lease=330.0) for number in (1, 2, 3)]
        assert await world.dns.hear() == Several([*stored])
        change = await world.changes.get()
        assert change[:3] == ([WEB, OTHER], ["www.example", "b.example"], 330.0)
        assert world.drops == {"malformed-frame": 1}, "the name that is too long"

    run(story)


def test_what_was_learned_is_told_before_its_end() -> None:
    async def story(world: World) -> None:
        await world.dns.join()
        world.dns.say(Several([asks(1, WEB), Revoke(2, "www.example")]))
        heard: list[Message] = [await world.dns.hear(), await world.dns.hear()]
        assert heard == [Learned(1, ok=True, reason="", max_ttl=240, lease=330.0), Revoked(2, 1)]
        assert [(await world.changes.get()).expires_in for _ in range(2)] == [330.0, 0.0]

    run(story)


class SlowStore(MemoryStore):
    """Keeps leases elsewhere, as it were: whoever learns has to wait, until something has been done."""

    world: World

    def learn_at_once(self, name: str, addresses: Sequence[bytes], seconds: float, origin: Origin) -> bool:
        return False

    async def learn(self, name: str, addresses: Sequence[bytes], seconds: float, origin: Origin) -> None:
        super().learn_at_once(name, addresses, seconds, origin)
        assert await self.world.cmd.revoke("198.18.0.1") == 1


def test_a_lease_during_which_one_was_ended_is_not_to_be_built_on(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(world: World) -> None:
        SlowStore.world = world
        assert (await world.dns.learn("www.example", WEB, spare=30))[1:] == (True, "", 240, 0.0)

    monkeypatch.setattr(service, "MemoryStore", SlowStore)
    run(story)


def test_beyond_what_may_wait_answers_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(world: World) -> None:
        SlowStore.world = world
        learned = await world.dns.learn("www.example", WEB)
        assert (learned.ok, learned.reason) == (False, "queue-full")
        assert world.drops == {"queue-full": 1}

    monkeypatch.setattr(service, "MemoryStore", SlowStore)
    monkeypatch.setattr(service, "_MAX_WORK", 0)
    run(story)
