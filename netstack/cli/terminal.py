"""The controlling terminal and whose process group is in its foreground. A terminal may hang up at any time."""

import os


def open_terminal() -> int:
    """A descriptor of the controlling terminal, closed on exec; -1 if there is none."""
    try:
        return os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return -1


def foreground(terminal: int) -> int:
    """The process group in the foreground; 0 if it is not of this PID namespace, -1 if there is no terminal."""
    try:
        return os.tcgetpgrp(terminal)
    except OSError:
        return -1


def give(terminal: int, group: int) -> bool:
    """Put a process group in the foreground. False if the group or the terminal is no more. Ignore SIGTTOU first."""
    try:
        os.tcsetpgrp(terminal, group)
    except OSError:
        return False
    return True
