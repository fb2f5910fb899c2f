"""PID 1 of a sandbox: runs the command, reaps orphans, passes signals on, and takes everything along when it ends."""

import errno
import logging
import os
import select
import signal
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NoReturn

from netstack.cli import mounts, terminal
from netstack.cli.identity import Identity
from netstack.cli.sandbox_messages import (
    MESSAGE,
    Built,
    Exited,
    Failed,
    Order,
    Program,
    Report,
    Signal,
    Start,
    decode_order,
    decode_program,
    encode,
    receive,
)
from netstack.cli.syscalls import (
    CAP_NET_ADMIN,
    CAP_SYS_ADMIN,
    CAP_SYS_MODULE,
    drop_capabilities,
    set_parent_death_signal,
)
from netstack.cli.wakeup import wakeup

# What the monitor says over the link when it was continued.
FOREGROUND: Final = b"f"
BACKGROUND: Final = b"b"

NOT_EXECUTABLE: Final = 126
NOT_FOUND: Final = 127
BY_SIGNAL: Final = 128  # added to the signal's number
_STDERR: Final = 2

# With these the command could join another namespace, remove the route or the mounts, or load a module that does.
FORBIDDEN: Final = (CAP_NET_ADMIN, CAP_SYS_ADMIN, CAP_SYS_MODULE)

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """What the processes of a sandbox have to know of their origin."""

    identity: Identity
    ignored: tuple[int, ...]  # signals that the caller ignores, as under nohup; the command inherits that


class Init:
    """One per sandbox. `control` leads to the supervisor, `link` to the monitor."""

    def __init__(self, plan: Plan, control: socket.socket, link: socket.socket) -> None:
        self._plan = plan
        self._control = control
        self._link = link
        self._command = 0
        self._stopped = False
        self._terminal = terminal.open_terminal()
        self._foreground = 0  # the process group of the sandbox that had the terminal when the command stopped
        self._over = False

    def run(self, tun: Sequence[int], warnings: Sequence[str]) -> None:
        """Returns when the command has ended, or the supervisor or the monitor is gone."""
        set_parent_death_signal(signal.SIGKILL)  # a monitor that died before this line: end of file on the link
        mounts.mount_proc()
        # This process too: a command with CAP_SYS_PTRACE could otherwise borrow them from it.
        drop_capabilities(FORBIDDEN)
        self._report(Built(list(warnings)), *tun)
        for descriptor in tun:
            os.close(descriptor)
        with wakeup(signal.SIGCHLD) as children:
            self._serve(children)

    def _serve(self, children: socket.socket) -> None:
        poll = select.poll()
        for each in (self._control, self._link, children):
            poll.register(each, select.POLLIN)
        while not self._over:
            ready = {descriptor for descriptor, _ in poll.poll()}
            if children.fileno() in ready:
                children.recv(MESSAGE)
                self._reap()
            if self._control.fileno() in ready:
                self._take_order()
            if self._link.fileno() in ready:
                self._take_continue()

    def _take_order(self) -> None:
        data, descriptors = receive(self._control)
        if not data:
            self._over = True
            return
        order: Order = decode_order(data)
        if isinstance(order, Start):
            with os.fdopen(descriptors[0], "rb") as file:
                program = decode_program(file.read())
            self._command = self._fork(program)
        elif isinstance(order, Signal) and self._command:
            os.kill(self._command, order.number)

    def _take_continue(self) -> None:
        """The monitor was continued: so is the command, if it was not in the process group that was continued."""
        where = self._link.recv(1)
        if not where:
            self._over = True
            return
        self._reap()
        if not self._stopped or self._over:
            return
        if where == FOREGROUND and self._foreground:
            terminal.give(self._terminal, self._foreground)
        os.kill(self._command, signal.SIGCONT)

    def _reap(self) -> None:
        while not self._over:
            try:
                child, status = os.waitpid(-1, os.WNOHANG | os.WUNTRACED | os.WCONTINUED)
            except ChildProcessError:
                return
            if not child:
                return
            if child == self._command:
                self._command_changed(status)

    def _command_changed(self, status: int) -> None:
        if os.WIFSTOPPED(status):
            self._stopped = True
            # 0 for a group outside the PID namespace, which is the caller's or another job's.
            self._foreground = max(0, terminal.foreground(self._terminal))
            self._link.send(bytes([os.WSTOPSIG(status)]))
        elif os.WIFCONTINUED(status):
            self._stopped = False
            self._link.send(bytes([signal.SIGCONT]))
        else:
            self._over = True
            self._report(Exited(exit_code(status)))

    def _report(self, report: Report, *descriptors: int) -> None:
        try:
            socket.send_fds(self._control, [encode(report)], descriptors)
        except (BrokenPipeError, ConnectionResetError):  # the supervisor is gone
            self._over = True

    def _fork(self, program: Program) -> int:
        # Blocked until the child has the command's own dispositions: with this process's a signal would be lost.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        child = os.fork()
        if child:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            return child
        code = NOT_EXECUTABLE
        try:
            _reset_signals(self._plan.ignored)
            _become(self._plan.identity)
            code = _execute(program)
        except OSError as error:
            _say(f"cannot run the command: {error.strerror}")
        finally:
            os._exit(code)


