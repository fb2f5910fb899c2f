"""`python -m bench.flows`: what one busy flow costs beside many that are open and idle, and what an idle one costs.

For each number of idle flows: throughput of an upload and a download, CPU of our processes for each gigabyte, and each
of them divided by what it is beside the fewest. Then the memory that the idle flows took. The table goes to stdout,
progress to stderr. 0 ok, 1 if a measurement failed, 2 for a wrong option.

Example: sudo python -m bench.flows --flows 1 100 1000 10000
"""

import argparse
import contextlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Final

from bench import cpu
from bench.contenders import Running, netstack
from bench.report import aligned, number
from bench.workloads import SERVER, WorkloadError, parse_iperf_tcp
from bench.world import World, WorldError, remove_stale

_WAYS: Final = {"up": [], "down": ["-R"]}
_SPARE: Final = 15.0  # seconds beyond its own time after which iperf3 is given up
_TOLERANCE: Final = 0.15
"""The goal: throughput and cost per octet within this share of what they are beside one flow."""
_ENOUGH: Final = 100  # flows from which on their memory stands out against what else is allocated
_FIRST: Final = 20  # flows
_PORT: Final = 7000
_MEMORY_GOAL: Final = 8192  # octets of an idle flow


@dataclass(frozen=True)
class Beside:
    """One measurement."""

    flows: int
    """Idle ones that were open."""
    way: str
    round: int
    value: float | None = None
    """Gbit/s; None where it failed."""
    cost: float | None = None
    """CPU seconds of our processes for each gigabyte."""
    memory: float | None = None
    """Octets that each idle flow had added to the anonymous memory of our processes."""
    problem: str = ""


def main() -> int:
    """Measure as the arguments say."""
    options = _arguments()
    try:
        _require_all()
        remove_stale()
        results = _measure_all(options)
    except WorldError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("bench: interrupted; everything is taken down", file=sys.stderr)
        return 130
    print(
        f"Linux {platform.release()}, {os.cpu_count()} cores: medians of {options.rounds} rounds of {options.seconds} s"
    )
    print("ratios are to what it is beside the fewest flows\n")
    print(table(results), flush=True)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        words = {"kernel": platform.release(), "cores": os.cpu_count()}
        options.json.write_text(json.dumps({**words, "results": [asdict(one) for one in results]}, indent=1) + "\n")
    return 1 if any(one.value is None for one in results) else 0


def table(results: Sequence[Beside]) -> str:
    """One row for each number of flows and way."""
    rows = [["idle flows", "", "Gbit/s", "ratio", "CPU s/GB", "ratio", "octets a flow", "goals"]]
    counts = sorted({one.flows for one in results})
    for flows in counts:
        for way in dict.fromkeys(one.way for one in results):
            values = [_middle(results, count, way, "value") for count in (flows, counts[0])]
            costs = [_middle(results, count, way, "cost") for count in (flows, counts[0])]
            memory = _middle(results, flows, way, "memory")
            ratios = [_ratio(*values), _ratio(*costs)]
            good = all(ratio is not None and abs(ratio - 1) <= _TOLERANCE for ratio in ratios)
            good = good and (memory is None or memory < _MEMORY_GOAL)
            rows.append([
                f"{flows:,}", way, _shown(values[0]), _shown(ratios[0]), _shown(costs[0]), _shown(ratios[1]),
                _shown(memory), "met" if good else "missed",
            ])  # fmt: skip
    return aligned(rows)


def _middle(results: Sequence[Beside], flows: int, way: str, what: str) -> float | None:
    found = [getattr(one, what) for one in results if (one.flows, one.way) == (flows, way)]
    known = [value for value in found if value is not None]
    return median(known) if known else None


def _ratio(value: float | None, first: float | None) -> float | None:
    return value / first if value is not None and first else None


def _shown(value: float | None) -> str:
    return "-" if value is None else number(value)


