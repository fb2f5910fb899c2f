"""Starts the processes of an instance, waits until each is ready, starts anew those that die, and ends them.

The TUN's descriptors are held here. Each tun_io gets them through a socket of its own as soon as it is there, so that
tun_io can die and come back while the interface stays.
"""

import asyncio
import contextlib
import logging
import os
import re
import signal
import socket
import time
from collections.abc import Sequence
from typing import Final

from netstack.cli import roster
from netstack.cli.process import Launch, Process
from netstack.cli.restart import LONGEST_DELAY, RestartPolicy
from netstack.cli.roster import ProcessEntry, Roster
from netstack.runtime.config import Config
from netstack.wire.topology import STAGES, stages_of

READY_WITHIN: Final = 10.0  # seconds from the start of a process to its "ready"
TERM_WITHIN: Final = 1.5  # seconds from SIGTERM to SIGKILL
_HOST: Final = 18  # characters of the host in a worker's name, which has 32 at most
_NOTE: Final = 4096  # octets; more than any sd_notify message of ours

_log = logging.getLogger("netstack.supervisor")


class NotReadyError(Exception):
    """Some process did not become ready; the message says which, and what it said last."""


class _Worker:
    """One place in the roster: the process that has it now, and the memory of those before."""

    def __init__(self, stage: str, number: int, host: str) -> None:
        self.entry = ProcessEntry(stage, "-".join(filter(None, (stage, str(number), host))))
        self.policy = RestartPolicy()
        self.process: Process | None = None
        self.tun_link: socket.socket | None = None
        self.last_lines: list[str] = []


