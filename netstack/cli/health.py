"""What `netstack status` shows: a supervisor's roster and the processes' own samples together. No I/O, no clock."""

import time
from collections.abc import Iterable, Sequence

import msgspec

from netstack.cli.roster import ProcessEntry, Roster
from netstack.cli.words import columns, duration, octets
from netstack.wire.messages import Sample
from netstack.wire.topology import STAGES

_HEADINGS = ["STAGE", "WORKER", "PID", "STATE", "READY", "IN", "", "OUT", "", "QUEUE", "DROPS"]
_RIGHT = (2, 5, 6, 7, 8, 9)


class ProcessStatus(msgspec.Struct):
    """One process. Times are Unix time, 0 for never; the counters are 0 where it did not answer."""

    stage: str
    worker: str
    pid: int
    state: str  # ready, starting, restarting, stopped; silent: it did not answer; missing: there is none
    healthy: bool
    ready_since: float = 0.0
    packets_in: int = 0
    packets_out: int = 0
    octets_in: int = 0
    octets_out: int = 0
    queue: int = 0
    drops: dict[str, int] = {}
    gauges: dict[str, int] = {}
    notes: list[str] = []
    restarts: int = 0
    last_exit: str = ""
    last_lines: list[str] = []


class Status(msgspec.Struct):
    """All processes of an instance."""

    instance: str
    healthy: bool
    processes: list[ProcessStatus]
    compiled: bool = False  # whether every process that a supervisor started runs from netstack.cli.compiled


def merge(instance: str, rosters: Iterable[Roster], samples: Iterable[Sample]) -> Status:
    """Each process that a supervisor knows or that answered; and each stage that has none."""
    answers = {sample.worker: sample for sample in samples}
    known = list(rosters)
    entries = [entry for roster in known for entry in roster.processes]
    found = [_of_entry(entry, answers.pop(entry.worker, None)) for entry in entries]
    found += [_of_sample(sample) for sample in answers.values()]
    has = {process.stage for process in found}
    wanted = next((roster.stages for roster in known), STAGES)
    found += [ProcessStatus(stage, "-", 0, "missing", healthy=False) for stage in wanted if stage not in has]
    found.sort(key=lambda process: (STAGES.index(process.stage) if process.stage in STAGES else -1, process.worker))
    compiled = bool(known) and all(roster.compiled for roster in known)
    return Status(instance, all(process.healthy for process in found), found, compiled)


def render(status: Status, now: float, *, with_gauges: bool = False) -> str:
    """The status as text: one line per process, and below it what does not work, and the gauges if wanted."""
    rows = [_HEADINGS, *(_row(process, now) for process in status.processes)]
    troubles = [trouble for process in status.processes for trouble in _troubles(process)]
    if with_gauges:
        troubles += [f"  {process.worker}: {_counts(process.gauges)}" for process in status.processes if process.gauges]
    verdict = "healthy" if status.healthy else "NOT HEALTHY"
    return "\n".join([f"instance {status.instance}: {verdict}", *columns(rows, _RIGHT), *troubles])


def _of_entry(entry: ProcessEntry, sample: Sample | None) -> ProcessStatus:
    if sample is not None and sample.pid != entry.pid:
        sample = None  # it died since it answered
    if sample is not None:
        process = _of_sample(sample)
    else:
        process = ProcessStatus(entry.stage, entry.worker, entry.pid, state="", healthy=False)
    process.state = "silent" if sample is None and entry.state == "ready" else entry.state
    process.healthy = process.state == "ready" and not process.notes
    process.restarts, process.last_exit, process.last_lines = entry.restarts, entry.last_exit, entry.last_lines
    return process


def _of_sample(sample: Sample) -> ProcessStatus:
    state = "ready" if sample.ready_since else "starting"
    return ProcessStatus(
        sample.stage, sample.worker, sample.pid, state, state == "ready" and not sample.notes, sample.ready_since,
        sample.packets_in, sample.packets_out, sample.octets_in, sample.octets_out, sample.queue,
        sample.drops, sample.gauges, sample.notes,
    )  # fmt: skip


def _row(process: ProcessStatus, now: float) -> list[str]:
    ready = ""
    if process.ready_since:
        clock = time.strftime("%H:%M:%S", time.localtime(process.ready_since))
        ready = f"{clock} ({duration(now - process.ready_since)})"
    return [
        process.stage, process.worker, str(process.pid or "-"), process.state, ready,
        f"{process.packets_in} p", octets(process.octets_in), f"{process.packets_out} p", octets(process.octets_out),
        str(process.queue), _counts(process.drops) or "-",
    ]  # fmt: skip


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))


def _troubles(process: ProcessStatus) -> Sequence[str]:
    told = [f"! {process.worker}: {note}" for note in process.notes]
    if process.state == "missing":
        told.append(f"! {process.stage}: no process of this stage answers")
    elif process.state == "silent":
        told.append(f"! {process.worker}: did not answer in time")
    if process.restarts:
        times = "once" if process.restarts == 1 else f"{process.restarts} times"
        told.append(f"  {process.worker}: restarted {times}; the last one {process.last_exit}")
        if process.state != "ready":
            told += [f"      {line}" for line in process.last_lines]
    return told
