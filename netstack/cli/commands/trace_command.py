"""`netstack trace`: follow packets of new flows across the queues."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Final

import msgspec
import typer

from netstack.cli import meeting, rundir
from netstack.cli.options import OK, Common, UsageError, command, say, write
from netstack.cli.timeline import Traces, render, trace_name
from netstack.runtime.trace import TOPIC
from netstack.wire.bus import Bus
from netstack.wire.messages import Message, TraceHop
from netstack.wire.topology import Topology

app = typer.Typer(add_completion=False, rich_markup_mode=None)

_LOOK_EVERY: Final = 0.1  # seconds between looks for traces that are over
_ALIVE_EVERY: Final = 1.0  # seconds between looks whether the instance lives


@command(app, "trace", epilog="Example: netstack trace -n 1")
def trace(
    common: Common,
    count: Annotated[
        int, typer.Option("-n", "--count", min=0, metavar="COUNT", help="End after so many traces; 0 for none.")
    ] = 0,
) -> int:
    """Print a timeline for each packet that opens a flow or asks a name: every hop, queue wait and service time."""
    run_dir = (common.run_dir or rundir.default_run_dir(os.geteuid(), os.environ)).absolute()
    name = rundir.the_only(run_dir, common.instance)
    topology, _ = meeting.of(run_dir / name)
    if topology.connect:
        raise UsageError(
            f"tun_io and tracker of instance {name} are on the host of {topology.connect}, whose clock all times are "
            "of: run `netstack trace` there"
        )
    say(f"tracing new flows of instance {name}; Ctrl-C ends it", common)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(Follower(common, run_dir, name, count).run())
    return OK


class Follower:
    """Subscribed to the hops of one instance until COUNT traces were told, a signal comes or the instance is gone."""

    def __init__(self, common: Common, run_dir: Path, name: str, count: int) -> None:
        self._common = common
        self._run_dir = run_dir
        self._name = name
        self._remaining = count or -1
        self._traces = Traces()
        self._epoch = time.time() - time.monotonic()
        self._done = asyncio.Event()
        self._failure: BaseException | None = None

    async def run(self) -> None:
        """Returns at the end; what is still open is told then."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._done.set)
        bus = Bus(loop)
        try:
            bus.subscriber(Topology(self._run_dir / self._name).events_out, [TOPIC], self._received)
            await self._watch(loop)
            self._tell(self._traces.rest())
        finally:
            bus.close(0)
        if self._failure is not None:
            raise self._failure

    async def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        look_again = loop.time() + _ALIVE_EVERY
        while not self._done.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._done.wait(), _LOOK_EVERY)
            self._tell(self._traces.quiet(loop.time()))
            if loop.time() >= look_again:
                look_again = loop.time() + _ALIVE_EVERY
                if self._name not in rundir.live(self._run_dir):
                    say(f"instance {self._name} has ended", self._common)
                    return

    def _received(self, _topic: bytes, message: Message) -> None:
        if isinstance(message, TraceHop):
            self._tell(self._traces.add(message, time.monotonic()))

    def _tell(self, traces: Iterable[list[TraceHop]]) -> None:
        for hops in traces:
            if self._remaining == 0 or self._failure is not None:
                return
            try:
                write(as_lines(hops, self._epoch) if self._common.as_json else render(hops, self._epoch))
            except BrokenPipeError as error:
                self._failure = error
                self._done.set()
                return
            self._remaining -= 1
            if self._remaining == 0:
                self._done.set()


def as_lines(hops: Iterable[TraceHop], epoch: float) -> str:
    """One JSON object a hop, on lines of their own; `time` is Unix time, the id in hexadecimal as in the text."""
    return "\n".join(
        msgspec.json.encode(
            {**hop._asdict(), "trace_id": trace_name(hop.trace_id), "time": round(hop.at + epoch, 6)}
        ).decode()
        for hop in hops
    )
