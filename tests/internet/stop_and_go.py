"""A process that the kernel lets run only at times: stopped for random times, until SIGTERM.

Run as a program: PID MOST-STOPPED MOST-GOING, in milliseconds. Says "up" on standard output when it begins.
"""

import os
import random
import signal
import sys


def main(pid: int, stopped: float, going: float) -> None:
    """Stop it and let it go on, again and again; in the end it goes on."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    sys.stdout.write("up\n")
    sys.stdout.flush()
    ended = None
    while ended is None:
        os.kill(pid, signal.SIGSTOP)
        ended = signal.sigtimedwait({signal.SIGTERM}, random.uniform(0, stopped / 1000))
        os.kill(pid, signal.SIGCONT)
        ended = ended or signal.sigtimedwait({signal.SIGTERM}, random.uniform(0, going / 1000))


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3]))
