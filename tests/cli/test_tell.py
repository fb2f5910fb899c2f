"""Asking a tracker, played by the test, over a real link."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from netstack.cli import tell
from netstack.cli.options import CommandError, NotHealthyError
from netstack.cli.tell import converse
from netstack.wire.bus import Bus
from netstack.wire.messages import VERSION, Join, Joined, ListLeases, Message, Told
from netstack.wire.topology import Topology

Answer = Callable[[Message], list[Message]]


def ask(short_path: Path, answer: Answer) -> list[Message]:
    async def main() -> list[Message]:
        bus = Bus(asyncio.get_running_loop())

        def heard(identity: bytes, message: Message) -> None:
            for said in answer(message):
                assert hub.send(identity, said)

        try:
            hub = bus.hub(Topology(short_path).whitelist, heard)
            return list(await converse(Topology(short_path), ListLeases(1, ""), "test"))
        finally:
            bus.close(0)

    return asyncio.run(main())


def test_every_part_of_the_answer_is_taken(short_path: Path) -> None:
    parts: list[Message] = [Told(1, ok=True, more=True, report="a"), Told(1, ok=True, more=False, report="b")]
    answers: dict[type, list[Message]] = {Join: [Joined(VERSION, "one", 0)], ListLeases: parts}
    assert ask(short_path, lambda message: answers[type(message)]) == parts


def test_another_version_is_refused_and_not_asked(short_path: Path) -> None:
    def answer(message: Message) -> list[Message]:
        assert isinstance(message, Join)
        return [Joined(VERSION + 1, "one", 0)]

    with pytest.raises(CommandError, match=f"speaks version {VERSION + 1}"):
        ask(short_path, answer)


@pytest.mark.parametrize("silent_at", [Join, ListLeases])
def test_silence_is_not_healthy(short_path: Path, monkeypatch: pytest.MonkeyPatch, silent_at: type) -> None:
    monkeypatch.setattr(tell, "_WITHIN", 0.2)
    with pytest.raises(NotHealthyError, match="did not answer within"):
        ask(short_path, lambda message: [] if isinstance(message, silent_at) else [Joined(VERSION, "one", 0)])
