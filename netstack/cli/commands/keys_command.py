"""`netstack keys`: the key of this host for links between hosts."""

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from netstack.cli.options import OK, CommandError, Common, UsageError, command, say, write

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@command(app, "keys", epilog="Example: sudo netstack keys /etc/netstack/links.key")
def keys(
    common: Common, file: Annotated[Path, typer.Argument(metavar="FILE", help="The file of the secret key.")]
) -> int:
    """Make the secret key of this host (mode 0600) where FILE is not there yet; print the public one for the others."""
    from netstack.runtime.keys import generate, read  # noqa: PLC0415 - imports zmq, which --help need not wait for
    from netstack.wire.curve import public_of  # noqa: PLC0415

    try:
        public = generate(file)
        say(f"made {file}, which stays here; the public key is for links.peers or links.server_key elsewhere", common)
    except FileExistsError:
        try:
            public = public_of(read(file))
        except ValueError as error:
            raise UsageError(f"{file}: {error}") from None
    except OSError as error:
        raise CommandError(f"cannot make {file}: {error.strerror}") from None
    write(msgspec.json.encode({"public": public.hex()}).decode() if common.as_json else public.hex())
    return OK