class Supervisor:
    """The processes of one instance. To be made on a running loop."""

    def __init__(self, command: str, launch: Launch, notify: socket.socket) -> None:
        self._launch = launch
        self._loop = asyncio.get_running_loop()
        self._workers: dict[str, _Worker] = {}
        self._roster = Roster(command, os.getpid(), time.time(), [])
        self._tun: tuple[int, ...] = ()
        self._stopping = False
        self._changed = asyncio.Event()
        self._timers: set[asyncio.TimerHandle] = set()
        self._notify = notify
        os.set_blocking(notify.fileno(), False)
        self._loop.add_reader(notify.fileno(), self._notified)

    def start(self, config: Config, stages: Sequence[str] = STAGES) -> None:
        """Start every worker of these stages; they start side by side."""
        # Names are unique in the instance: those of workers for another host's tun_io say where they are.
        host = re.sub(r"[^A-Za-z0-9_]", "-", socket.gethostname())[:_HOST] if config.links.connect else ""
        for stage in STAGES:
            if stage in stages:
                for number in range(getattr(config.workers, stage, 1)):
                    worker = _Worker(stage, number, host)
                    self._workers[worker.entry.worker] = worker
                    self._roster.processes.append(worker.entry)
        self._roster.stages = list(stages_of(config.mode))
        self._roster.compiled = self._launch.code.compiled
        self._roster.complete = set(stages) >= set(self._roster.stages) and not config.links.listen
        for worker in self._workers.values():
            self._spawn(worker)
        self._publish()

    def give_tun(self, descriptors: tuple[int, ...]) -> None:
        """The TUN is there: hand it to tun_io, now and after each restart. It stays the caller's to close; its
        first queue is that of tun_io (netstack.cli.tun).
        """
        self._tun = descriptors
        for worker in self._workers.values():
            self._send_tun(worker)

    async def wait_until_ready(self, within: float | None = READY_WITHIN) -> None:
        """Returns once every process is ready; raises NotReadyError when one keeps dying, or after so many seconds.

        None waits for ever: for stages that are ready only once others, which somebody else starts, are there.
        """
        began = self._loop.time()
        while waiting := [worker for worker in self._workers.values() if worker.entry.state != "ready"]:
            looping = [worker for worker in waiting if worker.policy.in_crash_loop]
            spent = self._loop.time() - began
            if looping or (within is not None and spent >= within):
                raise NotReadyError(_not_ready(looping or waiting, spent))
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), None if within is None else within - spent)

    async def stop(self) -> None:
        """End every process: SIGTERM, and SIGKILL for those that do not heed it. May be called more than once."""
        self._stopping = True
        for timer in self._timers:
            timer.cancel()
        for worker in self._workers.values():
            if worker.process is None:
                worker.entry.state = "stopped"
            elif worker.tun_link is not None:
                worker.process.signal(signal.SIGKILL)  # it waits for the TUN, has nothing to put in order, and is deaf
        self._signal_all(signal.SIGTERM)
        if not await self._all_ended(TERM_WITHIN):
            left = ", ".join(worker.entry.worker for worker in self._workers.values() if worker.process)
            _log.warning("killing what did not stop within %g s: %s", TERM_WITHIN, left)
            self._signal_all(signal.SIGKILL)
            await self._all_ended(TERM_WITHIN)
        self._publish()
        self._loop.remove_reader(self._notify.fileno())

    # --- starting and dying -------------------------------------------------------------------------------------------

    def _spawn(self, worker: _Worker) -> None:
        entry = worker.entry
        theirs: socket.socket | None = None
        if entry.stage == "tun_io":
            worker.tun_link, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        worker.process = Process(
            self._launch, entry.stage, entry.worker, lambda code: self._exited(worker, code), theirs
        )
        if theirs is not None:
            theirs.close()
            self._send_tun(worker)
        entry.pid, entry.state, entry.started_at = worker.process.pid, "starting", time.time()
        worker.policy.started(self._loop.time())

    def _send_tun(self, worker: _Worker) -> None:
        if not self._tun or worker.tun_link is None:
            return
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it died just now; its successor gets it
            socket.send_fds(worker.tun_link, [b"\0"], self._tun)
        worker.tun_link.close()
        worker.tun_link = None

    def _exited(self, worker: _Worker, code: int) -> None:
        assert worker.process is not None
        entry = worker.entry
        entry.last_exit, entry.last_lines = how_it_ended(code), list(worker.process.lines)
        entry.pid, worker.process = 0, None
        if worker.tun_link is not None:
            worker.tun_link.close()
            worker.tun_link = None
        if self._stopping:
            entry.state = "stopped"
        else:
            restart = worker.policy.died(self._loop.time())
            entry.state, entry.in_crash_loop = "restarting", worker.policy.in_crash_loop
            entry.restarts += 1
            when = f"in {restart.delay:g} s" if restart.delay else "at once"
            _log.warning("%s %s; starting it again %s", entry.worker, entry.last_exit, when)
            if restart.crash_loop:
                _log.error("%s keeps dying; its last lines:\n%s", entry.worker, _indented(entry.last_lines))
            self._later(restart.delay, worker)
        self._publish()

    def _later(self, delay: float, worker: _Worker) -> None:
        def again() -> None:
            self._timers.discard(timer)
            try:
                self._spawn(worker)
            except OSError as error:  # no memory, no process to be had
                _log.error("cannot start %s: %s", worker.entry.worker, error)
                self._later(LONGEST_DELAY, worker)
            self._publish()

        timer = self._loop.call_later(delay, again)
        self._timers.add(timer)

    def _notified(self) -> None:
        while True:
            try:
                note = self._notify.recv(_NOTE)
            except BlockingIOError:
                return
            fields = dict(line.partition("=")[::2] for line in note.decode(errors="replace").splitlines())
            worker = self._workers.get(fields.get("X_NETSTACK_WORKER", ""))
            if fields.get("READY") == "1" and worker is not None and worker.process is not None:
                worker.entry.state = "ready"
                self._publish()

    def _publish(self) -> None:
        self._changed.set()
        try:
            roster.write(self._launch.roster, self._roster)
        except OSError as error:
            _log.error("cannot write the roster of processes: %s", error)

    # --- the end ------------------------------------------------------------------------------------------------------

    def _signal_all(self, number: int) -> None:
        for worker in self._workers.values():
            if worker.process is not None:
                worker.process.signal(number)

    async def _all_ended(self, within: float) -> bool:
        until = self._loop.time() + within
        while any(worker.process for worker in self._workers.values()):
            remaining = until - self._loop.time()
            if remaining <= 0:
                return False
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), remaining)
        return True


def how_it_ended(code: int) -> str:
    """A return code of subprocess.Popen in words."""
    if code >= 0:
        return f"ended with code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"was killed by {name}"


def _not_ready(workers: Sequence[_Worker], spent: float) -> str:
    told = [f"not ready after {spent:.1f} s: {', '.join(worker.entry.worker for worker in workers)}"]
    for worker in workers:
        entry = worker.entry
        lines = list(worker.process.lines) if worker.process is not None else []
        how = f" (restarts: {entry.restarts}; the last one {entry.last_exit})" if entry.restarts else ""
        said = _indented(lines or entry.last_lines)
        told.append(f"{entry.worker}{how} said last:\n{said}" if said else f"{entry.worker}{how} said nothing")
    return "\n".join(told)


def _indented(lines: Sequence[str]) -> str:
    return "\n".join(f"    {line}" for line in lines)
