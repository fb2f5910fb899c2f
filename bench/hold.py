"""The command that `netstack exec` runs for the benchmark: hand over the network namespace, then wait to be ended."""

import array
import signal
import socket
import sys
from pathlib import Path


def main() -> None:
    """The first argument is the path of the socket to hand it to."""
    with socket.socket(socket.AF_UNIX) as to_harness, Path("/proc/self/ns/net").open("rb") as namespace:
        to_harness.connect(sys.argv[1])
        descriptor = array.array("i", [namespace.fileno()])
        to_harness.sendmsg([b"n"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptor)])
    signal.pause()


if __name__ == "__main__":
    main()
