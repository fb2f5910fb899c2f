"""A signal as something to poll for."""

import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def wakeup(number: int) -> Iterator[socket.socket]:
    """A socket that has octets to read when the signal has come; read them to be woken again. One at a time."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(0)
        theirs.settimeout(0)
        before = signal.signal(number, _note)
        signal.set_wakeup_fd(theirs.fileno())
        try:
            yield ours
        finally:
            signal.set_wakeup_fd(-1)
            signal.signal(number, before)


def _note(_number: int, _frame: FrameType | None) -> None:
    """Without a handler nothing is written to the socket."""
