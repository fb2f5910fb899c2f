"""`netstack deny`: deny a name from now on."""

from typing import Annotated

import typer

from netstack.cli.durations import parse_duration
from netstack.cli.options import OK, Common, command, write
from netstack.cli.reasons import render_done
from netstack.cli.tell import report
from netstack.wire.messages import Forbid
from netstack.wire.reports import DoneReport, decode

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@command(app, "deny", epilog="Example: netstack deny ads.example.com")
def deny(
    common: Common,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The name and all below it; *.NAME only those below.")],
    duration: Annotated[
        str, typer.Option("--for", metavar="TIME", help="90s, 5m, 1h; without, until the instance ends.")
    ] = "",
) -> int:
    """Answer a name with NXDOMAIN from now on, end its leases and cut its flows. `netstack revoke` takes it back."""
    seconds = parse_duration(duration, "--for") if duration else 0.0
    told = report(common, Forbid(1, name, seconds))
    write(told if common.as_json else render_done(decode(told, DoneReport)))
    return OK
