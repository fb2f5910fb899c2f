"""`netstack check`: is the configuration valid, and what is it in effect?"""

import os

import msgspec
import typer

from netstack.cli.options import OK, Common, ConfigFile, Settings, command, say, write
from netstack.runtime.load import dump, load

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@command(app, "check", epilog="Example: netstack check -c netstack.toml -s dns.timeout=3")
def check(common: Common, config: ConfigFile = None, settings: Settings = None) -> int:
    """Validate the configuration and print the effective one: file, environment and -s together."""
    effective = load(config, settings or [], os.environ)
    if common.as_json:
        write(msgspec.json.encode(effective).decode())
    else:
        write(dump(effective).rstrip("\n"))
    say("the configuration is valid", common)
    return OK
