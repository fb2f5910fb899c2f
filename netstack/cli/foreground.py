"""Runs the pipeline in the foreground for a named namespace: `netstack up`, whole or, in a container, single stages."""

import asyncio
import logging
import os
import socket
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from netstack.cli import named, pipeline, rundir
from netstack.cli.account import Account
from netstack.cli.options import OK, CommandError, Common, UsageError, say
from netstack.cli.process import Launch
from netstack.cli.sandbox_messages import SandboxError
from netstack.cli.signals import ENDING, Signals
from netstack.cli.supervisor import READY_WITHIN, NotReadyError, Supervisor
from netstack.runtime import log
from netstack.runtime.config import Config
from netstack.runtime.links import check_stages
from netstack.runtime.listening import ListenError, open_listeners
from netstack.runtime.service import DEFAULT_INSTANCE
from netstack.runtime.values import parse_listen
from netstack.wire.topology import stages_of

CONTAINER_USER: Final = 65532
"""Whose the process is once it has the TUN, where it runs single stages as root; "nonroot" in distroless images."""

_COMMAND: Final = "up"
_log = logging.getLogger("netstack.supervisor")


@dataclass(frozen=True)
class Stages:
    """Single stages in a shared instance: which, and as whom once the TUN is open (None: as we are)."""

    names: tuple[str, ...]
    uid: int | None
    gid: int | None


def run(common: Common, config: Config) -> int:
    """The whole pipeline, until a signal ends it; raises CommandError where it could not be started."""
    check_stages(config, stages_of(config.mode))
    secret = pipeline.secret_of(config)
    config = pipeline.speak(config, common, unless_asked=config.log.level)
    log.set_up(config.log.level, config.log.format, "supervisor")
    signals = Signals(ENDING)
    run_dir = pipeline.prepare_run_dir(common)
    with ExitStack() as stack:
        instance = rundir.claim(run_dir, common.instance or DEFAULT_INSTANCE, _COMMAND)
        stack.callback(instance.release)
        tun: tuple[int, ...] = ()
        listeners = _listening(config, stack)
        if config.mode == "firewall":
            manifest = _planned(config)
            instance.note_namespace(manifest)
            namespace = _opened(config, manifest)
            stack.callback(namespace.close)
            tun = namespace.tun
        account = pipeline.account_for(config, run_dir)
        launch, notify = pipeline.furnish(instance.directory, config, account, secret=secret)
        stack.enter_context(notify)
        session = Session(config, stages_of(config.mode), signals, _usage(config, common))
        return _ran(session, replace(launch, listeners=listeners), notify, tun)


def run_stages(common: Common, config: Config, stages: Stages) -> int:
    """Single stages of an instance whose others run elsewhere, in containers say: nothing shared is removed."""
    check_stages(config, stages.names)
    secret = pipeline.secret_of(config)
    config = pipeline.speak(config, common, unless_asked=config.log.level)
    log.set_up(config.log.level, config.log.format, "supervisor")
    useless = [name for name in stages.names if name not in stages_of(config.mode)]
    if useless:
        raise UsageError(f'--stage {useless[0]}: mode = "dns" has no use for it, only for tracker and dns_filter')
    if "tun_io" in stages.names and config.capture.kind != "name":
        raise UsageError(
            "--stage tun_io works in a namespace that is there already: set capture.kind=name, and capture.name to its "
            "name or path, such as /proc/self/ns/net"
        )
    signals = Signals(ENDING)
    run_dir = (common.run_dir or rundir.default_run_dir(os.geteuid(), os.environ)).absolute()
    with ExitStack() as stack:
        tun: tuple[int, ...] = ()
        if "tun_io" in stages.names:
            namespace = _opened(config, [])
            stack.callback(namespace.close)
            tun = namespace.tun
        listeners = _listening(config, stack) if "dns_filter" in stages.names else ()
        # From here on nothing needs privilege. All that follows, children included, is the other user's.
        _become(stages)
        rundir.prepare(run_dir, 0o700)
        directory = run_dir / rundir.check_name(common.instance or DEFAULT_INSTANCE)
        directory.mkdir(mode=0o700, exist_ok=True)
        suffix = "-" + "+".join(stages.names)
        stack.enter_context(rundir.held(directory / f"{rundir.STAGES_LOCK}{suffix}.lock"))
        launch, notify = pipeline.furnish(directory, config, Account(), suffix, secret)
        stack.enter_context(notify)
        for path in (launch.config, launch.notify, launch.roster, directory / f"{pipeline.KEY_FILE}{suffix}"):
            stack.callback(Path.unlink, path, missing_ok=True)
        greeting = f"{', '.join(stages.names)} of instance {directory.name}: ready"
        launch = replace(launch, listeners=listeners)
        return _ran(Session(config, stages.names, signals, greeting), launch, notify, tun)


