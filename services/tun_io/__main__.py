"""The process `python -m services.tun_io`."""

import argparse
import sys

import netstack.runtime.uncollected  # noqa: F401 - first: what follows is imported without collections
from netstack.runtime.service import Runtime, run
from services.tun_io.device import receive_descriptors
from services.tun_io.service import TunIo


async def start(runtime: Runtime) -> None:
    """Take over the TUN, then serve it. Blocking here is right: nothing else is to be done yet."""
    TunIo(runtime, receive_descriptors(_handover()))


def _handover() -> int:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--tun-fd", type=int)
    options, _ = parser.parse_known_args(sys.argv[1:])
    if options.tun_fd is None:
        sys.exit("python -m services.tun_io: --tun-fd is missing: the supervisor (netstack up, netstack exec) gives it")
    return int(options.tun_fd)


run("tun_io", start, "Read and write the TUN, and spread its flows over the workers.")
