"""The process between the supervisor and a sandbox's PID 1: builds the namespaces, then couples job control.

It stays outside the PID namespace, in the caller's process group, so that it can do what PID 1 cannot: stop the
supervisor when the command stops, continue the command when the supervisor is continued, and give the terminal back.
"""

import logging
import os
import select
import signal
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn

from netstack.cli import mounts, network, sandbox_init, terminal
from netstack.cli.identity import Identity
from netstack.cli.sandbox_messages import MESSAGE, Failed, SandboxError, encode
from netstack.cli.syscalls import (
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWUSER,
    set_parent_death_signal,
    unshare,
)
from netstack.cli.tun import open_tun
from netstack.cli.wakeup import wakeup
from netstack.runtime.config import Tun

# What a terminal or a caller sends to the whole process group is the command's and the supervisor's business. The
# monitor and PID 1 end when those do.
_DEAF_TO: Final = (
    signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGPIPE,
    signal.SIGALRM, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU,
)  # fmt: skip
_EVERY_GROUP: Final = "0 2147483647"  # net.ipv4.ping_group_range

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Blueprint:
    """What to build."""

    tun: Tun
    quic_ports: tuple[int, ...]
    identity: Identity
    supervisor: int  # pid
    ignored: tuple[int, ...]  # signals that the caller ignores
    hidden: tuple[Path, ...]  # directories that are empty in the sandbox


def run(blueprint: Blueprint, control: socket.socket) -> NoReturn:
    """The whole life of the monitor; to be called in a process forked for it, with every signal blocked."""
    try:
        _listen_to_no_signals()
        set_parent_death_signal(signal.SIGKILL)
        if os.getppid() == blueprint.supervisor:
            _monitor(blueprint, control)
    except (OSError, SandboxError) as error:
        _report_failure(control, str(error.strerror if isinstance(error, OSError) else error))
    except Exception:
        _log.exception("the sandbox's monitor failed")
        _report_failure(control, "the process that builds the captured namespace failed, see above")
        raise  # no further than this:
    finally:
        os._exit(0)


def _monitor(blueprint: Blueprint, control: socket.socket) -> None:
    tun, warnings = _build(blueprint)
    link, init_link = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    init = os.fork()
    if init == 0:
        link.close()
        plan = sandbox_init.Plan(blueprint.identity, blueprint.ignored)
        sandbox_init.run(plan, control, init_link, tun, warnings)
    for descriptor in tun:
        os.close(descriptor)
    init_link.close()
    coupling = _Coupling(blueprint.supervisor, link)
    coupling.run()
    # Returns when everything in the PID namespace is dead. `control` is open until this process ends, so that its end
    # of file tells the supervisor just that.
    os.waitpid(init, 0)
    coupling.take_back_terminal()


def _build(blueprint: Blueprint) -> tuple[tuple[int, ...], list[str]]:
    """The TUN's descriptors and what could not be had."""
    identity = blueprint.identity
    addresses = network.parse_addresses(blueprint.tun)
    flags = CLONE_NEWNET | CLONE_NEWNS | CLONE_NEWPID
    ping_groups = _EVERY_GROUP
    if identity.privileged:
        unshare(flags)
    else:
        unshare(flags | CLONE_NEWUSER)
        # user_namespaces(7): without privilege only the caller's own ids can be mapped, and no groups set.
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{identity.uid} {identity.uid} 1")
        Path("/proc/self/gid_map").write_text(f"{identity.gid} {identity.gid} 1")
        ping_groups = f"{identity.gid} {identity.gid}"
        set_parent_death_signal(signal.SIGKILL)
    mounts.set_up(blueprint.tun.dns, blueprint.hidden)
    tun = open_tun(blueprint.tun.name, blueprint.quic_ports)
    return tun, network.configure_own(blueprint.tun, addresses, ping_groups)


class _Coupling:
    """Job control: the supervisor stops and goes on with the command, and the command goes on with the supervisor.

    The shell that started the supervisor must not see it stop before the command has stopped, or both would read the
    terminal; so the supervisor ignores the terminal's stop signals and is stopped here. Continued, it takes along a
    command that has made a process group of its own, as shells do, and gives it the terminal that it had.
    """

    def __init__(self, supervisor: int, link: socket.socket) -> None:
        self._supervisor = supervisor
        self._link = link
        self._terminal = terminal.open_terminal()

    def run(self) -> None:
        """Until PID 1 is gone."""
        poll = select.poll()
        with self._link, wakeup(signal.SIGCONT) as continued:
            poll.register(continued, select.POLLIN)
            poll.register(self._link, select.POLLIN)
            while True:
                ready = {descriptor for descriptor, _ in poll.poll()}
                if self._link.fileno() in ready:
                    change = self._link.recv(1)
                    if not change:
                        return
                    self._command_changed(change[0])
                if continued.fileno() in ready:
                    continued.recv(MESSAGE)
                    self._supervisor_continued()

    def take_back_terminal(self) -> None:
        """If the command left its own, now dead, process group in the terminal's foreground, put the caller's there."""
        group = terminal.foreground(self._terminal)
        if group <= 0:
            return
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            terminal.give(self._terminal, os.getpgrp())
        except PermissionError:  # somebody else's group, which lives
            return

    def _command_changed(self, number: int) -> None:
        if number == signal.SIGCONT:
            os.kill(self._supervisor, signal.SIGCONT)
            return
        # Not the command's own signal: the supervisor ignores those.
        os.kill(self._supervisor, signal.SIGSTOP)

    def _supervisor_continued(self) -> None:
        ours = terminal.foreground(self._terminal) == os.getpgrp()
        self._link.send(sandbox_init.FOREGROUND if ours else sandbox_init.BACKGROUND)


def _listen_to_no_signals() -> None:
    signal.set_wakeup_fd(-1)
    for number in _DEAF_TO:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _report_failure(control: socket.socket, why: str) -> None:
    try:
        control.send(encode(Failed(why)))
    except (BrokenPipeError, ConnectionResetError):
        return  # the supervisor is gone, and this process goes as well
