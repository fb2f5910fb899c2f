"""Asking the processes of an instance how they are: a subscription that each answers with a Sample."""

import asyncio
import secrets
from collections.abc import Collection
from typing import Final

from netstack.runtime.service import SAMPLE_TOPIC
from netstack.wire.bus import Bus
from netstack.wire.curve import Curve
from netstack.wire.messages import Message, Sample
from netstack.wire.topology import Topology

_AT_MOST: Final = 1.0  # seconds for an answer; it takes milliseconds
_QUIET: Final = 0.25  # seconds without an answer, where nobody knows how many there are


async def samples(topology: Topology, expected: Collection[str], curve: Curve | None = None) -> list[Sample]:
    """What the processes answer; returns as soon as all expected workers have. Those that hang are not in it."""
    loop = asyncio.get_running_loop()
    answers: dict[str, Sample] = {}
    came = asyncio.Event()

    def on_message(_topic: bytes, message: Message) -> None:
        if isinstance(message, Sample):
            answers[message.worker] = message
            came.set()

    bus = Bus(loop, curve=curve)
    try:
        bus.subscriber(topology.events_out, [SAMPLE_TOPIC + b"." + secrets.token_hex(8).encode()], on_message)
        until = loop.time() + _AT_MOST
        while not expected or not answers.keys() >= set(expected):
            patience = _QUIET if answers and not expected else until - loop.time()
            came.clear()
            try:
                await asyncio.wait_for(came.wait(), min(patience, until - loop.time()))
            except TimeoutError:
                break
    finally:
        bus.close(0)
    return list(answers.values())
