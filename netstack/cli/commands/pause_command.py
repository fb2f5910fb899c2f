"""`netstack pause`: refuse nothing for some time."""

from typing import Annotated

import typer

from netstack.cli.durations import parse_duration
from netstack.cli.options import OK, Common, UsageError, command, write
from netstack.cli.reasons import render_done
from netstack.cli.tell import report
from netstack.wire.messages import Pause
from netstack.wire.reports import DoneReport, decode

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@command(app, "pause", epilog="Example: netstack pause 5m, and to end it early: netstack pause --end")
def pause(
    common: Common,
    duration: Annotated[str, typer.Argument(metavar="[TIME]", help="90s, 5m, 1h.", show_default=False)] = "",
    end: Annotated[bool, typer.Option("--end", help="End a pause now.")] = False,  # noqa: FBT002  (a flag)
) -> int:
    """Let every address and every name through for that time, then refuse again. QUIC stays refused."""
    if end is bool(duration):
        raise UsageError("pause: write how long, such as `netstack pause 5m`, or --end")
    told = report(common, Pause(1, 0.0 if end else parse_duration(duration, "pause")))
    write(told if common.as_json else render_done(decode(told, DoneReport)))
    return OK
