"""One process of a service: started with what it needs, its stderr passed on line by line, its end noticed."""

import asyncio
import os
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from netstack.cli.account import Account, settle
from netstack.cli.compiled import CODE, SOURCES, Choice

KEPT_LINES: Final = 20
"""Lines of stderr that are kept for messages about a process that died."""

_READ: Final = 1 << 16


@dataclass(frozen=True)
class Launch:
    """What all processes of an instance are started with."""

    run_dir: Path
    instance: str
    config: Path
    notify: Path
    roster: Path
    account: Account
    environment: Mapping[str, str]
    listeners: tuple[int, ...] = ()
    """Descriptors of the sockets of dns.listen, for dns_filter."""
    code: Choice = SOURCES


class Process:
    """A running process. on_exit is called once, on the loop, with its return code as of subprocess.Popen."""

    def __init__(
        self, launch: Launch, stage: str, worker: str, on_exit: Callable[[int], None], tun_link: socket.socket | None
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._on_exit = on_exit
        self.lines: deque[str] = deque(maxlen=KEPT_LINES)
        self._partial = b""
        self._popen = _popen(launch, stage, worker, tun_link)
        self.pid = self._popen.pid
        assert self._popen.stderr is not None
        self._stderr = self._popen.stderr.fileno()
        os.set_blocking(self._stderr, False)
        self._loop.add_reader(self._stderr, self._read)
        self._pidfd = os.pidfd_open(self.pid)
        self._loop.add_reader(self._pidfd, self._ended)

    def signal(self, number: int) -> None:
        """Send it a signal; nothing happens once it has ended."""
        self._popen.send_signal(number)

    def _ended(self) -> None:
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        self._read()
        self._loop.remove_reader(self._stderr)
        assert self._popen.stderr is not None
        self._popen.stderr.close()
        self._on_exit(self._popen.wait())

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._stderr, _READ)
            except BlockingIOError:
                return
            if not data:
                self._loop.remove_reader(self._stderr)
                return
            *lines, self._partial = (self._partial + data).split(b"\n")
            if len(self._partial) > _READ:
                lines, self._partial = [*lines, self._partial], b""
            for line in lines:
                self.lines.append(line.decode(errors="replace"))
                sys.stderr.buffer.write(line + b"\n")
            sys.stderr.flush()


def service_environment(environment: Mapping[str, str], notify: Path, code: Path) -> dict[str, str]:
    """What a service sees: our environment without NETSTACK_..., whose effect is in the configuration file already."""
    kept = {name: value for name, value in environment.items() if not name.startswith("NETSTACK_")}
    # The sources behind it: should the compiled form be removed while we run, what is started anew runs from them.
    path = [*dict.fromkeys((str(code), str(CODE))), *kept.get("PYTHONPATH", "").split(os.pathsep)]
    kept["PYTHONPATH"] = os.pathsep.join(part for part in path if part)
    kept["NOTIFY_SOCKET"] = str(notify)
    return kept


def _popen(launch: Launch, stage: str, worker: str, tun_link: socket.socket | None) -> "subprocess.Popen[bytes]":
    # -P: a folder `services` in the caller's directory is not ours, and must not be run, by root least of all.
    argv = [
        sys.executable, "-P", "-m", f"services.{stage}", "--worker", worker, "--run-dir", str(launch.run_dir),
        "--instance", launch.instance, "-c", str(launch.config),
    ]  # fmt: skip
    passed: tuple[int, ...] = ()
    if stage == "dns_filter" and launch.listeners:
        passed = launch.listeners
        argv += ["--listen-fds", ",".join(map(str, passed))]
    if tun_link is not None:
        passed = (tun_link.fileno(),)
        argv += ["--tun-fd", str(tun_link.fileno())]
    account, supervisor = launch.account, os.getpid()
    return subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=service_environment(launch.environment, launch.notify, launch.code.code),
        pass_fds=passed,
        # A session of its own: Ctrl-C at the terminal is for the captured command.
        start_new_session=True,
        user=account.uid,
        group=account.gid,
        extra_groups=None if account.gid is None else [],
        # This process has no threads whose locks the child could find taken.
        preexec_fn=lambda: settle(account, supervisor),  # noqa: PLW1509
    )
