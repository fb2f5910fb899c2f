"""What every command has in common: its options, its exit codes, and where it writes.

Data goes to stdout, messages to stderr. A command is a function of Common and its own options that returns an exit
code; `command` makes a typer command of it.
"""

import functools
import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from netstack.runtime.config import ConfigError
from netstack.wire.topology import RunDirError

OK: Final = 0
FAILED: Final = 1
USAGE: Final = 2  # or configuration
NOT_HEALTHY: Final = 4
BY_SIGNAL: Final = 128  # added to the signal's number, as shells do


class CommandError(Exception):
    """The command failed; the message says what, why and the remedy."""

    exit_code = FAILED


class UsageError(CommandError):
    """The command was called in a way that cannot work."""

    exit_code = USAGE


class NotHealthyError(CommandError):
    """What was looked at does not work as it should."""

    exit_code = NOT_HEALTHY


@dataclass(frozen=True)
class Common:
    """The options of every command."""

    run_dir: Path | None = None
    instance: str | None = None
    as_json: bool = False
    quiet: bool = False
    verbose: int = 0


_COMMON: Final[dict[str, tuple[Any, object]]] = {
    "run_dir": (
        Annotated[
            Path | None,
            typer.Option(
                "--run-dir",
                envvar="NETSTACK_RUN_DIR",
                readable=False,  # root without CAP_DAC_OVERRIDE, as in a container, need not be able to
                help="Where instances live; /run/netstack for root, otherwise $XDG_RUNTIME_DIR/netstack.",
                show_default=False,
            ),
        ],
        None,
    ),
    "instance": (
        Annotated[
            str | None,
            typer.Option("--instance", envvar="NETSTACK_INSTANCE", help="Name of the instance.", show_default=False),
        ],
        None,
    ),
    "as_json": (Annotated[bool, typer.Option("--json", help="Write JSON, one object a line where many.")], False),
    "quiet": (Annotated[bool, typer.Option("--quiet", "-q", help="Errors only.")], False),
    "verbose": (
        Annotated[int, typer.Option("--verbose", "-v", count=True, help="More messages; -vv for all.", metavar="")],
        0,
    ),
}

ConfigFile = Annotated[
    Path | None, typer.Option("--config", "-c", envvar="NETSTACK_CONFIG", help="A TOML file.", show_default=False)
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", "-s", metavar="KEY=VALUE", help="Set one key; the value is TOML, a bare word a string."),
]


def command(
    app: typer.Typer, name: str, *, epilog: str, context_settings: dict[str, object] | None = None
) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Register a function whose first parameter is Common; its other parameters are its own options."""

    def register(function: Callable[..., int]) -> Callable[..., int]:
        app.command(name, epilog=epilog, context_settings=context_settings)(_with_common(function))
        return function

    return register


def say(message: str, common: Common | None = None) -> None:
    """A message on stderr; with `common` only unless --quiet."""
    if common is None or not common.quiet:
        print(f"netstack: {message}", file=sys.stderr, flush=True)


def write(text: str) -> None:
    """Data on stdout."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _with_common(function: Callable[..., int]) -> Callable[..., None]:
    signature = inspect.signature(function)
    own = list(signature.parameters.values())[1:]

    @functools.wraps(function)
    def run(**values: object) -> None:
        given: dict[str, Any] = {name: values.pop(name) for name in _COMMON}
        common = Common(**given)
        try:
            code = function(common, **values)
        except (ConfigError, RunDirError) as error:
            say(str(error))
            code = USAGE
        except CommandError as error:
            say(str(error))
            code = error.exit_code
        except BrokenPipeError:
            # Whoever read our output has had enough; nothing is left to be flushed at exit.
            sys.stdout = None
            code = FAILED
        raise typer.Exit(code)

    keyword = inspect.Parameter.KEYWORD_ONLY
    common_parameters = [
        inspect.Parameter(name, keyword, default=default, annotation=annotation)
        for name, (annotation, default) in _COMMON.items()
    ]
    parameters = [parameter.replace(kind=keyword) for parameter in own] + common_parameters
    run.__signature__ = signature.replace(parameters=parameters, return_annotation=None)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    del run.__wrapped__  # typer would look through it at the signature without the common options
    return run
