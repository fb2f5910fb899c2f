"""`netstack leases`: which addresses are open, by which name, until when."""

from typing import Annotated

import msgspec
import typer

from netstack.cli.options import OK, Common, command, say, write
from netstack.cli.reasons import lease_rows
from netstack.cli.tell import ask
from netstack.cli.words import columns
from netstack.wire.messages import ListLeases, Told
from netstack.wire.reports import LeaseReports, decode

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@command(app, "leases", epilog="Example: netstack leases --json | jq -r '.address + \" \" + .names[-1]'")
def leases(
    common: Common,
    target: Annotated[
        str, typer.Argument(metavar="[NAME|IP]", help="Only those of this name or address.", show_default=False)
    ] = "",
) -> int:
    """Show the addresses that are open: by which name, through which aliases, who asked, and for how long yet."""
    found = []
    for told in ask(common, ListLeases(1, target)):
        assert isinstance(told, Told)
        found += decode(told.report, LeaseReports).leases
    if common.as_json:
        for lease in found:
            write(msgspec.json.encode(lease).decode())
    elif found:
        write("\n".join(columns(lease_rows(found))))
    if not found:
        say(f"nothing is leased{f' to {target}' if target else ''}", common)
    return OK
