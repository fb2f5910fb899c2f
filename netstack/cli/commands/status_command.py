"""`netstack status`: how each process of an instance is."""

import asyncio
import os
import time

import msgspec
import typer

from netstack.cli import ask, health, meeting, roster, rundir
from netstack.cli.options import NOT_HEALTHY, OK, Common, NotHealthyError, command, write

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@command(app, "status", epilog="Example: netstack status --json | jq '.processes[].drops'")
def status(common: Common) -> int:
    """Show each process: state, packets and octets in and out, queue, drops by reason. 4 if one is not healthy."""
    run_dir = (common.run_dir or rundir.default_run_dir(os.geteuid(), os.environ)).absolute()
    try:
        name = rundir.the_only(run_dir, common.instance)
    except rundir.NotRunningError as error:
        raise NotHealthyError(str(error)) from None
    directory = run_dir / name
    rosters = roster.read(directory)
    alive = [entry.worker for each in rosters for entry in each.processes if entry.pid]
    # Where no supervisor knows all processes (in containers), whoever answers is there.
    is_complete = any(each.complete for each in rosters)
    topology, curve = meeting.of(directory)
    samples = asyncio.run(ask.samples(topology, alive if is_complete else (), curve))
    shown = health.merge(name, rosters, samples)
    if common.as_json:
        write(msgspec.json.encode(shown).decode())
    else:
        write(health.render(shown, time.time(), with_gauges=common.verbose > 0))
    return OK if shown.healthy else NOT_HEALTHY
