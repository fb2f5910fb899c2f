"""What a process of the user's machine uses, from /proc (proc_pid_status(5))."""

import re
from dataclasses import dataclass
from pathlib import Path

from tests.internet.machine import Machine


@dataclass(frozen=True)
class Usage:
    """Of one process."""

    descriptors: int
    """Open file descriptors."""
    memory: int
    """Octets of anonymous memory that are resident: heap and stacks, not the files that are mapped."""


def usage(machine: Machine, pid: int) -> Usage:
    """As it is now; pid is as the machine numbers it."""
    process = of(machine, pid)
    memory = re.search(r"^RssAnon:\s+(\d+) kB$", (process / "status").read_text(), re.MULTILINE)
    assert memory
    return Usage(sum(1 for _ in (process / "fd").iterdir()), int(memory[1]) * 1024)


def of(machine: Machine, pid: int) -> Path:
    """What /proc says of it; the folder is gone when the process is."""
    return Path(f"/proc/{machine.target}/root/proc/{pid}")
