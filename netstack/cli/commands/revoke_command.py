"""`netstack revoke`: take back what was leased, allowed or denied."""

from typing import Annotated

import msgspec
import typer

from netstack.cli.options import OK, Common, command, write
from netstack.cli.tell import ask
from netstack.wire.messages import Revoke, Revoked

app = typer.Typer(add_completion=False, rich_markup_mode=None)


def ended(count: int) -> str:
    """What came of it."""
    if not count:
        return "it had no lease; what commands said of it is forgotten"
    leases = "1 lease" if count == 1 else f"{count} leases"
    return f"{leases} ended, flows cut; it opens again when it is asked for again"


@command(app, "revoke", epilog="Example: netstack revoke www.example.com")
def revoke(
    common: Common,
    target: Annotated[str, typer.Argument(metavar="NAME|IP[:PORT[/PROTO]]", help="As leased, allowed or denied.")],
) -> int:
    """End the leases of a name or an address, cut the flows that use them, and forget what commands said of it."""
    (told,) = ask(common, Revoke(1, target))
    assert isinstance(told, Revoked)
    if common.as_json:
        write(msgspec.json.encode({"target": target, "revoked": told.count}).decode())
    else:
        write(f"revoked {target}: {ended(told.count)}")
    return OK
