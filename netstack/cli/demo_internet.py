"""The small internet of `netstack demo`: this process gets a network of its own, a child the rest of the world.

    demo (198.18.0.2, 2001:2:0:1::2) ---- world (198.18.0.1, 2001:2:0:1::1, and the servers' addresses)

Only pyroute2 and system calls. The namespaces have no name and end with their last process; the child ends when its
standard input does, which is when this process is gone.
"""

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Final, Self

from netstack.cli.syscalls import CLONE_NEWNET, setns, unshare

# RFC 2544 and RFC 5180 set these aside for benchmarks between two machines; nothing is routed there.
MACHINE: Final = ("198.18.0.2/24", "2001:2:0:1::2/64")
WORLD: Final = ("198.18.0.1/24", "2001:2:0:1::1/64")
DNS: Final = "198.18.0.1"
NAME: Final = "www.test"
NAMED: Final = ("198.18.1.10", "2001:2:0:2::10")
HARD_CODED: Final = "198.18.1.20"

_NODAD: Final = 0x02  # IFA_F_NODAD, <linux/if_addr.h>
_PATIENCE: Final = 5.0  # seconds


class SmallInternet:
    """A context manager; inside it this process, and what it starts, is on the demo's machine."""

    def __enter__(self) -> Self:
        self._home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        unshare(CLONE_NEWNET)
        # What a machine has where ping works for everybody; Netstack's echo goes through such sockets.
        Path("/proc/sys/net/ipv4/ping_group_range").write_text("0 2147483647")
        self._world = subprocess.Popen(
            [sys.executable, "-m", "netstack.cli.demo_servers"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        try:
            self._expect(b"unshared\n")
            _link(self._world.pid)
            self._tell(b"linked\n")
            self._expect(b"serving\n")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for pipe in (self._world.stdin, self._world.stdout):
            if pipe is not None:
                pipe.close()
        try:
            self._world.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self._world.kill()
            self._world.wait()
        setns(self._home, CLONE_NEWNET)
        os.close(self._home)

    def _expect(self, line: bytes) -> None:
        assert self._world.stdout is not None
        if self._world.stdout.readline() != line:
            raise RuntimeError("the demo's servers did not start; see the message above")

    def _tell(self, line: bytes) -> None:
        assert self._world.stdin is not None
        self._world.stdin.write(line)
        self._world.stdin.flush()


def configure(
    interface: str, addresses: tuple[str, ...], gateways: tuple[str, ...] = (), own: tuple[str, ...] = ()
) -> None:
    """Give the interface of the calling process's namespace addresses and default routes, and loopback `own` ones."""
    # Here, for it takes 80 ms that other commands need not pay.
    from pyroute2.iproute.linux import IPRoute  # noqa: PLC0415

    loopback, outside = socket.if_nametoindex("lo"), socket.if_nametoindex(interface)
    wanted = [(outside, address) for address in addresses] + [(loopback, address) for address in own]
    with IPRoute() as link:
        for index in (loopback, outside):
            link.link("set", index=index, state="up")
        for index, address in wanted:
            host, _, prefix = address.partition("/")
            flags = {"flags": _NODAD} if ":" in host else {}
            link.addr("add", index=index, address=host, prefixlen=int(prefix), **flags)
        for gateway in gateways:
            family, everything = (socket.AF_INET6, "::/0") if ":" in gateway else (socket.AF_INET, "0.0.0.0/0")
            link.route("add", family=family, dst=everything, gateway=gateway.partition("/")[0], oif=outside)


def _link(world: int) -> None:
    """A cable from here to the namespace of the process `world`."""
    from pyroute2.iproute.linux import IPRoute  # noqa: PLC0415

    with IPRoute() as link:
        link.link("add", ifname="eth0", kind="veth", peer={"ifname": "eth0", "net_ns_pid": world})
    configure("eth0", MACHINE, gateways=WORLD)