class Session:
    """From the start of the services to the signal that ends them."""

    def __init__(self, config: Config, stages: Sequence[str], signals: Signals, greeting: str) -> None:
        self._config = config
        self._stages = stages
        self._signals = signals
        self._greeting = greeting

    async def run(self, launch: Launch, notify: socket.socket, tun: tuple[int, ...]) -> int:
        """Returns when a signal has come and everything has stopped."""
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[int] = loop.create_future()

        def on_signal(number: int, _code: int) -> None:
            if not ended.done():
                ended.set_result(number)

        self._signals.watch(loop, on_signal)
        supervisor = Supervisor(_COMMAND, launch, notify)
        try:
            supervisor.start(self._config, self._stages)
            if tun:
                supervisor.give_tun(tun)
            is_whole = set(self._stages) >= set(stages_of(self._config.mode))
            beginning = asyncio.ensure_future(supervisor.wait_until_ready(READY_WITHIN if is_whole else None))
            waiting: set[asyncio.Future[Any]] = {beginning, ended}
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if beginning.done():
                beginning.result()
                if _log.isEnabledFor(logging.WARNING):
                    say(self._greeting)
                await ended
            else:
                beginning.cancel()
            _log.info("stopping")
        finally:
            await supervisor.stop()
        return OK


def _ran(session: Session, launch: Launch, notify: socket.socket, tun: tuple[int, ...]) -> int:
    try:
        return asyncio.run(session.run(launch, notify, tun))
    except NotReadyError as error:
        raise CommandError(str(error)) from None


def _listening(config: Config, stack: ExitStack) -> tuple[int, ...]:
    """Open what the DNS proxy listens on, while we may; it stays open until the end."""
    if config.mode != "dns":
        return ()
    try:
        opened = open_listeners(config.dns.listen)
    except ListenError as error:
        raise CommandError(str(error)) from None
    for sock in opened:
        stack.enter_context(sock)
    return tuple(sock.fileno() for sock in opened)


def _planned(config: Config) -> list[str]:
    try:
        return named.plan(config)
    except SandboxError as error:
        raise CommandError(str(error)) from None


def _opened(config: Config, manifest: Sequence[str]) -> named.NamedNamespace:
    try:
        namespace = named.NamedNamespace.open(config, manifest)
    except SandboxError as error:
        raise CommandError(str(error)) from None
    for warning in namespace.warnings:
        _log.warning("%s", warning)
    return namespace


def _become(stages: Stages) -> None:
    if stages.uid is None or stages.gid is None:
        return
    try:
        os.setgroups([])
        os.setresgid(stages.gid, stages.gid, stages.gid)
        os.setresuid(stages.uid, stages.uid, stages.uid)
    except OSError as error:
        raise CommandError(
            f"cannot become user {stages.uid}:{stages.gid} ({error.strerror}): start as root with CAP_SETUID and "
            "CAP_SETGID, or without --user as the user who shall run"
        ) from None


def _usage(config: Config, common: Common) -> str:
    where = f"--run-dir {common.run_dir} " if common.run_dir else ""
    if config.mode == "dns":
        address, port = parse_listen(config.dns.listen[0])
        asked = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(str(address), str(address))  # noqa: S104 - it is not bound
        say = f"Ask it: dig @{asked} -p {port} example.com"
        return f"ready. {say}. See what it does: netstack status {where}".rstrip()
    name = config.capture.name
    if "/" in name:
        enter = f"nsenter --net={name} CMD"
    else:
        enter = f"ip netns exec {name} CMD"
    return f"ready. Run a command in it: {enter}. See what it does: netstack status {where}".rstrip()
