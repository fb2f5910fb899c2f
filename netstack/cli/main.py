"""The netstack command: finds the module of the command that is run, and imports no other."""

import gc
import importlib
from typing import Final, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup

COMMANDS: Final = (
    *("demo", "exec", "up", "check", "status", "leases", "why", "allow", "deny", "revoke", "pause"),
    *("trace", "keys", "recover", "version"),
)
"""In the order in which --help shows them; each is a module `netstack.cli.commands.<name>_command` with an `app`."""


class _Commands(TyperGroup):
    """Imports a command when it is asked for: `exec` does not wait for what `status` needs."""

    def list_commands(self, ctx: object) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def get_command(self, ctx: object, cmd_name: str) -> TyperCommand | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        # What is imported stays. To look for cycles in it again and again, and once more at the end, takes longer than
        # what most commands do.
        gc.disable()
        try:
            module = importlib.import_module(f"netstack.cli.commands.{cmd_name}_command")
        finally:
            gc.freeze()
            gc.enable()
        command = typer.main.get_command(module.app)
        assert isinstance(command, TyperCommand)
        return command


app = typer.Typer(
    cls=_Commands,
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Example: netstack exec -- curl https://example.com",
)


@app.callback()
def _netstack() -> None:
    """A DNS-gated, full-capture packet firewall: no name, no connection."""


def main() -> NoReturn:
    """The entry point of the `netstack` command; ends the process with the command's exit code."""
    app(prog_name="netstack")
    raise SystemExit(0)


if __name__ == "__main__":
    main()