def _measure_all(options: argparse.Namespace) -> list[Beside]:
    results = []
    for turn in range(1, options.rounds + 1):
        # Fresh processes: what the many flows of one turn left in their memory does not help the next.
        for flows in sorted(options.flows, reverse=turn % 2 == 0):
            with contextlib.ExitStack() as stack:
                world = World(stack)
                running = netstack(world)
                assert running.forwarder is not None
                # What is made once, for the first flows, is not theirs.
                with _idle(world, running, _FIRST):
                    pass
                before = _memory(running.forwarder)
                stack.enter_context(_idle(world, running, flows))
                each = (_memory(running.forwarder) - before) / flows if flows >= _ENOUGH else None
                for way in _WAYS:
                    done = _measure(world, running, Beside(flows, way, turn, memory=each), options.seconds)
                    results.append(done)
                    outcome = "failed" if done.value is None else f"{done.value:.2f} Gbit/s"
                    line = f"round {turn}/{options.rounds}  {flows:,} idle  {way:4}  {outcome}  {done.problem}"
                    print(f"bench: {line}", file=sys.stderr, flush=True)
    return results


def _measure(world: World, running: Running, plan: Beside, seconds: int) -> Beside:
    assert running.forwarder is not None
    with world.iperf_server() as port:
        command = ["iperf3", "-J", "-c", SERVER, "-p", str(port), "-t", str(seconds), *_WAYS[plan.way]]
        before = cpu.of_tree(running.forwarder)
        try:
            done = subprocess.run(
                ["setpriv", "--pdeathsig", "TERM", "nsenter", f"--net={running.namespace}", *command],
                stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds + _SPARE, check=False,
            )  # fmt: skip
            reading = parse_iperf_tcp(done.stdout)
        except subprocess.TimeoutExpired:
            return Beside(
                plan.flows, plan.way, plan.round, problem=f"iperf3 did not end within {seconds + _SPARE:.0f} s"
            )
        except WorkloadError as error:
            return Beside(plan.flows, plan.way, plan.round, problem=str(error))
    used = cpu.of_tree(running.forwarder) - before
    return Beside(plan.flows, plan.way, plan.round, reading.value, used / reading.work * 1e9, plan.memory)


@contextlib.contextmanager
def _idle(world: World, running: Running, flows: int) -> Iterator[None]:
    """So many connections through the contender, each of which has carried a request and its reply and does nothing."""
    here = [sys.executable, str(Path(__file__).with_name("idle.py"))]
    server = world.start(world.internet, [*here, "serve", SERVER, str(_PORT)])
    _expect(server, "up")
    client = world.start(running.namespace, [*here, "hold", SERVER, str(_PORT), str(flows)])
    _expect(client, f"held {flows}")
    try:
        yield
    finally:
        for process in (client, server):
            process.terminate()
            process.wait(20)


def _expect(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdout
    said = process.stdout.readline().strip()
    if said != line:
        raise WorldError(f"bench/idle.py said {said!r} instead of {line!r}")


def _memory(root: int) -> int:
    """Octets of resident anonymous memory of a process and all that it started."""
    total = 0
    for pid in cpu.tree(root):
        with contextlib.suppress(OSError):
            found = re.search(r"^RssAnon:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
            total += int(found[1]) * 1024 if found else 0
    return total


def _arguments() -> argparse.Namespace:
    first, _, rest = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(
        prog="python -m bench.flows",
        description=first,
        epilog=rest,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--flows", type=_positive, nargs="+", default=[1, 100, 1000, 10_000], metavar="NUMBER")
    parser.add_argument("--rounds", type=_positive, default=3)
    parser.add_argument("--seconds", type=_positive, default=4, help="of each measurement")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all of it, e.g. to bench/out/flows.json")
    return parser.parse_args()


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return value


def _require_all() -> None:
    if os.geteuid() != 0:
        raise WorldError("network namespaces of several programs need root: run it with sudo")
    needed = {"ip": "iproute2", "iperf3": "iperf3", "nginx": "nginx-light", "nsenter": "util-linux"}
    missing = sorted(package for program, package in needed.items() if not shutil.which(program))
    if missing:
        raise WorldError(f"missing programs: apt-get install {' '.join(missing)}")


if __name__ == "__main__":
    sys.exit(main())
