"""`netstack why`: why a name or an endpoint is open or closed, and what to type to change it."""

import time
from typing import Annotated

import typer

from netstack.cli.options import OK, Common, command, write
from netstack.cli.reasons import render_why
from netstack.cli.tell import report
from netstack.wire.messages import Explain
from netstack.wire.reports import WhyReport, decode

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@command(app, "why", epilog="Example: netstack why 198.51.100.7:443/udp, or: netstack why www.example.com")
def why(
    common: Common,
    target: Annotated[
        str, typer.Argument(metavar="NAME|IP[:PORT[/PROTO]]", help="An IPv6 address with a port: [2001:db8::1]:443.")
    ],
) -> int:
    """Say whether it is open, which query of which client opened it or which rule closes it, and what to type."""
    told = report(common, Explain(1, target))
    write(told if common.as_json else render_why(decode(told, WhyReport), time.time()))
    return OK
