"""The small internet of the demo: reached from inside, gone afterwards."""

import subprocess
import sys

import pytest

# In a process of its own, whose network changes.
SCRIPT = """
import os, socket
from netstack.cli.demo_internet import HARD_CODED, NAMED, SmallInternet
here = os.readlink("/proc/self/ns/net")
with SmallInternet():
    inside = os.readlink("/proc/self/ns/net")
    for address in (*NAMED, HARD_CODED):
        socket.create_connection((address, 80), 2).close()
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as quic:
            quic.settimeout(2)
            quic.connect((address, 443))
            quic.send(b"hello")
            assert quic.recv(10) == b"hello"
assert here != inside
assert os.readlink("/proc/self/ns/net") == here
try:
    os.waitpid(-1, os.WNOHANG)
except ChildProcessError:
    print("no child is left")
"""


@pytest.mark.e2e
def test_servers_are_reached_inside_and_gone_afterwards() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=20, check=False)
    assert (done.returncode, done.stdout) == (0, "no child is left\n"), done.stderr
