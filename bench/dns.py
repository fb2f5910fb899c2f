"""`python -m bench.dns`: names answered by ours, with one and two workers, beside dnsmasq and unbound.

dnsperf asks from a captured namespace, where dnsmasq and unbound are reached through the same TUN, and from the host's
namespace, where nothing of ours is in between; all in one run, interleaved. For each: answers a second from the cache,
the latency of such answers at a fixed rate, and answers a second to names that nobody has asked before. What the
tracker and its acknowledgement add to an answer is the difference between two such names at the same low rate: one that
has an address to be leased, and one that has a text. The table goes to stdout, progress to stderr. 0 ok, 1 if a
measurement failed, 2 for a wrong option.

Example: sudo python -m bench.dns --rounds 3 --seconds 4
"""

import argparse
import contextlib
import itertools
import json
import os
import platform
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Final

from bench import cpu
from bench.report import aligned, number
from bench.resolvers import HITS, MISSES, ZONE, Resolver, resolvers
from bench.workloads import SERVER, WorkloadError
from bench.world import World, WorldError, remove_stale

OURS: Final = "netstack"
_PROGRAMS: Final = {
    "ip": "iproute2", "nginx": "nginx-light", "nsenter": "util-linux", "dnsperf": "dnsperf", "dnsmasq": "dnsmasq-base",
    "unbound": "unbound", "nsd": "nsd", "dig": "dnsutils",
}  # fmt: skip
_SPARE: Final = 15.0  # seconds beyond its own time after which dnsperf is given up
_SLICE: Final = 16_000  # names asked once, in one measurement
_LOW: Final = 500  # queries a second: nothing waits for anything else
_REACHED: Final = 0.9  # of a rate that was asked for, or the latency is one of another load

ROWS: Final = {
    "hits": ("from the cache", "q/s"),
    "hits cost": ("  CPU of ours", "us/query"),
    "p50": ("  p50 at the rate", "ms"),
    "p99": ("  p99 at the rate", "ms"),
    "misses": ("not from the cache", "q/s"),
    "misses cost": ("  CPU of ours", "us/query"),
    "lease p50": ("lease and answer, p50", "ms"),
    "text p50": ("answer alone, p50", "ms"),
    "lease p99": ("lease and answer, p99", "ms"),
    "text p99": ("answer alone, p99", "ms"),
}
"""What is measured: its title and unit."""


@dataclass(frozen=True)
class Figure:
    """One measurement of one resolver."""

    what: str
    """A key of ROWS."""
    resolver: str
    round: int
    value: float | None
    """None where it failed."""
    problem: str = ""


@dataclass(frozen=True)
class Load:
    """What dnsperf said of one run."""

    rate: float
    """Answers a second."""
    answers: int
    latencies: list[float]
    """Seconds; empty where they were not asked for."""
    problem: str


def main() -> int:
    """Measure as the arguments say."""
    options = _arguments()
    try:
        _require_all()
        remove_stale()
        figures = [figure for turn in range(1, options.rounds + 1) for figure in _measure_round(turn, options)]
    except WorldError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("bench: interrupted; everything is taken down", file=sys.stderr)
        return 130
    print(
        f"Linux {platform.release()}, {os.cpu_count()} cores: medians of {options.rounds} rounds of "
        f"{options.seconds} s; latencies at {options.rate:,} q/s\n"
    )
    print(table(figures), flush=True)
    for figure in figures:
        if figure.problem:
            _progress(f"round {figure.round}, {figure.what}, {figure.resolver}: {figure.problem}")
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        words = {"kernel": platform.release(), "cores": os.cpu_count(), "rate": options.rate}
        options.json.write_text(json.dumps({**words, "figures": [asdict(one) for one in figures]}, indent=1) + "\n")
    return 1 if any(figure.value is None for figure in figures) else 0


