"""Tracing packets across the queues.

Theory of operation. A packet being traced carries a 64-bit id from the moment tun_io reads it. The id travels in every
batch and message that the packet, or a consequence of it, is in; each process that touches it publishes a hop. Queue
wait (the batch was sent -> it was received) and service time are told apart. Nobody listening costs one test per batch:
`Tracer.active` is true only while somebody is subscribed to the events link's topic TOPIC.
"""

import secrets
import time
from typing import Final

from netstack.runtime.farclock import FarClock
from netstack.wire.bus import Publisher
from netstack.wire.messages import Traced, TraceHop

TOPIC: Final = b"trace"

OTHER_HOST: Final = "from another host: waited at least so long"
"""What is said of a queue wait between two clocks (netstack.runtime.farclock)."""


class Tracer:
    """Publishes the hops of one process."""

    def __init__(self, publisher: Publisher, stage: str, worker: str, far: FarClock | None = None) -> None:
        """`far` is tun_io's clock where tun_io is on another host: all times that are published are on it."""
        self.far = far
        self._publisher = publisher
        self._stage = stage
        self._worker = worker

    @property
    def active(self) -> bool:
        """Whether anybody listens."""
        return bool(self._publisher.topics) and self._publisher.wants(TOPIC)

    def new_id(self) -> int:
        """An id for a packet that is to be traced; never 0, which means "not traced"."""
        return secrets.randbits(63) | 1

    def hop(
        self,
        trace_id: int,
        event: str,
        *,
        at: float,
        queue_wait: float = 0.0,
        service: float | None = None,
        detail: str = "",
    ) -> None:
        """Say what was done with a traced packet; times in seconds, `at` from time.monotonic().

        service is the time since `at` where it is not given.
        """
        if trace_id == 0:
            return
        spent = time.monotonic() - at if service is None else service
        if self.far is not None:
            at = self.far.theirs(at)
        hop = TraceHop(trace_id, self._stage, self._worker, event, at, queue_wait, spent, detail)
        self._publisher.publish(TOPIC, hop)

    def received(self, traced: Traced, sent_at: float, event: str = "received") -> dict[int, int]:
        """A batch with traced packets came in: emit the queue hop of each, and give the ids by index in the batch."""
        now = time.monotonic()
        waited = now - sent_at
        detail = ""
        if self.far is not None:
            waited, detail = self.far.heard(sent_at, now), OTHER_HOST
        for _, trace_id in traced:
            self.hop(trace_id, event, at=now, queue_wait=waited, service=0.0, detail=detail)
        return {index: trace_id for index, trace_id in traced}  # noqa: C416  (dict() takes pairs, not lists, for mypy)
