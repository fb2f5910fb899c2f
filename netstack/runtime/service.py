"""How a service runs: arguments, configuration, loop, signals, readiness, samples, and an orderly end.

A service's `__main__` calls `run(stage, start)`. `start` gets the Runtime, opens what it needs and returns; the loop
then runs until SIGTERM or SIGINT (stop now) or, where the service set `on_drain`, SIGUSR1 (finish what you have, then
leave). A signal during `start` ends it.
"""

import argparse
import asyncio
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, Final, NoReturn

from netstack.packet.reason import Reason
from netstack.runtime import log
from netstack.runtime.config import Config, ConfigError
from netstack.runtime.counters import Counters
from netstack.runtime.farclock import FarClock
from netstack.runtime.links import INSECURE, check_stages, curve_of, exposed, topology_of
from netstack.runtime.load import load
from netstack.runtime.loop import Loop
from netstack.runtime.memory import collect_rarely, keep_freed_memory
from netstack.runtime.trace import Tracer
from netstack.wire.bus import Bus, Publisher
from netstack.wire.curve import Curve
from netstack.wire.topology import RunDirError, Topology

SAMPLE_TOPIC: Final = b"sample"
DEFAULT_RUN_DIR: Final = Path("/run/netstack")
DEFAULT_INSTANCE: Final = "default"

_CANCEL_WITHIN: Final = 1.0  # seconds that cancelled tasks have to end

_log = logging.getLogger(__name__)


