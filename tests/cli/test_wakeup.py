"""A signal as something to poll for."""

import os
import select
import signal

from netstack.cli.wakeup import wakeup


def test_a_signal_makes_the_socket_readable_and_leaves_nothing_behind() -> None:
    before = signal.getsignal(signal.SIGCONT)
    with wakeup(signal.SIGCONT) as woken:
        assert select.select([woken], [], [], 0)[0] == []
        os.kill(os.getpid(), signal.SIGCONT)
        os.kill(os.getpid(), signal.SIGCONT)
        assert select.select([woken], [], [], 5)[0] == [woken]
        assert set(woken.recv(64)) == {signal.SIGCONT}
        assert select.select([woken], [], [], 0)[0] == []
    assert signal.getsignal(signal.SIGCONT) == before
    assert signal.set_wakeup_fd(-1) == -1
