"""A machine of its own: network, mount, PID and IPC namespaces, held by one init process and gone with it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Self

# Reaps what is orphaned, so that what is left in the namespace is really alive.
_INIT = """
import os, signal
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
os.write(1, b"up\\n")
while True:
    signal.sigwait({signal.SIGCHLD})
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass
"""
TIMEOUT = 20.0  # seconds


def wait_until(condition: Callable[[], Any], timeout: float, what: str) -> Any:
    """The first true value of the condition; AssertionError after `timeout` seconds."""
    end = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"not within {timeout:g} s: {what}")
        time.sleep(0.02)  # noqa: TID251 - other processes are waited for; there is no loop and no virtual clock here


@dataclass(frozen=True)
class Finished:
    """What a program did: exit code as a shell gives it (128 + n for a signal), output, wall time in seconds."""

    command: list[str]
    code: int
    out: bytes
    err: bytes
    seconds: float

    @property
    def text(self) -> str:
        """Standard output as text."""
        return self.out.decode(errors="replace")

    @property
    def messages(self) -> str:
        """Standard error as text."""
        return self.err.decode(errors="replace")

    def __str__(self) -> str:
        return (
            f"$ {' '.join(self.command)}\nexit {self.code} after {self.seconds:.2f} s\n"
            f"--- stdout\n{self.text[-4000:]}\n--- stderr\n{self.messages[-6000:]}"
        )

    def ok(self) -> Self:
        """Itself, if it ended with 0; AssertionError with everything it said otherwise."""
        assert self.code == 0, str(self)
        return self


class Running:
    """A program in a machine. Its process id seen from here is `pid`; ends with the machine at the latest."""

    def __init__(self, process: "subprocess.Popen[bytes]", command: list[str], *, forked: bool) -> None:
        self._process = process
        self._command = command
        self._started = time.monotonic()
        # A PID namespace is entered by children only, so nsenter forks where it enters one.
        self._pid = 0 if forked else process.pid

    @property
    def pid(self) -> int:
        """Of the program itself."""
        if not self._pid:
            self._pid = wait_until(lambda: _only_child(self._process.pid), 5, "the program has started")
        return self._pid

    @property
    def stdout(self) -> IO[bytes]:
        """The pipe from its standard output."""
        assert self._process.stdout is not None
        return self._process.stdout

    @property
    def ended(self) -> bool:
        """Whether it has ended."""
        return self._process.poll() is not None

    def send(self, number: int) -> None:
        """Send a signal to it alone."""
        os.kill(self.pid, number)

    def wait(self, timeout: float, stdin: bytes | None = None) -> Finished:
        """Wait for its end; kills it and raises AssertionError with its output if that takes too long."""
        try:
            out, err = self._process.communicate(stdin, timeout=timeout)
        except subprocess.TimeoutExpired:
            # So that what it started can end in an orderly way, and its output can be shown.
            with suppress(ProcessLookupError, AssertionError):
                self.send(signal.SIGTERM)
            try:
                out, err = self._process.communicate(timeout=3)
            except subprocess.TimeoutExpired:
                self.stop()
                out, err = b"", b"(its output stayed open after SIGTERM)"
            raise AssertionError(f"still running after {timeout:g} s: {self._finished(out, err)}") from None
        return self._finished(out, err)

    def stop(self, number: int = signal.SIGKILL, timeout: float = 5) -> None:
        """End it, without looking at its output."""
        if not self.ended:
            with suppress(ProcessLookupError, AssertionError):
                self.send(number)
        self.reap(timeout)

    def reap(self, timeout: float = 5) -> None:
        """Wait for its end, and force it after that time."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout)
        if not self.ended:
            self._process.kill()
            self._process.wait(timeout)
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe:
                with suppress(OSError):
                    pipe.close()

    def _finished(self, out: bytes | None, err: bytes | None) -> Finished:
        code = self._process.returncode
        code = 128 - code if code < 0 else code
        return Finished(self._command, code, out or b"", err or b"", time.monotonic() - self._started)


