"""Runs a command in a captured network of its own: everything `netstack exec` makes, it takes away again."""

import asyncio
import os
import socket
from collections.abc import Sequence
from typing import Any, Final

from netstack.cli import pipeline, rundir
from netstack.cli.identity import PrivilegeError, caller, check_privileges
from netstack.cli.janitor import Janitor
from netstack.cli.options import BY_SIGNAL, CommandError, Common, UsageError
from netstack.cli.process import Launch
from netstack.cli.sandbox import Sandbox, SandboxError
from netstack.cli.signals import ENDING, PASSED_ON, SI_KERNEL, Signals
from netstack.cli.supervisor import NotReadyError, Supervisor
from netstack.runtime import log
from netstack.runtime.config import Config
from netstack.runtime.links import check_stages
from netstack.wire.topology import STAGES

_COMMAND: Final = "exec"


def run(common: Common, config: Config, argv: Sequence[str]) -> int:
    """The command's exit code; raises CommandError where it could not be run."""
    if config.mode != "firewall":
        raise UsageError('mode = "dns" captures no command: use `netstack up`, or leave mode = "firewall"')
    check_stages(config, STAGES)
    secret = pipeline.secret_of(config)
    config = pipeline.speak(config, common, unless_asked="warning")
    log.set_up(config.log.level, config.log.format, "supervisor")
    identity = caller()
    try:
        check_privileges(identity)
    except PrivilegeError as error:
        raise CommandError(str(error)) from None
    signals = Signals(PASSED_ON)
    run_dir = pipeline.prepare_run_dir(common)
    instance = rundir.claim(run_dir, common.instance or f"{_COMMAND}-{os.getpid()}", _COMMAND)
    janitor = Janitor(run_dir, instance.name)
    try:
        sandbox = Sandbox.create(config, identity, hidden=(run_dir,))
        try:
            account = pipeline.account_for(config, run_dir)
            launch, notify = pipeline.furnish(instance.directory, config, account, secret=secret)
            with notify:
                return asyncio.run(Session(config, sandbox, signals).run(launch, notify, argv))
        except (SandboxError, NotReadyError) as error:
            raise CommandError(str(error)) from None
        finally:
            sandbox.close()
    finally:
        instance.release()
        janitor.dismiss()


class Session:
    """From the start of the services to their end, with the command in between."""

    def __init__(self, config: Config, sandbox: Sandbox, signals: Signals) -> None:
        self._config = config
        self._sandbox = sandbox
        self._signals = signals
        self._running = False
        self._tun: tuple[int, ...] = ()

    async def run(self, launch: Launch, notify: socket.socket, argv: Sequence[str]) -> int:
        """The command's exit code, or 128+n where a signal came before the command could be started."""
        loop = asyncio.get_running_loop()
        interrupted: asyncio.Future[int] = loop.create_future()

        def on_signal(number: int, code: int) -> None:
            if self._running:
                if code != SI_KERNEL:  # else the terminal has sent it to the command as well
                    self._sandbox.signal(number)
            elif number in ENDING and not interrupted.done():
                interrupted.set_result(number)

        self._signals.watch(loop, on_signal)
        supervisor = Supervisor(_COMMAND, launch, notify)
        try:
            supervisor.start(self._config)
            beginning = asyncio.ensure_future(self._begin(supervisor))
            waiting: set[asyncio.Future[Any]] = {beginning, interrupted}
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if not beginning.done():
                beginning.cancel()
                await asyncio.wait({beginning})
                return BY_SIGNAL + interrupted.result()
            beginning.result()
            self._running = True
            self._sandbox.start(argv, os.environ)
            return await self._sandbox.wait()
        finally:
            # First nothing is captured any more, then nobody is needed who would answer.
            self._sandbox.close()
            await supervisor.stop()
            for descriptor in self._tun:
                os.close(descriptor)

    async def _begin(self, supervisor: Supervisor) -> None:
        self._tun = await self._sandbox.tun()
        supervisor.give_tun(self._tun)
        await supervisor.wait_until_ready()
