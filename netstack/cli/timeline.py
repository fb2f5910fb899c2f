"""Hops of traced packets, gathered by trace id and told as a timeline. No I/O, no clock."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from netstack.cli.words import columns, duration
from netstack.wire.messages import TraceHop

QUIET: Final = 0.3  # seconds without a hop, after which a trace is told
MOST_TRACES: Final = 1000  # that are gathered at a time; beyond it the oldest is told as it is
_RECEIVED: Final = "received"  # the hop of a batch's arrival: it carries the queue wait and no work


@dataclass
class _Open:
    last: float
    hops: list[TraceHop] = field(default_factory=list)


class Traces:
    """Gathers hops until their trace has been quiet for QUIET seconds."""

    def __init__(self) -> None:
        self._open: dict[int, _Open] = {}  # in the order of their first hops

    def add(self, hop: TraceHop, now: float) -> list[list[TraceHop]]:
        """Take a hop; gives the traces that have to be told because there are too many."""
        trace = self._open.setdefault(hop.trace_id, _Open(now))
        trace.hops.append(hop)
        trace.last = now
        return [self._take(next(iter(self._open)))] if len(self._open) > MOST_TRACES else []

    def quiet(self, now: float) -> list[list[TraceHop]]:
        """The traces that are over, each with its hops in order."""
        return [self._take(key) for key in [key for key, one in self._open.items() if now - one.last >= QUIET]]

    def rest(self) -> list[list[TraceHop]]:
        """Every trace that is left."""
        return [self._take(key) for key in list(self._open)]

    def _take(self, key: int) -> list[TraceHop]:
        return in_order(self._open.pop(key).hops)


def in_order(hops: Iterable[TraceHop]) -> list[TraceHop]:
    """By the time at which each began."""
    return sorted(hops, key=lambda hop: hop.at)


def trace_name(trace_id: int) -> str:
    """A trace id as people and programs see it: 16 hexadecimal digits."""
    return f"{trace_id & (1 << 64) - 1:016x}"


def render(hops: Sequence[TraceHop], epoch: float) -> str:
    """One trace as text: a line with its time and id, the chain of stages, and one line per hop.

    The hops are in order and at least one; epoch is what to add to a monotonic time for Unix time.
    """
    first = hops[0].at - hops[0].queue_wait
    last = max(hop.at + hop.service for hop in hops)
    began = first + epoch
    clock = time.strftime("%H:%M:%S", time.localtime(began)) + f"{began % 1:.6f}"[1:]
    header = f"{clock} trace {trace_name(hops[0].trace_id)}: {len(hops)} hops in {duration(last - first)}"
    lines = columns([_line(hop, first) for hop in hops])
    return "\n".join([header, f"  {chain(hops)}", *(f"    {line}" for line in lines)])


def chain(hops: Sequence[TraceHop]) -> str:
    """The way of a packet in one line: what was done, and between that, how long it queued or otherwise took."""
    parts: list[str] = []
    for index, hop in enumerate(hops):
        following = hops[index + 1] if index + 1 < len(hops) else None
        if hop.queue_wait > 0:
            parts.append(f"queue {duration(hop.queue_wait)}")
        elif index > 0 and hops[index - 1].event != _RECEIVED:
            parts.append(duration(hop.at - hops[index - 1].at))
        if hop.event == _RECEIVED and following is not None and following.worker == hop.worker:
            continue
        parts.append(f"{hop.stage} {hop.event}")
        if index == 0 and hop.detail:
            parts[-1] += f" {hop.detail}"
    return " -> ".join(parts)


def _line(hop: TraceHop, first: float) -> list[str]:
    queue = f"queue {duration(hop.queue_wait)}" if hop.queue_wait > 0 else ""
    service = f"service {duration(hop.service)}" if hop.service > 0 else ""
    return [f"+{duration(hop.at - first)}", hop.worker, hop.event, queue, service, hop.detail]
