"""Who works, and which flow is whose: sticky spreading over the workers of each stage. No I/O, no clock.

A new flow goes to the worker of its stage with the fewest flows, and stays there until the worker says that it is
over. A worker that drains keeps what it has and gets nothing new. When a worker is lost its flows are given back to
the caller, who makes the clients notice.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

SILENT_AFTER: Final = 2.0
"""Seconds; a worker silent for so long is gone."""

ADOPTION: Final = 2.0
"""Seconds after the start in which workers say which flows they have.

A segment of a flow that nobody has claimed yet must not reach a worker that would reset it; its client sends it again.
"""


@dataclass
class Worker:
    """One process of a stage."""

    identity: bytes
    stage: str
    pid: int
    last_heard: float
    draining: bool = False
    flows: set[bytes] = field(default_factory=set)


class Roster:
    """The workers, and the flow table."""

    def __init__(self, max_flows: int, now: float) -> None:
        """max_flows bounds each stage's table; beyond it new flows are refused."""
        self._max_flows = max_flows
        self._adopting_until = now + ADOPTION
        self._workers: dict[bytes, Worker] = {}
        self.tcp_owners: dict[bytes, Worker] = {}
        """Whose which TCP flow is; for looking up only."""
        self._owners: dict[str, dict[bytes, Worker]] = {"tcp_fwd": self.tcp_owners}
        self._next = 0

    def __contains__(self, identity: bytes) -> bool:
        return identity in self._workers

    @property
    def workers(self) -> Iterable[Worker]:
        """All of them."""
        return self._workers.values()

    def stage_of(self, identity: bytes) -> str:
        """The stage of one of them."""
        return self._workers[identity].stage

    def stages(self) -> set[str]:
        """The stages that have a worker."""
        return {worker.stage for worker in self._workers.values()}

    def flows(self, stage: str) -> int:
        """How many flows of a stage are known."""
        return len(self._owners.get(stage, ()))

    def hello(self, identity: bytes, stage: str, pid: int, flows: list[bytes], now: float) -> list[bytes]:
        """A worker is there, with these flows. Gives the flows of the process it took the place of, if any."""
        lost: list[bytes] = []
        known = self._workers.get(identity)
        if known is not None and (known.pid != pid or known.stage != stage):
            lost = self.remove(identity)
            known = None
        if known is None:
            known = self._workers[identity] = Worker(identity, stage, pid, now)
        known.last_heard = now
        owners = self._owners.setdefault(stage, {})
        for key in flows:
            self._own(owners, key, known)
        claimed = set(flows)
        return [key for key in lost if key not in claimed]

    def heard(self, identity: bytes, now: float) -> None:
        """A worker gave a sign of life."""
        self._workers[identity].last_heard = now

    def drain(self, identity: bytes) -> None:
        """A worker wants no new flows."""
        self._workers[identity].draining = True

    def remove(self, identity: bytes) -> list[bytes]:
        """A worker is gone; gives the flows it had."""
        worker = self._workers.pop(identity)
        owners = self._owners.get(worker.stage, {})
        for key in worker.flows:
            del owners[key]
        return list(worker.flows)

    def silent(self, now: float) -> list[Worker]:
        """The workers not heard from for too long."""
        return [worker for worker in self._workers.values() if now - worker.last_heard > SILENT_AFTER]

    def opened(self, identity: bytes, keys: list[bytes]) -> None:
        """A worker says that it has taken these flows by itself."""
        worker = self._workers[identity]
        owners = self._owners.setdefault(worker.stage, {})
        for key in keys:
            self._own(owners, key, worker)

    def closed(self, identity: bytes, keys: list[bytes]) -> None:
        """A worker says that these flows of its own are over."""
        worker = self._workers[identity]
        owners = self._owners.get(worker.stage, {})
        for key in keys:
            if owners.get(key) is worker:
                del owners[key]
                worker.flows.discard(key)

    def owner(self, stage: str, key: bytes) -> Worker | None:
        """Who has a flow."""
        owners = self._owners.get(stage)
        return owners.get(key) if owners else None

    def assign(self, stage: str, key: bytes) -> Worker | None:
        """Give a new flow to somebody; None where there is nobody, or no room."""
        owners = self._owners.setdefault(stage, {})
        if len(owners) >= self._max_flows:
            return None
        worker = self._least(stage)
        if worker is not None:
            self._own(owners, key, worker)
        return worker

    def anybody(self, stage: str) -> Worker | None:
        """Somebody for what belongs to no flow, in turn."""
        able = [worker for worker in self._workers.values() if worker.stage == stage and not worker.draining]
        if not able:
            return None
        self._next += 1
        return able[self._next % len(able)]

    def adopting(self, now: float) -> bool:
        """Whether flows may still be claimed by workers that have them already."""
        return now < self._adopting_until

    def hesitate(self, until: float) -> None:
        """Up to that time workers may have flows of which they have not told yet."""
        self._adopting_until = max(self._adopting_until, until)

    def _least(self, stage: str) -> Worker | None:
        able = [worker for worker in self._workers.values() if worker.stage == stage and not worker.draining]
        return min(able, key=_load, default=None)

    @staticmethod
    def _own(owners: dict[bytes, Worker], key: bytes, worker: Worker) -> None:
        before = owners.get(key)
        if before is not None:
            before.flows.discard(key)
        owners[key] = worker
        worker.flows.add(key)


def _load(worker: Worker) -> int:
    return len(worker.flows)