class Runtime:
    """What every service is given."""

    def __init__(self, stage: str, worker: str, config: Config, topology: Topology, curve: Curve | None = None) -> None:
        self.stage = stage
        self.worker = worker
        """The name of this process, unique in the instance, and its identity on the links."""
        self.config = config
        self.topology = topology
        self.loop = asyncio.get_running_loop()
        self.counters = Counters()
        self.curve = curve
        """The keys of the links between hosts, where there are such links and they have keys."""
        self.bus = Bus(self.loop, on_malformed=lambda: self.counters.drop(Reason.MALFORMED_FRAME), curve=curve)
        self.events: Publisher = self.bus.publisher(topology.events_in)
        self.events.on_subscribe = self._subscribed
        self.trace = Tracer(self.events, stage, worker, FarClock() if topology.connect else None)
        self.on_drain: Callable[[], None] | None = None
        self.on_stop: list[Callable[[], Awaitable[None] | None]] = []
        """Called in reverse order before the process ends; what spawn() runs has been cancelled then."""
        self.before_sample: Callable[[], None] = lambda: None
        """Called to bring gauges up to date before they are shown."""
        self._ready_since = 0.0
        self._stopping = asyncio.Event()
        self._tasks: set[asyncio.Future[None]] = set()
        self.failures: list[BaseException] = []
        """What went wrong; a process that has any ends with 1."""

    def ready(self) -> None:
        """Say, once, that this process does its work from here on (sd_notify(3))."""
        if self._ready_since:
            return
        self._ready_since = time.time()
        _log.info("ready")
        self._notify("READY=1")

    def stop(self) -> None:
        """End this process in an orderly way."""
        self._stopping.set()

    def fail(self, message: str, error: BaseException | None = None) -> None:
        """A broken invariant: end. The supervisor starts us anew at once, which is better than going on wrong."""
        _log.critical("%s", message, exc_info=error)
        self.failures.append(error or RuntimeError(message))
        self.stop()

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a coroutine beside the callbacks; an exception in it is our bug and ends the process."""
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def every(self, seconds: float, call: Callable[[], None]) -> None:
        """Call something periodically for as long as the process lives."""

        def tick() -> None:
            if not self._stopping.is_set():
                call()
                self.loop.call_later(seconds, tick)

        self.loop.call_later(seconds, tick)

    async def run(self, start: Callable[["Runtime"], Awaitable[None]]) -> int:
        """Start, wait for the end, close everything; the exit code."""
        for number in (signal.SIGTERM, signal.SIGINT):
            self.loop.add_signal_handler(number, self.stop)
        self.loop.add_signal_handler(signal.SIGUSR1, self._drain)
        self.loop.set_exception_handler(self._failed)
        starting = asyncio.ensure_future(start(self))
        stopping = asyncio.ensure_future(self._stopping.wait())
        await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
        if starting.done() and (error := starting.exception()) is not None:
            # What the system refused is said in one line; anything else is a bug, shown with its traceback.
            known = isinstance(error, OSError)
            self.fail(f"cannot start: {error}" if known else "cannot start", None if known else error)
        await stopping
        await self._close([starting, *self._tasks])
        return 1 if self.failures else 0

    async def _close(self, tasks: list[asyncio.Future[None]]) -> None:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks, timeout=_CANCEL_WITHIN)
        for call in reversed(self.on_stop):
            try:
                outcome = call()
                if outcome is not None:
                    await outcome
            except Exception as error:  # noqa: BLE001  (the others must be called all the same)
                self.fail("stopping failed", error)
        self.bus.close()

    def _failed(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.fail(str(context["message"]), context.get("exception"))

    def _drain(self) -> None:
        if self.on_drain is None:
            self.stop()
        else:
            _log.info("draining: no new flows")
            self.on_drain()

    def _ended(self, task: asyncio.Future[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.fail("a task failed", error)

    def _subscribed(self, topic: bytes) -> None:
        if topic.startswith(SAMPLE_TOPIC):
            self.before_sample()
            sample = self.counters.sample(self.stage, self.worker, os.getpid(), self._ready_since)
            self.events.publish(topic, sample)

    def _notify(self, state: str) -> None:
        path = os.environ.get("NOTIFY_SOCKET")
        if not path:
            return
        address = "\0" + path[1:] if path.startswith("@") else path  # an abstract socket (sd_notify(3))
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            try:
                sender.sendto(f"{state}\nX_NETSTACK_WORKER={self.worker}\n".encode(), address)
            except OSError as error:
                _log.warning("cannot tell %s that we are ready: %s", path, error)


def run(stage: str, start: Callable[[Runtime], Awaitable[None]], description: str) -> NoReturn:
    """Run one service; ends the process. 0 after an orderly stop, 1 after a failure, 2 for a bad configuration."""
    options = _arguments(stage, description)
    keep_freed_memory()
    try:
        config = load(options.config, options.set, os.environ)
        check_stages(config, (stage,))
        topology = topology_of(config, options.run_dir / options.instance)
        curve = curve_of(config)
    except (ConfigError, RunDirError) as error:
        print(f"netstack {stage}: {error}", file=sys.stderr)
        sys.exit(2)
    collect_rarely()
    log.set_up(config.log.level, config.log.format, options.worker)
    if open_to := exposed(config):
        _log.warning(INSECURE, open_to)
    try:
        topology.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        _log.critical("cannot make the run directory: %s; choose another with --run-dir", error)
        sys.exit(1)

    async def main() -> int:
        return await Runtime(stage, options.worker, config, topology, curve).run(start)

    with asyncio.Runner(loop_factory=Loop) as runner:
        sys.exit(runner.run(main()))


def _arguments(stage: str, description: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=f"python -m services.{stage}", description=description)
    environment = os.environ
    parser.add_argument("-c", "--config", type=Path, default=environment.get("NETSTACK_CONFIG"), help="a TOML file")
    parser.add_argument("-s", "--set", action="append", default=[], metavar="KEY=VALUE", help="set one key")
    parser.add_argument("--run-dir", type=Path, default=Path(environment.get("NETSTACK_RUN_DIR", DEFAULT_RUN_DIR)))
    parser.add_argument("--instance", default=environment.get("NETSTACK_INSTANCE", DEFAULT_INSTANCE))
    parser.add_argument(
        "--worker",
        default=environment.get("NETSTACK_WORKER", f"{stage}-{socket.gethostname()}"),
        help="name of this process, unique in the instance",
    )
    if stage == "tun_io":
        parser.add_argument("--tun-fd", type=int, help="number of the inherited socket that hands over the TUN")
    if stage == "dns_filter":
        parser.add_argument("--listen-fds", metavar="FD,FD,...", help="numbers of inherited sockets of dns.listen")
    return parser.parse_args()
