"""Signals as a descriptor."""

import os
import signal
import subprocess
import sys

from netstack.cli.signals import SI_KERNEL

PROGRAM = """
import os, signal, sys
from netstack.cli.signals import Signals
signals = Signals([signal.SIGUSR1, signal.SIGTERM, signal.SIGHUP])
assert signals.read() == []
os.kill(os.getpid(), signal.SIGUSR1)
os.kill(os.getpid(), signal.SIGTERM)
print(sorted(signals.read()))
"""


def _run(program: str) -> str:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True).stdout


def test_a_signal_is_read_with_its_origin_and_interrupts_nothing() -> None:
    assert _run(PROGRAM) == f"[({int(signal.SIGUSR1)}, 0), ({int(signal.SIGTERM)}, 0)]\n"


def test_what_the_caller_ignores_stays_ignored() -> None:
    program = PROGRAM.replace("import os, signal, sys", "import os, signal\nsignal.signal(15, signal.SIG_IGN)")
    assert _run(program) == f"[({int(signal.SIGUSR1)}, 0)]\n"


def test_the_terminals_signals_are_known_by_their_origin() -> None:
    # A child in the foreground of a terminal of its own, into which ^C is typed.
    controller, terminal = os.openpty()
    program = """
import asyncio, fcntl, signal, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
from netstack.cli.signals import Signals
signals = Signals([signal.SIGINT])
print("listening", flush=True)
async def main():
    loop = asyncio.get_running_loop()
    got = loop.create_future()
    signals.watch(loop, lambda number, code: got.set_result((number, code)))
    print(await got, flush=True)
asyncio.run(main())
"""
    child = subprocess.Popen(
        [sys.executable, "-c", program], stdin=terminal, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert child.stdout is not None
    with child, child.stdout:
        try:
            assert child.stdout.readline() == "listening\n"
            os.write(controller, b"\x03")
            assert child.stdout.readline() == f"({int(signal.SIGINT)}, {SI_KERNEL})\n"
        except BaseException:
            child.kill()  # or it would be waited for
            raise
    os.close(controller)
    os.close(terminal)
    assert child.returncode == 0
