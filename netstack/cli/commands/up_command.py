"""`netstack up`: run the pipeline in the foreground."""

import os
import re
from typing import Annotated

import typer

from netstack.cli import foreground
from netstack.cli.options import Common, ConfigFile, Settings, UsageError, command
from netstack.runtime.load import load
from netstack.wire.topology import STAGES

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@command(app, "up", epilog="Example: sudo netstack up -s capture.name=lab, and then: sudo ip netns exec lab bash")
def up(
    common: Common,
    config: ConfigFile = None,
    settings: Settings = None,
    stage: Annotated[
        list[str] | None,
        typer.Option(metavar="STAGE", help=f"Only this stage, as in a container; one of {', '.join(STAGES)}."),
    ] = None,
    user: Annotated[
        str | None,
        typer.Option(
            metavar="UID[:GID]",
            help=f"With --stage: whose the process is once it has the TUN; for root {foreground.CONTAINER_USER}.",
            show_default=False,
        ),
    ] = None,
) -> int:
    """Run the pipeline in the foreground for a named network namespace that others join, until it is interrupted."""
    if user is not None and not stage:
        raise UsageError("--user goes with --stage; without, services run as nobody where that is possible")
    effective = load(config, settings or [], os.environ)
    if not stage:
        return foreground.run(common, effective)
    unknown = [name for name in stage if name not in STAGES]
    if unknown:
        raise UsageError(f"--stage {unknown[0]}: must be one of {', '.join(STAGES)}")
    return foreground.run_stages(common, effective, parse_stages(stage, user, os.geteuid()))


def parse_stages(names: list[str], user: str | None, euid: int) -> foreground.Stages:
    """The stages in their order, and the user to become."""
    ordered = tuple(name for name in STAGES if name in names)
    if user is None:
        other = foreground.CONTAINER_USER if euid == 0 else None
        return foreground.Stages(ordered, other, other)
    found = re.fullmatch(r"([0-9]{1,9})(?::([0-9]{1,9}))?", user)
    if found is None:
        raise UsageError(f"--user {user!r}: must be UID or UID:GID, in digits, such as {foreground.CONTAINER_USER}")
    return foreground.Stages(ordered, int(found.group(1)), int(found.group(2) or found.group(1)))
