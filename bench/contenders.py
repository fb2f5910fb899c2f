"""Who is measured: each gives a network namespace whose traffic it forwards through sockets of the host namespace."""

import array
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from bench.world import World, WorldError, wait_until


class Running(NamedTuple):
    """A contender that forwards."""

    namespace: Path
    """Where the load generator runs."""
    forwarder: int | None
    """The process whose tree does the forwarding; None for the kernel."""


def kernel(world: World) -> Running:
    """Nobody in between: the veth alone."""
    return Running(world.host, None)


def slirp4netns(world: World) -> Running:
    """slirp4netns(1) with the MTU that its manual recommends for speed."""
    namespace = world.namespace("slirp4netns")
    readable, writable = os.pipe()
    command = [
        "slirp4netns", "--configure", "--mtu=65520", "--disable-host-loopback", f"--ready-fd={writable}",
        "--netns-type=path", str(namespace), "tap0",
    ]  # fmt: skip
    process = world.start(world.host, command, fds=[writable], log="slirp4netns.log")
    os.close(writable)
    with os.fdopen(readable, "rb") as ready:
        # One octet once the interface is configured; nothing if it ends before.
        if not ready.read(1):
            raise WorldError(f"slirp4netns ended: {world.tail('slirp4netns.log')}")
    return Running(namespace, process.pid)


def pasta(world: World) -> Running:
    """pasta(1), configured like the host namespace."""
    namespace = world.namespace("pasta")
    pid = world.directory / "pasta.pid"
    command = [
        "pasta", "--foreground", "--config-net", "--no-map-gw", "--runas", "0", "--pid", str(pid),
        "--log-file", str(world.directory / "pasta.log"), "-t", "none", "-u", "none", "-T", "none", "-U", "none",
        "--netns-only", "--netns", str(namespace),
    ]  # fmt: skip
    process = world.start(world.host, command, log="pasta.out")
    wait_until(lambda: pid.exists() or process.poll() is not None, "pasta ready")
    if process.poll() is not None:
        raise WorldError(f"pasta ended: {world.tail('pasta.out')}")
    return Running(namespace, process.pid)


def netstack(world: World, name: str = "netstack", options: Sequence[str] = ()) -> Running:
    """`netstack exec`, with a command that hands its network namespace to us and waits.

    name tells several in one world apart; options are further ones of the command line.
    """
    program = shutil.which("netstack", path=str(Path(sys.executable).parent))
    if program is None:
        raise WorldError(f"no netstack beside {sys.executable}: install the project into this environment first")
    meeting = world.directory / f"{name}.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(meeting))
        listener.listen()
        listener.settimeout(0.2)
        hold = [sys.executable, str(Path(__file__).with_name("hold.py")), str(meeting)]
        allow = ["-s", 'allow.networks=["198.18.0.0/15"]']
        command = [program, "exec", "--run-dir", str(world.directory / f"{name}.run"), *allow, *options, "--", *hold]
        process = world.start(world.host, command, log=f"{name}.log")
        number = _receive_namespace(listener, process, world, f"{name}.log")
    return Running(Path(f"/proc/{os.getpid()}/fd/{number}"), process.pid)


def _receive_namespace(listener: socket.socket, process: subprocess.Popen[str], world: World, log: str) -> int:
    for _ in range(50):
        try:
            connection, _ = listener.accept()
        except TimeoutError:
            if process.poll() is not None:
                raise WorldError(f"netstack ended: {world.tail(log)}") from None
            continue
        with connection:
            connection.settimeout(5)
            _, ancillary, _, _ = connection.recvmsg(1, socket.CMSG_SPACE(4))
        descriptors = array.array("i")
        descriptors.frombytes(ancillary[0][2])
        return descriptors[0]
    raise WorldError(f"netstack ran no command within 10 s: {world.tail(log)}")


CONTENDERS: Final[dict[str, Callable[[World], Running]]] = {
    "netstack": netstack,
    "slirp4netns": slirp4netns,
    "pasta": pasta,
    "kernel": kernel,
}
"""In the order of the table."""
