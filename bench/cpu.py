"""CPU time of a process and all that it started, from /proc (proc(5), proc_pid_stat(5))."""

import os
from collections import defaultdict
from pathlib import Path
from typing import Final

_TICKS: Final = os.sysconf("SC_CLK_TCK")


def of_tree(root: int) -> float:
    """Seconds of user and system time of the tree, with that of children that have ended and been waited for."""
    return sum(_ticks_of_tree(root).values()) / _TICKS


def tree(root: int) -> list[int]:
    """The processes of the tree that live."""
    return list(_ticks_of_tree(root))


def _ticks_of_tree(root: int) -> dict[int, int]:
    children: dict[int, list[int]] = defaultdict(list)
    ticks: dict[int, int] = {}
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            stat = (directory / "stat").read_text()
        except OSError:  # it ended between the listing and the reading
            continue
        # The second field is the name in parentheses, which may itself hold spaces and parentheses.
        fields = stat.rpartition(")")[2].split()
        pid = int(directory.name)
        children[int(fields[1])].append(pid)
        ticks[pid] = sum(map(int, fields[11:15]))  # utime, stime, cutime, cstime
    waiting = [root]
    found: dict[int, int] = {}
    while waiting:
        pid = waiting.pop()
        if pid in ticks:
            found[pid] = ticks[pid]
        waiting += children[pid]
    return found