class Place:
    """Where programs can be run: some namespaces of the process `target`."""

    namespaces: tuple[str, ...]

    def __init__(self, target: int) -> None:
        self.target = target
        """Process id, seen from here."""

    def start(
        self, command: Sequence[str | Path], *, stdin: Any = subprocess.DEVNULL, stdout: Any = subprocess.PIPE,
        stderr: Any = subprocess.PIPE, environment: Mapping[str, str] | None = None,
    ) -> Running:  # fmt: skip
        """Start a program there, as root, in this process's working directory; it dies with this process."""
        words = [str(word) for word in command]
        enter = ["nsenter", f"--target={self.target}", *self.namespaces, f"--wd={Path.cwd()}"]
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *enter, *words],
            stdin=stdin, stdout=stdout, stderr=stderr, env={**_own_environment(), **(environment or {})},
        )  # fmt: skip
        return Running(process, words, forked="--pid" in self.namespaces)

    def run(
        self, command: Sequence[str | Path], *, timeout: float = 10, stdin: bytes | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Finished:  # fmt: skip
        """Run a program there to its end."""
        pipe = subprocess.DEVNULL if stdin is None else subprocess.PIPE
        return self.start(command, stdin=pipe, environment=environment).wait(timeout, stdin)


@contextmanager
def started(place: Place, *command: str | Path) -> Iterator[Running]:
    """A module that is a program, from when it says "up" until SIGTERM."""
    running = place.start([sys.executable, "-m", *command], stderr=None)
    try:
        if running.stdout.readline() != b"up\n":
            raise RuntimeError(f"{command[0]} does not start; see the message above")
        yield running
    finally:
        running.stop(signal.SIGTERM)


class Machine(Place):
    """Namespaces of one machine. `prelude` is a shell script that is run as root in it before anything else."""

    namespaces = ("--net", "--mount", "--pid", "--ipc", "--uts")

    def __init__(self, name: str, prelude: str = "") -> None:
        super().__init__(0)
        self.name = name
        self._prelude = prelude
        self._holder: subprocess.Popen[bytes] | None = None
        self._started: list[Running] = []

    def __enter__(self) -> Self:
        # A name that needs no resolver: sudo looks it up.
        script = f"set -e\nhostname localhost\nip link set lo up\n{self._prelude}\nexec python3 -SE -c '{_INIT}'"
        self._holder = subprocess.Popen(
            # If this process dies, even by SIGKILL, the holder does, then init, and with init the whole namespace.
            ["setpriv", "--pdeathsig", "KILL", "unshare", "--net", "--mount", "--pid", "--ipc", "--uts", "--mount-proc",
             "--propagation", "private", "--fork", "--kill-child=KILL", "sh", "-c", script],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert self._holder.stdout is not None
        if self._holder.stdout.readline() != b"up\n":
            self.__exit__()
            raise RuntimeError(f"cannot make the machine {self.name}; see the message above")
        self.target = _only_child(self._holder.pid)
        return self

    def __exit__(self, *_: object) -> None:
        holder, self._holder = self._holder, None
        if holder is None:
            return
        # Its init goes with it (--kill-child), and all processes of the namespace before that.
        holder.kill()
        holder.wait(TIMEOUT)
        wait_until(lambda: _is_dead(self.target), TIMEOUT, f"the machine {self.name} is gone")
        assert holder.stdout is not None
        holder.stdout.close()
        for running in self._started:
            running.reap()

    def start(self, command: Sequence[str | Path], **options: Any) -> Running:
        """Start a program in the machine; it ends with the machine at the latest."""
        self._started = [running for running in self._started if not running.ended]
        running = super().start(command, **options)
        self._started.append(running)
        return running

    def processes(self) -> dict[int, str]:
        """Command lines by process id (as numbered in the machine) of all that lives in it, but for its init."""
        listed = self.run(["ps", "-eo", "pid=,stat=,args=", "-ww"]).ok().text.splitlines()
        rows = [line.split(None, 2) for line in listed]
        return {
            int(pid): args
            for pid, state, args in rows
            if pid != "1" and not args.startswith("ps -eo") and not state.startswith("Z")
        }


def _own_environment() -> dict[str, str]:
    """Without what is said to the tests themselves: Netstack refuses what it does not know."""
    return {
        name: value for name, value in os.environ.items() if not name.startswith(("NETSTACK_E2E_", "NETSTACK_TEST_"))
    }


def _is_dead(pid: int) -> bool:
    try:
        return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True


def _only_child(pid: int) -> int:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except FileNotFoundError:
        return 0
    return int(children[0]) if children else 0
