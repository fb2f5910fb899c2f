"""`python -m bench.lossy`: ours and the kernel's own TCP towards a phone behind a bad link, in one run, interleaved.

    phone --(bad link)-- a gateway that forwards --veth-- internet: iperf3

The gateway is either a plain Linux router, so that two Linux kernels speak TCP over the link, or the captured network
of `netstack exec`, so that tcp_fwd speaks it to the phone's kernel. Both kernels use CUBIC. The table goes to stdout,
progress to stderr. 0 ok, 1 if a measurement failed, 2 for a wrong option.

Example: sudo python -m bench.lossy --loss 0 1 --delay 20 --rounds 5
"""

import argparse
import contextlib
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Final

from bench.contenders import netstack
from bench.report import aligned, number
from bench.workloads import SERVER, WorkloadError, parse_iperf_tcp
from bench.world import World, WorldError, remove_stale
from tests.internet.impairment import Quality
from tests.internet.phone import CUBIC, NETWORK_V4, forget_paths, phone_at, run_in

_SPARE: Final = 40.0  # seconds beyond its own time after which iperf3 is given up: its last words cross the link too
_PROMPT: Final = 0.02  # share of late packets up to which the link is taken to have kept time
_GOALS: Final = {0.0: 0.95, 1.0: 0.80}
"""Of a download: per cent of loss, and the share of the kernel's goodput that ours is to reach."""


@dataclass(frozen=True)
class Goodput:
    """One transfer."""

    loss: float
    """Per cent."""
    way: str
    """"down" or "up", as the phone sees it."""
    contender: str
    """"kernel" or "netstack"."""
    seed: int
    value: float | None = None
    """Mbit/s that the receiving program got; None where it failed."""
    problem: str = ""
    late: float = 0.0
    """Share of the packets that the link let out more than a millisecond after their time."""


