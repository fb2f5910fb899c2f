"""`netstack version`: which version this is."""

import platform
from importlib import metadata

import typer

from netstack.cli import compiled
from netstack.cli.options import OK, Common, command, write
from netstack.wire.messages import VERSION

app = typer.Typer(add_completion=False, rich_markup_mode=None)


def package_version() -> str:
    """The version that was installed; "unknown" in a tree that was never installed."""
    try:
        return metadata.version("netstack")
    except metadata.PackageNotFoundError:
        return "unknown"


@command(app, "version", epilog="Example: netstack version --json")
def version(common: Common) -> int:
    """Print the version of netstack, of its frames, and of Python, and whether services run compiled."""
    import msgspec  # noqa: PLC0415 - only for --json

    code = compiled.choose()
    about = {
        "netstack": package_version(), "frames": VERSION, "python": platform.python_version(),
        "compiled": code.compiled,
    }  # fmt: skip
    if common.as_json:
        write(msgspec.json.encode(about).decode())
    else:
        services = "compiled" if code.compiled else "from the sources"
        if code.stale:
            services += ", since what `make fast` made is of others"
        write(f"netstack {about['netstack']} (frames version {VERSION}, Python {about['python']}, services {services})")
    return OK
