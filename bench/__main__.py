"""`python -m bench`: ours beside slirp4netns, pasta and the bare kernel, in one run, interleaved.

The table goes to stdout, progress to stderr. 0 ok, 1 if a measurement failed, 2 for a wrong option.
"""

import argparse
import contextlib
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from types import FrameType
from typing import Final, NamedTuple, NoReturn

from bench import cpu
from bench.contenders import CONTENDERS, Running
from bench.graph import svg
from bench.report import Measurement, cost_table, problems, table
from bench.workloads import WORKLOADS, Reading, Workload, WorkloadError
from bench.world import World, WorldError, remove_stale

_PROGRAMS: Final = {
    "ip": "iproute2", "iperf3": "iperf3", "wrk": "wrk", "nginx": "nginx-light", "nsenter": "util-linux",
    "ping": "iputils-ping", "slirp4netns": "slirp4netns", "pasta": "passt",
}  # fmt: skip
_SPARE: Final = 15.0  # seconds beyond its own time after which a load generator is given up


class Plan(NamedTuple):
    """How much is measured."""

    rounds: int
    seconds: int
    """Of each measurement."""


def main() -> int:
    """Measure as the arguments say."""
    options = _arguments()
    plan = Plan(1, 2) if options.quick else Plan(options.rounds, options.seconds)
    chosen = set(options.only) or {*CONTENDERS, *(w.name for w in WORKLOADS)}
    contenders = [name for name in CONTENDERS if name in chosen] or list(CONTENDERS)
    workloads = [w for w in WORKLOADS if w.name in chosen] or list(WORKLOADS)
    signal.signal(signal.SIGTERM, _terminated)
    try:
        _require_all(contenders)
        remove_stale()
        measurements = _measure_all(contenders, workloads, plan)
    except WorldError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("bench: interrupted; everything is taken down", file=sys.stderr)
        return 130
    _show(measurements, workloads, contenders, plan)
    if options.json:
        _write(options.json, measurements, plan)
    if options.graph:
        options.graph.parent.mkdir(parents=True, exist_ok=True)
        options.graph.write_text(svg(measurements, workloads, contenders, _headline(plan)))
    return 1 if any(m.value is None for m in measurements) else 0


def _measure_all(contenders: Sequence[str], workloads: Sequence[Workload], plan: Plan) -> list[Measurement]:
    measurements: list[Measurement] = []
    for number in range(1, plan.rounds + 1):
        # A fresh world, so that no round inherits what the one before left behind (closed sockets, grown tables).
        with contextlib.ExitStack() as stack:
            world = World(stack)
            running = {name: CONTENDERS[name](world) for name in contenders}
            for workload in workloads:
                # Each takes its turn at being first, so that a machine that slows down slows down all.
                turn = number % len(contenders)
                for name in [*contenders[turn:], *contenders[:turn]]:
                    done = _measure(world, workload, running[name], plan.seconds)
                    measurements.append(replace(done, contender=name, round=number))
                    outcome = f"{done.value:,.2f} {workload.unit}" if done.value is not None else "failed"
                    _progress(f"round {number}/{plan.rounds}  {workload.name:12}  {name:11}  {outcome}  {done.problem}")
    return measurements


def _measure(world: World, workload: Workload, running: Running, seconds: int) -> Measurement:
    before = cpu.of_tree(running.forwarder) if running.forwarder else None
    try:
        readings = [_run(world, workload, running, command, seconds) for command in workload.commands(seconds)]
    except (WorkloadError, WorldError) as error:
        return Measurement(workload.name, value=None, problem=str(error))
    used = cpu.of_tree(running.forwarder) - before if running.forwarder and before is not None else None
    best = min(readings) if workload.less_is_better else max(readings)
    return Measurement(workload.name, value=best.value, cpu=used, work=sum(r.work for r in readings), problem=best.note)


def _run(world: World, workload: Workload, running: Running, command: Sequence[str], seconds: float) -> Reading:
    if not workload.iperf:
        return workload.parse(_output(running, command, seconds))
    with world.iperf_server() as port:
        return workload.parse(_output(running, [*command, "-p", str(port)], seconds))


def _output(running: Running, command: Sequence[str], seconds: float) -> str:
    try:
        result = subprocess.run(
            ["setpriv", "--pdeathsig", "TERM", "nsenter", f"--net={running.namespace}", *command],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds + _SPARE, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise WorkloadError(f"{command[0]} did not end within {seconds + _SPARE:.0f} s") from None
    if result.returncode and not result.stdout:
        raise WorkloadError(f"{command[0]} exited with {result.returncode}: {result.stderr.strip()[:200]}")
    return result.stdout


def _show(
    measurements: list[Measurement], workloads: Sequence[Workload], contenders: Sequence[str], plan: Plan
) -> None:
    print(f"{_headline(plan)}: medians (least-most); ratios above 1: ours is faster\n")
    print(table(measurements, workloads, contenders))
    if costs := cost_table(measurements, workloads, contenders):
        print("\nCPU time of the forwarder's own processes (not the kernel's, the load generator's or the servers'):\n")
        print(costs)
    sys.stdout.flush()
    for line in problems(measurements):
        _progress(line)


def _headline(plan: Plan) -> str:
    return f"Linux {platform.release()}, {os.cpu_count()} cores, {plan.rounds} rounds of {plan.seconds} s"


def _write(path: Path, measurements: list[Measurement], plan: Plan) -> None:
    report = {
        "kernel": platform.release(), "cores": os.cpu_count(), "rounds": plan.rounds, "seconds": plan.seconds,
        "units": {w.name: w.unit for w in WORKLOADS}, "measurements": [asdict(m) for m in measurements],
    }  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=1) + "\n")


def _arguments() -> argparse.Namespace:
    names = [*CONTENDERS, *(w.name for w in WORKLOADS)]
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=_positive, default=3)
    parser.add_argument("--seconds", type=_positive, default=4, help="of each measurement")
    parser.add_argument("--quick", action="store_true", help="one round of 2 s each: about a minute")
    parser.add_argument(
        "--only", nargs="+", choices=names, default=[], metavar="NAME",
        help=f"only these contenders and workloads: {', '.join(names)}",
    )  # fmt: skip
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all of it, e.g. to bench/out/bench.json")
    parser.add_argument("--graph", type=Path, metavar="FILE", help="draw it as SVG, e.g. to bench/out/bench.svg")
    return parser.parse_args()


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return value


def _require_all(contenders: Sequence[str]) -> None:
    if os.geteuid() != 0:
        raise WorldError("network namespaces of several programs need root: run it with sudo")
    optional = {name for name in CONTENDERS if name not in contenders}
    needed = _PROGRAMS.keys() - optional
    missing = sorted({_PROGRAMS[program] for program in needed if not shutil.which(program)})
    if missing:
        raise WorldError(f"missing programs: apt-get install {' '.join(missing)}")


def _progress(line: str) -> None:
    print(f"bench: {line}", file=sys.stderr, flush=True)


def _terminated(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
