"""`netstack recover`: remove what killed instances left."""

import os

import msgspec
import typer

from netstack.cli import rundir
from netstack.cli.named import recover as remove_namespace
from netstack.cli.options import OK, Common, command, say, write

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@command(app, "recover", epilog="Example: sudo netstack recover")
def recover(common: Common) -> int:
    """Remove what killed instances left: their directories and named namespaces, and nothing else."""
    run_dir = (common.run_dir or rundir.default_run_dir(os.geteuid(), os.environ)).absolute()
    removed = rundir.recover(run_dir, remove_namespace)
    if common.as_json:
        write(msgspec.json.encode({"removed": removed}).decode())
    else:
        for each in removed:
            write(f"removed {each}")
    if not removed:
        say("nothing was left behind", common)
    return OK
