"""A captured namespace and the command in it, as the supervisor sees them.

    supervisor -- monitor -- init (PID 1 of the namespace) -- the command and whatever it starts

The monitor builds a network, a mount and a PID namespace (inside a user namespace without root). When any of the three
on the left dies, the kernel kills everything to the right of it, and with the last process and the TUN's last
descriptor the namespaces go. Nothing is made on the host, so nothing has to be removed.

The command is in the supervisor's session and process group, with its terminal: Ctrl-C and Ctrl-Z reach both. While a
command runs, the supervisor should ignore the SIGINT and SIGQUIT that the terminal has sent to the command as well, and
pass on other signals with `signal`. The terminal's stop signals it ignores (start() sees to that): whether and when the
command stops is the command's affair, and the monitor stops and continues the supervisor with it. The supervisor's
other children belong in a session of their own.
"""

import asyncio
import logging
import os
import select
import signal
import socket
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from netstack.cli import sandbox_init, sandbox_monitor
from netstack.cli.identity import Identity, personal_environment
from netstack.cli.sandbox_messages import (
    Built,
    Exited,
    Failed,
    Order,
    Program,
    SandboxError,
    Signal,
    Start,
    decode_report,
    encode,
    receive,
)
from netstack.cli.tun import quic_ports
from netstack.runtime.config import Config

__all__ = ["Sandbox", "SandboxError"]

# Python's interpreter ignores these itself (Py_Initialize); the caller's wish about them is not known.
_IGNORED_BY_PYTHON: Final = frozenset({signal.SIGPIPE, signal.SIGXFSZ})
_STOPPING: Final = (signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)
_PATIENCE: Final = 2.0  # seconds for the sandbox to end by itself once its control socket is closed; takes milliseconds

_log = logging.getLogger(__name__)


class Sandbox:
    """Make one with create(), then await tun(), start() and await wait(), in this order; close() at any time."""

    def __init__(self, monitor: int, control: socket.socket, identity: Identity) -> None:
        self._monitor = monitor  # 0 once reaped
        self._control = control
        self._identity = identity
        self._tun: tuple[int, ...] = ()
        self._code: int | None = None
        self._failure = ""
        self._ended = False
        self._readable: asyncio.Future[None] | None = None
        self._dispositions: dict[signal.Signals, Any] = {}  # to be restored

    @classmethod
    def create(cls, config: Config, identity: Identity, hidden: Iterable[Path] = ()) -> "Sandbox":
        """Forks at once and returns; the namespace is built meanwhile.

        To be called before threads, ZeroMQ contexts or an event loop exist. `hidden` are directories that are empty in
        the sandbox: those with our own sockets, which a captured command of the same user could otherwise open.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ignored = (number for number in signal.valid_signals() if signal.getsignal(number) == signal.SIG_IGN)
        blueprint = sandbox_monitor.Blueprint(
            tun=config.tun,
            quic_ports=quic_ports(config),
            identity=identity,
            supervisor=os.getpid(),
            ignored=tuple(number for number in ignored if number not in _IGNORED_BY_PYTHON),
            hidden=tuple(hidden),
        )
        # A signal in the child before it has its own dispositions would run the supervisor's handlers there.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            monitor = os.fork()
            if monitor == 0:
                ours.close()
                sandbox_monitor.run(blueprint, theirs)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()
        ours.settimeout(0)
        return cls(monitor, ours, identity)

    async def tun(self) -> tuple[int, ...]:
        """The TUN's descriptors (netstack.cli.tun), from here on the caller's to close. SandboxError without one."""
        while not self._tun and not self._failure and not self._ended:
            await self._receive()
        if not self._tun:
            self.close()
            raise SandboxError(self._failure or "the process that builds the captured namespace was killed")
        descriptors, self._tun = self._tun, ()
        return descriptors

    def start(self, argv: Sequence[str], environment: Mapping[str, str]) -> None:
        """Run the command, in the directory in which create() was called. To be called in the main thread.

        Where it runs as another user than this process (under sudo), HOME, USER, LOGNAME and SHELL are that user's.
        What happens to the command is wait()'s to say.
        """
        if self._identity.uid != os.getuid():
            environment = personal_environment(self._identity.uid, environment)
        self._dispositions = {number: signal.signal(number, signal.SIG_IGN) for number in _STOPPING}
        program = Program(
            [os.fsencode(word) for word in argv],
            {os.fsencode(name): os.fsencode(value) for name, value in environment.items()},
        )
        with os.fdopen(os.memfd_create("program"), "wb") as file:
            file.write(encode(program))
            file.flush()
            file.seek(0)  # the position is shared with the descriptor that is sent
            self._send(Start(), file.fileno())

    async def wait(self) -> int:
        """The command's exit code as a shell gives it, once nothing is left of the sandbox.

        The command's own; 126 if it could not be executed and 127 if it was not found, with a message on stderr; 128+n
        if signal n killed it.
        """
        while not self._ended:
            await self._receive()
        self.close()
        if self._code is None:
            _log.error("the captured namespace was killed from outside, and the command with it")
            return sandbox_init.BY_SIGNAL + signal.SIGKILL
        return self._code

    def signal(self, number: int) -> None:
        """Send the command a signal. Nothing happens if it has not been started or has ended."""
        self._send(Signal(number))

    def close(self) -> None:
        """Kill everything in the sandbox and reap it. May be called again, and before wait() has returned."""
        if not self._monitor:
            return
        self._ended = True
        self._stop_listening()
        self._control.close()
        for descriptor in self._tun:
            os.close(descriptor)
        self._tun = ()
        if not _ends(self._monitor, _PATIENCE):
            os.kill(self._monitor, signal.SIGKILL)
        os.waitpid(self._monitor, 0)
        self._monitor = 0
        for number, disposition in self._dispositions.items():
            signal.signal(number, disposition)

    async def _receive(self) -> None:
        """Take what the sandbox says next."""
        loop = asyncio.get_running_loop()
        self._readable = loop.create_future()
        loop.add_reader(self._control.fileno(), self._stop_listening)
        try:
            await self._readable
        finally:
            self._stop_listening()
        if self._ended:  # close() was called meanwhile
            return
        data, descriptors = receive(self._control)
        if not data:
            self._ended = True
            return
        report = decode_report(data)
        if isinstance(report, Built):
            self._tun = tuple(descriptors)
            for warning in report.warnings:
                _log.warning("%s", warning)
        elif isinstance(report, Failed):
            self._failure = report.why
        elif isinstance(report, Exited):
            self._code = report.code

    def _stop_listening(self) -> None:
        """Wake _receive. The reader is removed before its descriptor can be closed and its number used again."""
        if self._readable is None:
            return
        readable, self._readable = self._readable, None
        readable.get_loop().remove_reader(self._control.fileno())
        if not readable.done():
            readable.set_result(None)

    def _send(self, order: Order, *descriptors: int) -> None:
        if self._ended:
            return
        try:
            socket.send_fds(self._control, [encode(order)], descriptors)
        except (BrokenPipeError, ConnectionResetError):
            return  # it has ended; wait() says so


def _ends(pid: int, patience: float) -> bool:
    """Whether the process ends within so many seconds. It is not reaped."""
    descriptor = os.pidfd_open(pid)
    try:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        return bool(poll.poll(patience * 1000))
    finally:
        os.close(descriptor)
