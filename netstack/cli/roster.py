"""What the supervisor knows of its processes: a file in the instance's directory, for `netstack status`."""

import contextlib
import os
import secrets
from pathlib import Path
from typing import Final, Literal

import msgspec

from netstack.wire.topology import STAGES

PREFIX: Final = "processes"

State = Literal["starting", "ready", "restarting", "stopped"]


class ProcessEntry(msgspec.Struct):
    """One process. Times are Unix time in seconds; 0 for never."""

    stage: str
    worker: str
    pid: int = 0
    state: State = "starting"
    started_at: float = 0.0
    restarts: int = 0
    last_exit: str = ""  # of the process before this one
    in_crash_loop: bool = False
    last_lines: list[str] = []  # of its stderr, when it died


class Roster(msgspec.Struct):
    """Every process of a supervisor."""

    command: str
    pid: int
    started_at: float
    processes: list[ProcessEntry]
    stages: list[str] = msgspec.field(default_factory=lambda: list(STAGES))  # that the instance has to have
    compiled: bool = False  # whether the processes run from what netstack.cli.compiling made
    complete: bool = True  # false where the instance has processes that are another supervisor's or nobody's


def write(path: Path, roster: Roster) -> None:
    """Replace the file as a whole."""
    # The directory may be another user's: never write through a link that somebody put there.
    new = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    with os.fdopen(descriptor, "wb") as file:
        file.write(msgspec.json.encode(roster))
    new.replace(path)


def read(directory: Path) -> list[Roster]:
    """The rosters in an instance's directory: one per supervisor, none where there is none."""
    found = []
    for path in sorted(directory.glob(f"{PREFIX}*.json")):
        with contextlib.suppress(FileNotFoundError, msgspec.DecodeError):
            found.append(msgspec.json.decode(path.read_bytes(), type=Roster))
    return found
