"""Signals as a descriptor: each is read with its origin, and none interrupts anything (signalfd(2)).

The numbers are blocked before anything starts, so that a second Ctrl-C cannot break the cleaning up; a process that is
started must unblock them again.
"""

import asyncio
import ctypes
import os
import signal
import struct
import sys
from collections.abc import Callable, Iterable
from typing import Final

PASSED_ON: Final = (
    signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH,
)  # fmt: skip
"""What a supervisor passes on to its command."""

ENDING: Final = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT)
"""What ends a supervisor that has no command."""

SI_KERNEL: Final = 0x80
"""si_code of a signal that the terminal sent: to its whole foreground group, the command included (sigaction(2))."""

_SFD_CLOEXEC: Final = os.O_CLOEXEC  # signalfd(2) takes the values of open(2)
_SFD_NONBLOCK: Final = os.O_NONBLOCK
_INFO: Final = struct.Struct("=IiiI112x")  # ssi_signo, ssi_errno, ssi_code, ssi_pid; 128 octets in all
_SIGSET_OCTETS: Final = 128  # of glibc's sigset_t

_libc = ctypes.CDLL(None, use_errno=True)


class Signals:
    """Blocks the signals on creation; on_signal gets number and si_code once the loop runs."""

    def __init__(self, numbers: Iterable[signal.Signals]) -> None:
        # What the caller ignores (under nohup, say) stays ignored: once blocked, it would be delivered.
        self._numbers = [number for number in numbers if signal.getsignal(number) != signal.SIG_IGN]
        signal.pthread_sigmask(signal.SIG_BLOCK, self._numbers)
        mask = sum(1 << number - 1 for number in self._numbers)
        octets = mask.to_bytes(_SIGSET_OCTETS, "little")
        if sys.byteorder == "big":
            octets = mask.to_bytes(8, "big") + bytes(_SIGSET_OCTETS - 8)
        self._descriptor = int(_libc.signalfd(-1, octets, _SFD_CLOEXEC | _SFD_NONBLOCK))
        if self._descriptor < 0:
            raise OSError(ctypes.get_errno(), "signalfd")

    def watch(self, loop: asyncio.AbstractEventLoop, on_signal: Callable[[int, int], None]) -> None:
        """Report from here on; what came before is reported first."""

        def readable() -> None:
            for number, code in self.read():
                on_signal(number, code)

        loop.add_reader(self._descriptor, readable)

    def read(self) -> list[tuple[int, int]]:
        """Number and si_code of the signals that have come since the last call."""
        try:
            data = os.read(self._descriptor, 16 * _INFO.size)
        except BlockingIOError:
            return []
        return [(number, code) for number, _, code, _ in _INFO.iter_unpack(data)]
