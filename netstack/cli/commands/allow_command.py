"""`netstack allow`: open a name or an endpoint for some time."""

from typing import Annotated

import typer

from netstack.cli.durations import parse_duration
from netstack.cli.options import OK, Common, command, write
from netstack.cli.reasons import render_done
from netstack.cli.tell import report
from netstack.wire.messages import Permit
from netstack.wire.reports import DoneReport, decode

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@command(app, "allow", epilog="Example: netstack allow 198.51.100.7:22/tcp --for 1h")
def allow(
    common: Common,
    target: Annotated[
        str,
        typer.Argument(
            metavar="NAME|IP[:PORT][/PROTO]", help="A name and those below it, an address or a prefix. PROTO: tcp, udp."
        ),
    ],
    duration: Annotated[
        str, typer.Option("--for", metavar="TIME", help="90s, 5m, 1h; without, until the instance ends.")
    ] = "",
) -> int:
    """Allow a name in spite of every list, or an endpoint without any name. `netstack revoke` takes it back."""
    seconds = parse_duration(duration, "--for") if duration else 0.0
    told = report(common, Permit(1, target, seconds))
    write(told if common.as_json else render_done(decode(told, DoneReport)))
    return OK
