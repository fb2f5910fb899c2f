"""`netstack exec`: run a command in its own captured network."""

import os
from typing import Annotated

import typer

from netstack.cli import execute
from netstack.cli.options import Common, ConfigFile, Settings, command
from netstack.runtime.load import load

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@command(
    app,
    "exec",
    epilog="Example: netstack exec -- curl https://example.com",
    # What stands behind the command's name is the command's own, also without "--".
    context_settings={"allow_interspersed_args": False},
)
def exec_(
    common: Common,
    argv: Annotated[list[str], typer.Argument(metavar="CMD [ARG]...", help="The command.", show_default=False)],
    config: ConfigFile = None,
    settings: Settings = None,
) -> int:
    """Run CMD in its own captured network: only what it resolves by name can be reached. The exit code is CMD's."""
    return execute.run(common, load(config, settings or [], os.environ), argv)
