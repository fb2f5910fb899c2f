"""Speaking to the tracker of an instance: one question over the whitelist link, and its answer."""

import asyncio
import os
import secrets
from collections.abc import Callable
from typing import Final

from netstack.cli import rundir
from netstack.cli.options import CommandError, Common, NotHealthyError, UsageError
from netstack.wire.bus import Bus
from netstack.wire.messages import VERSION, Join, Joined, Message, Revoked, Told
from netstack.wire.topology import Topology

_WITHIN: Final = 3.0  # seconds for each part of an answer; it takes milliseconds, and 1.4 s where the store is slow


def ask(common: Common, question: Message) -> list[Told | Revoked]:
    """Ask the tracker of the instance that the options name; every part of the answer.

    NotHealthyError where it does not answer, UsageError where it says that the question makes no sense.
    """
    run_dir = (common.run_dir or rundir.default_run_dir(os.geteuid(), os.environ)).absolute()
    name = rundir.the_only(run_dir, common.instance)
    parts = asyncio.run(converse(Topology(run_dir / name), question, name))
    for part in parts:
        if isinstance(part, Told) and not part.ok:
            raise UsageError(part.report)
    return parts


def report(common: Common, question: Message) -> str:
    """The answer to a question that has one part: the JSON of a report."""
    (told,) = ask(common, question)
    assert isinstance(told, Told)
    return told.report


async def converse(topology: Topology, question: Message, name: str) -> list[Told | Revoked]:
    """Join, ask, and take the answer; raises NotHealthyError."""
    heard: asyncio.Queue[Message] = asyncio.Queue()
    bus = Bus(asyncio.get_running_loop())
    try:
        identity = f"command-{secrets.token_hex(8)}"
        peer = bus.peer(topology.whitelist, identity, heard.put_nowait)
        peer.send(Join(VERSION, "command", identity, 0))
        joined = await _next(heard, name, lambda message: isinstance(message, Joined))
        assert isinstance(joined, Joined)
        if joined.version != VERSION:
            raise CommandError(
                f"instance {name} speaks version {joined.version} of the frames, this command {VERSION}: use the "
                "netstack that started it"
            )
        peer.send(question)
        parts: list[Told | Revoked] = []
        while not parts or getattr(parts[-1], "more", False):
            part = await _next(heard, name, lambda message: isinstance(message, Told | Revoked))
            assert isinstance(part, Told | Revoked)
            parts.append(part)
        return parts
    finally:
        bus.close(0)


async def _next(heard: "asyncio.Queue[Message]", name: str, wanted: Callable[[Message], bool]) -> Message:
    try:
        async with asyncio.timeout(_WITHIN):
            while not wanted(message := await heard.get()):
                pass
    except TimeoutError:
        raise NotHealthyError(
            f"the tracker of instance {name} did not answer within {_WITHIN:.0f} s; `netstack status` shows how it is"
        ) from None
    return message