def main() -> int:
    """Measure as the arguments say."""
    options = _arguments()
    try:
        _require_all()
        remove_stale()
        results = _measure_all(options)
    except (WorldError, RuntimeError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("bench: interrupted; everything is taken down", file=sys.stderr)
        return 130
    print(_headline(options), table(results), sep="\n\n", flush=True)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        words = {"kernel": platform.release(), "options": {k: str(v) for k, v in vars(options).items()}}
        options.json.write_text(json.dumps({**words, "results": [asdict(one) for one in results]}, indent=1) + "\n")
    return 1 if any(one.value is None for one in results) else 0


def table(results: Sequence[Goodput]) -> str:
    """Medians with their range over the seeds, our ratio to the kernel's, and the goal where there is one."""
    rows = [["loss", "", "two kernels", "netstack", "ratio", "goal"]]
    for loss, way in dict.fromkeys((one.loss, one.way) for one in results):
        values = {
            name: [
                one.value for one in results if (one.loss, one.way, one.contender) == (loss, way, name) and one.value
            ]
            for name in ("kernel", "netstack")
        }
        ratio = median(values["netstack"]) / median(values["kernel"]) if all(values.values()) else None
        goal = _GOALS.get(loss) if way == "down" else None
        verdict = "" if goal is None else f"{goal:.2f} {'met' if ratio is not None and ratio >= goal else 'missed'}"
        figures = [_spread(values[name]) for name in ("kernel", "netstack")]
        rows.append([f"{loss:g} %", way, *figures, "-" if ratio is None else f"{ratio:.2f}", verdict])
    return aligned(rows)


def _spread(values: Sequence[float]) -> str:
    if not values:
        return "failed"
    return f"{number(median(values))} ({number(min(values))}-{number(max(values))})"


def _headline(options: argparse.Namespace) -> str:
    burst = f" in runs of {options.burst:g}" if options.burst > 1 else ""
    extra = f", {options.reorder:g} % overtaken" if options.reorder else ""
    return (
        f"Linux {platform.release()}, {os.cpu_count()} cores: goodput in Mbit/s, medians (least-most) of "
        f"{options.rounds} transfers of {options.seconds} s\nlink: {options.bandwidth:g} Mbit/s, {options.delay:g} ms "
        f"each way, queue {options.queue} ms, loss each way{burst}{extra}"
    )


def _measure_all(options: argparse.Namespace) -> list[Goodput]:
    results: list[Goodput] = []
    with contextlib.ExitStack() as stack:
        world = World(stack)
        phones = {name: world.namespace(f"phone-{name}") for name in ("kernel", "netstack")}
        captured = netstack(world)
        gateways = {"kernel": world.host, "netstack": captured.namespace}
        run_in(world.internet, ["ip", "route", "add", NETWORK_V4, "via", "198.18.0.2", *CUBIC.split()])
        for seed in range(options.seed, options.seed + options.rounds):
            for loss in options.loss:
                for way in options.way:
                    # Each takes its turn at being first, so that a machine that slows down slows down both.
                    for name in sorted(phones, reverse=seed % 2 == 0):
                        for namespace in (world.internet, world.host, phones[name]):
                            forget_paths(namespace)
                        plan = Goodput(loss, way, name, seed)
                        done = _measure(world, phones[name], gateways[name], plan, options)
                        results.append(done)
                        outcome = "failed" if done.value is None else f"{done.value:.2f} Mbit/s"
                        late = f"  ({done.late:.0%} of the packets came late)" if done.late > _PROMPT else ""
                        line = f"seed {seed}  loss {loss:g} %  {way:4}  {name:8}  {outcome}  {done.problem}{late}"
                        print(f"bench: {line}", file=sys.stderr, flush=True)
    return results


def _measure(world: World, phone: Path, gateway: Path, plan: Goodput, options: argparse.Namespace) -> Goodput:
    bandwidth = options.bandwidth * 1e6
    quality = Quality(
        delay=options.delay / 1e3, loss=plan.loss / 100, burst=options.burst, reorder=options.reorder / 100,
        bandwidth=bandwidth, queue=int(bandwidth / 8 * options.queue / 1e3),
    )  # fmt: skip
    value, problem = None, ""
    with phone_at(phone, gateway, quality, plan.seed) as link, world.iperf_server() as port:
        command = ["iperf3", "-J", "-c", SERVER, "-p", str(port), "-t", str(options.seconds)]
        command += ["--connect-timeout", "10000", *(["-R"] if plan.way == "down" else [])]
        try:
            value = parse_iperf_tcp(_output(phone, command, options.seconds + _SPARE)).value * 1e3
        except WorkloadError as error:
            problem = str(error)
    late = link.report.late / max(link.report.tally.delivered, 1)
    return Goodput(plan.loss, plan.way, plan.contender, plan.seed, value, problem, late)


def _output(phone: Path, command: Sequence[str], timeout: float) -> str:
    try:
        done = subprocess.run(
            ["setpriv", "--pdeathsig", "TERM", "nsenter", f"--net={phone}", *command],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise WorkloadError(f"iperf3 did not end within {timeout:.0f} s") from None
    return done.stdout


def _arguments() -> argparse.Namespace:
    first, _, rest = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(
        prog="python -m bench.lossy",
        description=first,
        epilog=rest,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=_positive, default=5, help="transfers of each kind, each with another seed")
    parser.add_argument("--seconds", type=_positive, default=10, help="of each transfer")
    parser.add_argument("--loss", type=_share, nargs="+", default=[0.0, 1.0], metavar="PERCENT")
    parser.add_argument("--burst", type=float, default=1.0, metavar="PACKETS", help="mean number lost in a row")
    parser.add_argument("--reorder", type=_share, default=0.0, metavar="PERCENT", help="overtaken by 10 ms")
    parser.add_argument("--delay", type=float, default=20.0, metavar="MS", help="each way: half of the round trip")
    parser.add_argument("--bandwidth", type=float, default=100.0, metavar="MBIT/S")
    parser.add_argument(
        "--queue", type=_positive, default=40, metavar="MS", help="the longest wait in the link's queue"
    )
    parser.add_argument("--way", nargs="+", choices=["down", "up"], default=["down", "up"])
    parser.add_argument("--seed", type=int, default=1, help="the first one")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all of it, e.g. to bench/out/lossy.json")
    return parser.parse_args()


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return value


def _share(text: str) -> float:
    value = float(text)
    if not 0 <= value < 100:
        raise argparse.ArgumentTypeError("a share in per cent, from 0 to below 100")
    return value


def _require_all() -> None:
    if os.geteuid() != 0:
        raise WorldError("network namespaces of several programs need root: run it with sudo")
    needed = {"ip": "iproute2", "iperf3": "iperf3", "nginx": "nginx-light", "nsenter": "util-linux", "sysctl": "procps"}
    missing = sorted(package for program, package in needed.items() if not shutil.which(program))
    if missing:
        raise WorldError(f"missing programs: apt-get install {' '.join(missing)}")


if __name__ == "__main__":
    sys.exit(main())
