"""A tiny process that removes an instance's files when its supervisor is gone, even if that was killed with SIGKILL."""

import gc
import os
import select
import signal
from pathlib import Path
from typing import Final

from netstack.cli.rundir import remove_dead

_TRIES: Final = 40
_PAUSE: Final = 50  # milliseconds; forks of the supervisor hold its lock, and die with it, a moment later


class Janitor:
    """Forked on creation; to be made before threads and an event loop exist."""

    def __init__(self, run_dir: Path, name: str) -> None:
        # A descriptor of this process, not a pipe from it: nothing that is forked later can hold it open.
        supervisor = os.pidfd_open(os.getpid())
        gc.freeze()
        self._pid = os.fork()
        if self._pid == 0:
            try:
                _wait_and_remove(supervisor, run_dir, name)
            finally:
                os._exit(0)
        os.close(supervisor)

    def dismiss(self) -> None:
        """End it; the supervisor has removed everything itself."""
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)


def _wait_and_remove(supervisor: int, run_dir: Path, name: str) -> None:
    # Neither the terminal's signals nor its hanging up are meant for us, and nobody waits for our end of a pipe.
    os.setsid()
    os.chdir("/")
    null = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(null, standard)
    os.dup2(supervisor, 3)
    os.closerange(4, os.sysconf("SC_OPEN_MAX"))
    gone = select.poll()
    gone.register(3, select.POLLIN)
    gone.poll()
    for _ in range(_TRIES):
        if remove_dead(run_dir, name):
            return
        select.select((), (), (), _PAUSE / 1000)
