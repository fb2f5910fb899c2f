"""`netstack demo`: the main job, step by step, against a small internet of its own.

Each step runs a real program, mostly under `netstack exec`, prints the command and what it said, and checks it. Nothing
outside of the demo's own network namespaces is touched, and no network is needed.
"""

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from netstack.cli.demo_internet import DNS, HARD_CODED, NAME, SmallInternet
from netstack.cli.demo_trace import trace
from netstack.cli.identity import PrivilegeError, check_privileges
from netstack.cli.identity import caller as identify
from netstack.cli.options import FAILED, OK, say, write

_TIMEOUT: Final = 15.0  # seconds for one command; each takes about one
_AT_ONCE: Final = 0.25  # seconds; a refusal takes a few milliseconds, a busy machine some more
_CURL_CANNOT_CONNECT: Final = 7  # curl(1), EXIT CODES


@dataclass(frozen=True)
class Outcome:
    """What a command did."""

    code: int
    output: str
    seconds: float


@dataclass(frozen=True)
class Step:
    """Something to show: a command, and what its outcome must be for the demo to have shown it."""

    title: str
    command: list[str]
    holds: Callable[[Outcome], bool]
    shown: str
    """What it has shown, if it holds."""


def demo() -> int:
    """Show the main job; 0 if every step gave what it should, 1 otherwise."""
    if os.geteuid() != 0:
        say("demo: its small internet is made of network namespaces, which needs root: run `sudo netstack demo`")
        return FAILED
    try:
        check_privileges(identify())
    except PrivilegeError as error:
        say(f"demo: {error}")
        return FAILED
    started = time.monotonic()
    with ExitStack() as stack:
        run_dir = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="netstack-demo-")))
        run_dir.chmod(0o711)  # the pipeline's processes are another user
        _introduce()
        stack.enter_context(SmallInternet())
        environment = _environment(run_dir)
        write("$ export NETSTACK_DNS__UPSTREAMS=" + shlex.quote(environment["NETSTACK_DNS__UPSTREAMS"]))
        steps = _steps()
        failures = sum(not _show(number, step, environment) for number, step in enumerate(steps, 1))
        failures += not trace(len(steps) + 1, fetch(f"http://{NAME}/"), environment)
    write(f"\nThe namespaces and processes of the demo are gone again ({time.monotonic() - started:.1f} s).")
    if failures:
        say(f"demo: {failures} of the steps above did not give what they should")
    return FAILED if failures else OK


def fetch(url: str, *options: str, status: bool = True) -> list[str]:
    """The words that fetch a URL: curl's, or where there is no curl those of a small client of our own."""
    if not shutil.which("curl"):
        return _client("fetch", url, *options)
    what = ["-w", r"%{http_code} from %{remote_ip}\n"] if status else []
    return ["curl", "-sS", *what, *options, url]


def milliseconds(output: str) -> float:
    """The number in `after N ms`, which both clients say of a refusal; infinite if it is not there."""
    before, _, _ = output.partition(" ms")
    try:
        return float(before.rpartition("after ")[2])
    except ValueError:
        return float("inf")


def _environment(run_dir: Path) -> dict[str, str]:
    """Of the commands: as root itself, whose user can read where this is installed, and nothing else configured."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SUDO_", "NETSTACK_"))}
    return {
        **kept,
        "PATH": os.pathsep.join((str(Path(sys.executable).parent), kept.get("PATH", os.defpath))),
        "NETSTACK_RUN_DIR": str(run_dir),
        "NETSTACK_DNS__UPSTREAMS": f'["udp://{DNS}:53"]',
        "CURL_HOME": str(run_dir),
        "no_proxy": "*",
    }


def _introduce() -> None:
    write(
        "Netstack demo: a machine and a small internet of its own, in network namespaces that vanish with it.\n"
        f"On that internet a resolver ({DNS}) knows {NAME}; a server at {HARD_CODED} has no name.\n"
        "What netstack runs can go where a name led it, and nowhere else.\n"
    )


def _steps() -> list[Step]:
    exec_ = ["netstack", "exec", "--"]
    return [
        Step(
            "Without Netstack, any address is reached, name or no name",
            fetch(f"http://{HARD_CODED}/"),
            lambda outcome: outcome.code == 0 and "200" in outcome.output,
            "the server is there and answers",
        ),
        Step(
            "Under Netstack, a name is resolved and fetched over IPv4",
            [*exec_, *fetch(f"http://{NAME}/", "-4")],
            lambda outcome: outcome.code == 0 and "200" in outcome.output,
            "the resolver's answer opened the way to that address",
        ),
        Step(
            "and over IPv6",
            [*exec_, *fetch(f"http://{NAME}/", "-6")],
            lambda outcome: outcome.code == 0 and "200" in outcome.output,
            "the same for AAAA records",
        ),
        Step(
            "Under Netstack, the hard-coded address of the first step is refused",
            [*exec_, *fetch(f"http://{HARD_CODED}/", status=False)],
            lambda outcome: outcome.code == _CURL_CANNOT_CONNECT and milliseconds(outcome.output) < _AT_ONCE * 1000,
            "connection refused, at once: no name led there",
        ),
        Step(
            "QUIC (UDP port 443) is refused to the very address that was resolved, so that browsers fall back to TCP",
            [*exec_, *_client("quic", NAME)],
            lambda outcome: "ECONNREFUSED" in outcome.output and milliseconds(outcome.output) < _AT_ONCE * 1000,
            "port unreachable, at once: nothing waits for a timeout",
        ),
    ]


def _show(number: int, step: Step, environment: Mapping[str, str]) -> bool:
    write(f"\n{number}. {step.title}\n\n$ {shlex.join(_readable(step.command))}")
    outcome = _run(step.command, environment)
    write(outcome.output.rstrip())
    holds = step.holds(outcome)
    verdict = f"✓ {step.shown}" if holds else f"✗ this should have shown: {step.shown}"
    write(f"[exit {outcome.code}, {outcome.seconds:.1f} s] {verdict}")
    return holds


def _run(command: list[str], environment: Mapping[str, str]) -> Outcome:
    started = time.monotonic()
    try:
        done = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            timeout=_TIMEOUT, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        output = (error.output or b"").decode(errors="replace")
        return Outcome(-1, f"{output}(ended after {_TIMEOUT:.0f} s)", time.monotonic() - started)
    return Outcome(done.returncode, done.stdout.decode(errors="replace"), time.monotonic() - started)


def _client(*words: str) -> list[str]:
    return [sys.executable, "-m", "netstack.cli.demo_client", *words]


def _readable(command: list[str]) -> list[str]:
    return ["python" if word == sys.executable else word for word in command]
