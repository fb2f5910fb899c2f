"""A captured network that stays for several programs, and what can be asked about the pipeline that serves it."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.internet.machine import Finished, Machine, Place, Running, wait_until

STAGES = ("tracker", "tun_io", "dns_filter", "tcp_fwd", "udp_fwd")


def find_process(command: Sequence[str]) -> int:
    """The process, in any namespace, whose command line is exactly this; 0 where there is none."""
    wanted = b"\0".join(word.encode() for word in command) + b"\0"
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if (entry / "cmdline").read_bytes() == wanted:
                    return int(entry.name)
            except OSError:  # it has just ended
                continue
    return 0


@dataclass(frozen=True)
class Killed:
    """When a process was killed (Unix time), and the seconds until its successor was ready."""

    at: float
    back_after: float


class Sandbox(Place):
    """The network and the files as the captured command sees them. `running` is the `netstack exec` it belongs to."""

    namespaces = ("--net", "--mount")

    def __init__(self, host: Machine, running: Running, target: int, netstack: Path, run_dir: str) -> None:
        super().__init__(target)
        self.running = running
        self._host = host
        self._netstack = netstack
        self.run_dir = run_dir

    def command(self, name: str, *arguments: str) -> list[str | Path]:
        """The words of a netstack command about this instance."""
        return [self._netstack, name, "--run-dir", self.run_dir, *arguments]

    def netstack(self, name: str, *arguments: str, timeout: float = 10) -> Finished:
        """Run a netstack command about this instance, on the user's machine."""
        return self._host.run(self.command(name, *arguments), timeout=timeout)

    def status(self) -> list[dict[str, Any]]:
        """What `netstack status --json` says of each process."""
        said = json.loads(self.netstack("status", "--json").text or "[]")
        processes: list[dict[str, Any]] = said["processes"] if isinstance(said, dict) else said
        return processes

    def process(self, stage: str) -> dict[str, Any]:
        """What it says of the one process of a stage; empty while there is none that is ready."""
        found = [process for process in self.status() if process["stage"] == stage and process["ready_since"]]
        return found[0] if found else {}

    def drops(self, reason: str) -> int:
        """How often something was refused or dropped for that reason, over all processes."""
        return sum(process["drops"].get(reason, 0) for process in self.status())

    def kill(self, stage: str) -> Killed:
        """SIGKILL the process of a stage and wait for another in its place."""
        before = wait_until(lambda: self.process(stage), 10, f"{stage} is ready")
        killed = time.time()
        self._host.run(["kill", "-KILL", str(before["pid"])]).ok()
        after = wait_until(lambda: self._successor(stage, before["pid"]), 10, f"{stage} is back after SIGKILL")
        return Killed(killed, after["ready_since"] - killed)

    def _successor(self, stage: str, pid: int) -> dict[str, Any]:
        process = self.process(stage)
        return process if process and process["pid"] != pid else {}
