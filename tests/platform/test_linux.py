"""What the benchmark's clean-up assumes about Linux."""

import os
import select
import signal
import subprocess
import sys

# A parent that starts the command it is given, which says its pid, and waits to be killed.
PARENT = "import signal, subprocess, sys; subprocess.Popen(sys.argv[1:]); signal.pause()"


def test_a_signal_for_the_death_of_the_parent_outlives_the_programs_that_replace_themselves():
    command = ["setpriv", "--pdeathsig", "TERM", "nice", "sh", "-c", "echo $$; exec sleep 60"]
    with subprocess.Popen([sys.executable, "-c", PARENT, *command], stdout=subprocess.PIPE, text=True) as parent:
        child = os.pidfd_open(int(parent.stdout.readline()))
        parent.send_signal(signal.SIGKILL)
    try:
        ended = select.select([child], [], [], 5)[0]
        if not ended:
            signal.pidfd_send_signal(child, signal.SIGKILL)
        assert ended
    finally:
        os.close(child)