def run(
    plan: Plan, control: socket.socket, link: socket.socket, tun: Sequence[int], warnings: Sequence[str]
) -> NoReturn:
    """The whole life of PID 1."""
    try:
        Init(plan, control, link).run(tun, warnings)
    except OSError as error:
        control.send(encode(Failed(str(error.strerror))))
    except Exception:
        _log.exception("the sandbox's init failed")
        raise  # no further than this:
    finally:
        os._exit(0)


def exit_code(status: int) -> int:
    """A wait status as a shell's $?."""
    return BY_SIGNAL + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def candidates(name: bytes, environment: Mapping[bytes, bytes]) -> list[bytes]:
    """The paths that are tried for a command, as execvp(3) does."""
    if b"/" in name:
        return [name]
    path = environment.get(b"PATH", os.fsencode(os.defpath))
    return [os.path.join(directory or b".", name) for directory in path.split(b":")]  # noqa: PTH118 (octets, not text)


def _execute(program: Program) -> int:
    """Replace this process by the command; returns a shell's exit code where that fails, having said why."""
    name = program.argv[0]
    shown = os.fsdecode(name)
    failure = ""
    for path in candidates(name, program.environment) if name else []:
        try:
            os.execve(path, program.argv, program.environment)  # noqa: S606 (no shell is meant)
        except (FileNotFoundError, NotADirectoryError):
            if os.path.isfile(path):  # noqa: PTH113
                failure = failure or "its interpreter, the one after #!, was not found"
        except OSError as error:
            if b"/" not in name and not os.path.isfile(path):  # noqa: PTH113
                continue  # a directory of PATH that may not be searched, or something else that is no command
            if error.errno == errno.ENOEXEC:
                # A script without #!, which every shell and execvp(3) run all the same.
                os.execve(b"/bin/sh", [b"/bin/sh", path, *program.argv[1:]], program.environment)  # noqa: S606
            failure = failure or str(error.strerror)
    if failure:
        _say(f"{shown}: {failure}")
        return NOT_EXECUTABLE
    _say(f"{shown}: command not found" if b"/" not in name else f"{shown}: no such file")
    return NOT_FOUND


def _reset_signals(ignored: Sequence[int]) -> None:
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_IGN if number in ignored else signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _become(identity: Identity) -> None:
    if os.getuid() != identity.uid or os.getgid() != identity.gid:
        os.setgroups(identity.groups)
        os.setresgid(identity.gid, identity.gid, identity.gid)
        os.setresuid(identity.uid, identity.uid, identity.uid)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))


def _say(message: str) -> None:
    os.write(_STDERR, f"netstack: {message}\n".encode(errors="replace"))
