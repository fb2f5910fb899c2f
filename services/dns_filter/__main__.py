"""`python -m services.dns_filter`."""

import argparse
import sys

import netstack.runtime.uncollected  # noqa: F401 - first: what follows is imported without collections
from netstack.runtime.service import Runtime, run
from services.dns_filter import service


async def start(runtime: Runtime) -> None:
    """Take over the sockets of dns.listen, where there are any, then answer."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--listen-fds", default="")
    options, _ = parser.parse_known_args(sys.argv[1:])
    await service.start(runtime, [int(number) for number in options.listen_fds.split(",") if number])


run("dns_filter", start, "Answers every port-53 query through the upstream resolver; leases the addresses first.")