def table(figures: Sequence[Figure]) -> str:
    """Medians, a row for each thing that was measured; ours divided by each of the others."""
    names = list(dict.fromkeys(figure.resolver for figure in figures))
    others = [name for name in names if name != OURS] if OURS in names else []
    rows = [["", "unit", *names, *(f"/ {name}" for name in others)]]
    for what, (title, unit) in ROWS.items():
        middles = {name: _middle(figures, what, name) for name in names}
        if all(middle is None for middle in middles.values()):
            continue
        ours = middles.get(OURS)
        ratios = ["-" if not ours or not (other := middles[name]) else f"{ours / other:.2f}" for name in others]
        shown = ["-" if middle is None else number(middle) for middle in middles.values()]
        rows.append([title, unit, *shown, *ratios])
    return aligned(rows)


def parse_dnsperf(output: str) -> Load:
    """What dnsperf wrote; with -v a line for each answer stands before its report. Raises WorkloadError."""
    rate = re.search(r"^ +Queries per second: +([\d.]+)$", output, re.MULTILINE)
    completed = re.search(r"^ +Queries completed: +(\d+)", output, re.MULTILINE)
    if not rate or not completed or not int(completed[1]):
        raise WorkloadError(f"dnsperf had no answer: {output.strip()[-200:]!r}")
    latencies = [float(found) for found in re.findall(r"^> NOERROR \S+ \S+ ([\d.]+)$", output, re.MULTILINE)]
    problems = [
        *re.findall(r"Queries lost: +[1-9].*$", output, re.MULTILINE),
        *(codes for codes in re.findall(r"Response codes: +(.*)$", output, re.MULTILINE) if "(100.00%)" not in codes),
    ]
    return Load(float(rate[1]), int(completed[1]), latencies, "; ".join(" ".join(line.split()) for line in problems))


def _middle(figures: Sequence[Figure], what: str, resolver: str) -> float | None:
    values = [one.value for one in figures if (one.what, one.resolver) == (what, resolver) and one.value is not None]
    return median(values) if values else None


def _measure_round(turn: int, options: argparse.Namespace) -> list[Figure]:
    figures: list[Figure] = []
    with contextlib.ExitStack() as stack:
        world = World(stack)
        running = resolvers(world)
        if options.only:
            running = {name: running[name] for name in running if name in options.only}
        names = list(running)
        order = [*names[turn % len(names) :], *names[: turn % len(names)]]
        round_of = _Round(world, turn, options)
        for measure in (round_of.hits, round_of.latency, round_of.misses, round_of.lease):
            for name in order:
                try:
                    found = measure(running[name])
                except WorkloadError as error:
                    found = {measure.__name__: (None, str(error))}
                for what, (value, problem) in found.items():
                    figures.append(Figure(what, name, turn, value, problem))
                    shown = "failed" if value is None else f"{number(value)} {ROWS[what][1]}"
                    _progress(f"round {turn}/{options.rounds}  {what:11}  {name:12}  {shown}  {problem}")
    # In the order of the table, whoever was first in this round.
    return sorted(figures, key=lambda figure: names.index(figure.resolver))


Found = dict[str, tuple[float | None, str]]
"""By key of ROWS: the value, and what went wrong beside it."""


