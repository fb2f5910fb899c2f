"""The small internet that the contenders are measured in, and processes that end with us.

    contender's namespace  --(the contender)--  host  --veth--  internet: nginx, iperf3, a counter on 198.18.1.1

All namespaces carry our process id in their name, so that two runs do not meet and a stale one is known as such.
"""

import contextlib
import itertools
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from threading import Event
from time import monotonic
from typing import Final

from bench.workloads import COUNTER, DATAGRAMS, SERVER

_PREFIX: Final = "netstack-bench"
_NETNS: Final = Path("/run/netns")
_NGINX: Final = """
daemon off; master_process off; pid {directory}/nginx.pid; error_log {directory}/error.log;
events {{ worker_connections 4096; }}
http {{
    access_log off; keepalive_requests 1000000000; sendfile on; open_file_cache max=8;
    client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy; fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi; scgi_temp_path {directory}/scgi;
    server {{ listen {server}:80 backlog=4096; root {directory}; }}
}}
"""


class WorldError(Exception):
    """Something that the benchmark needs is not there or did not start."""


def wait_until(condition: Callable[[], object], what: str, seconds: float = 10.0) -> None:
    """Wait for something that tells nobody when it happens."""
    deadline = monotonic() + seconds
    while not condition():
        if monotonic() > deadline:
            raise WorldError(f"{what}: not within {seconds:.0f} s")
        Event().wait(0.02)


class World:
    """Namespaces and processes, all of which `stack` takes away again."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self._stack = stack
        self._ports = itertools.count(5201)
        self.directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=f"{_PREFIX}-{os.getpid()}-")))
        self.host = self.namespace("host")
        self.internet = self.namespace("internet")
        self._connect()
        self._start_nginx()
        self._start_counter()

    def namespace(self, role: str) -> Path:
        """A new network namespace with loopback up; gives its path."""
        name = f"{_PREFIX}-{os.getpid()}-{role}"
        _ip("netns", "add", name)
        self._stack.callback(_ip, "netns", "delete", name)
        _ip("-n", name, "link", "set", "lo", "up")
        return _NETNS / name

    def start(
        self, namespace: Path, command: Sequence[str], *, fds: Sequence[int] = (), log: str = ""
    ) -> subprocess.Popen[str]:
        """Run something in a namespace until the end of the world; ended by SIGTERM also if we are killed.

        stdout is a pipe without `log`, the name of a file in our directory that gets stdout and stderr.
        """
        output = (self.directory / log).open("w") if log else subprocess.PIPE
        # nsenter and setpriv replace themselves: the pid is the command's own.
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "TERM", "nsenter", f"--net={namespace}", *command],
            stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, text=True,
            pass_fds=fds, env=_environment(),
        )  # fmt: skip
        if log:
            self._stack.callback(output.close)  # type: ignore[union-attr]
        self._stack.callback(_end, process)
        return process

    def tail(self, log: str) -> str:
        """The end of what a process wrote."""
        return (self.directory / log).read_text(errors="replace").strip()[-600:]

    @contextlib.contextmanager
    def iperf_server(self) -> Iterator[int]:
        """An iperf3 server for one test; gives its port.

        Each has another one: a datagram that a forwarder still has of the test before would pass for the first one of
        the next, which then waits for ever.
        """
        port = next(self._ports)
        command = ["iperf3", "-s", "-1", "-p", str(port), "-B", SERVER, "--forceflush"]
        with contextlib.ExitStack() as stack:
            server = stack.enter_context(
                subprocess.Popen(
                    ["setpriv", "--pdeathsig", "TERM", "nsenter", f"--net={self.internet}", *command],
                    stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                )
            )  # fmt: skip
            stack.callback(_end, server)
            assert server.stdout
            if not any("Server listening" in line for line in server.stdout):
                raise WorldError("the iperf3 server did not start")
            yield port

    def _connect(self) -> None:
        host, internet = self.host.name, self.internet.name
        _ip("-n", internet, "link", "add", "host0", "type", "veth", "peer", "name", "eth0", "netns", host)
        _ip("-n", internet, "address", "add", "198.18.0.1/24", "dev", "host0")
        _ip("-n", internet, "address", "add", f"{SERVER}/32", "dev", "lo")
        _ip("-n", internet, "link", "set", "host0", "up")
        _ip("-n", host, "address", "add", "198.18.0.2/24", "dev", "eth0")
        _ip("-n", host, "link", "set", "eth0", "up")
        _ip("-n", host, "route", "add", "default", "via", "198.18.0.1")
        # Every contender has echo from ping sockets (icmp(7)), which no group may open by default.
        _run(["nsenter", f"--net={self.host}", "sysctl", "-qw", "net.ipv4.ping_group_range=0 2147483647"])

    def _start_nginx(self) -> None:
        (self.directory / "tiny").write_text("A tiny file.\n")
        configuration = self.directory / "nginx.conf"
        configuration.write_text("user root;" + _NGINX.format(directory=self.directory, server=SERVER))
        nginx = self.start(self.internet, ["nginx", "-e", "stderr", "-c", str(configuration)], log="nginx.log")
        pid = self.directory / "nginx.pid"
        wait_until(lambda: pid.exists() or nginx.poll() is not None, "nginx listening")
        if nginx.poll() is not None:
            raise WorldError(f"nginx ended: {self.tail('nginx.log')}")

    def _start_counter(self) -> None:
        counter = self.start(self.internet, [*DATAGRAMS, "serve", SERVER, str(COUNTER)])
        assert counter.stdout
        if counter.stdout.readline().strip() != "up":
            raise WorldError("bench/datagrams.py did not start")


def remove_stale() -> None:
    """Remove the namespaces and directories of runs that were killed."""
    for path in (*_NETNS.glob(f"{_PREFIX}-*"), *Path(tempfile.gettempdir()).glob(f"{_PREFIX}-*")):
        owner = re.match(rf"{_PREFIX}-(\d+)-", path.name)
        if not owner or Path("/proc", owner[1]).exists():
            continue
        if path.parent == _NETNS:
            _ip("netns", "delete", path.name)
        else:
            shutil.rmtree(path)


def _ip(*arguments: str) -> None:
    _run(["ip", *arguments])


def _run(command: Sequence[str]) -> None:
    result = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    if result.returncode:
        raise WorldError(f"{' '.join(command)}: {result.stderr.strip()}")


def _environment() -> dict[str, str]:
    """Ours, less what says who called sudo: everything here runs as root, and nothing as that user."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("SUDO_", "NETSTACK_"))}


def _end(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(5)