class _Round:
    """The measurements of one round; each gives its figures by their keys in ROWS."""

    def __init__(self, world: World, turn: int, options: argparse.Namespace) -> None:
        self._world = world
        self._seconds: int = options.seconds
        self._rate: int = options.rate
        self._random = random.Random(turn)
        self._misses = iter(self._random.sample(range(MISSES), MISSES))
        self._texts = itertools.count()

    def hits(self, resolver: Resolver) -> Found:
        self._ask(resolver, self._hit_names(), ["-n", "1"])
        load, cost = self._costing(resolver, self._hit_names(), ["-l", str(self._seconds)])
        return {"hits": (load.rate, load.problem)} | _found("hits cost", cost)

    def latency(self, resolver: Resolver) -> Found:
        load = self._ask(resolver, self._hit_names(), ["-l", str(self._seconds), "-Q", str(self._rate), "-v"])
        middle, high = _quantiles(load)
        problem = load.problem
        if load.rate < _REACHED * self._rate:
            problem = f"only {load.rate:,.0f} q/s; {problem}"
        return {"p50": (middle, problem), "p99": (high, "")}

    def misses(self, resolver: Resolver) -> Found:
        names = [f"miss{one}.{ZONE} A" for one in itertools.islice(self._misses, _SLICE)]
        load, cost = self._costing(resolver, names, ["-n", "1", "-l", str(self._seconds)])
        return {"misses": (load.rate, load.problem)} | _found("misses cost", cost)

    def lease(self, resolver: Resolver) -> Found:
        if resolver.port != 53:
            return {}
        count = _LOW * self._seconds
        # One query of each kind in turn, so that both see the same machine.
        names = [
            line
            for _ in range(count // 2)
            for line in (f"miss{next(self._misses)}.{ZONE} A", f"t{next(self._texts)}.text.{ZONE} TXT")
        ]
        output = self._run(resolver, names, ["-n", "1", "-Q", str(_LOW), "-v"])
        found: Found = {}
        for key, kind in (("lease", "A"), ("text", "TXT")):
            lines = [line for line in output.splitlines() if not line.startswith(">") or f" {kind} " in line]
            load = parse_dnsperf("\n".join(lines))
            middle, high = _quantiles(load)
            found |= {f"{key} p50": (middle, load.problem), f"{key} p99": (high, "")}
        return found

    def _hit_names(self) -> list[str]:
        return [f"hit{one}.{ZONE} A" for one in self._random.sample(range(HITS), HITS)]

    def _costing(self, resolver: Resolver, names: Sequence[str], options: Sequence[str]) -> tuple[Load, float | None]:
        """The load, and CPU time of our processes in microseconds for each answer."""
        before = cpu.of_tree(resolver.forwarder) if resolver.forwarder else 0.0
        load = self._ask(resolver, names, options)
        if resolver.forwarder is None:
            return load, None
        return load, (cpu.of_tree(resolver.forwarder) - before) / load.answers * 1e6

    def _ask(self, resolver: Resolver, names: Sequence[str], options: Sequence[str]) -> Load:
        return parse_dnsperf(self._run(resolver, names, options))

    def _run(self, resolver: Resolver, names: Sequence[str], options: Sequence[str]) -> str:
        path = self._world.directory / "names"
        path.write_text("\n".join(names) + "\n")
        command = ["dnsperf", "-s", SERVER, "-p", str(resolver.port), "-d", str(path), "-c", "10", *options]
        try:
            done = subprocess.run(
                ["setpriv", "--pdeathsig", "TERM", "nsenter", f"--net={resolver.namespace}", *command],
                stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=self._seconds + _SPARE, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise WorkloadError(f"dnsperf did not end within {self._seconds + _SPARE:.0f} s") from None
        return done.stdout


def _found(key: str, value: float | None) -> Found:
    return {} if value is None else {key: (value, "")}


def _quantiles(load: Load) -> tuple[float, float]:
    """p50 and p99, in milliseconds."""
    if len(load.latencies) < 100:
        raise WorkloadError(f"only {len(load.latencies)} answers")
    cuts = quantiles(load.latencies, n=100)
    return cuts[49] * 1e3, cuts[98] * 1e3


def _arguments() -> argparse.Namespace:
    first, _, rest = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(
        prog="python -m bench.dns", description=first, epilog=rest, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=_positive, default=3)
    parser.add_argument("--seconds", type=_positive, default=4, help="of each measurement")
    parser.add_argument("--rate", type=_positive, default=7500, help="queries a second at which latency is measured")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="only these resolvers, as in the table")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all of it, e.g. to bench/out/dns.json")
    return parser.parse_args()


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return value


def _require_all() -> None:
    if os.geteuid() != 0:
        raise WorldError("network namespaces of several programs need root: run it with sudo")
    missing = sorted({package for program, package in _PROGRAMS.items() if not shutil.which(program)})
    if missing:
        raise WorldError(f"missing programs: apt-get install {' '.join(missing)}")


def _progress(line: str) -> None:
    print(f"bench: {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
