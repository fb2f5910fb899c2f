"""`netstack demo`: the main job against a small internet of its own."""

import importlib

import typer

from netstack.cli.options import Common, command

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@command(app, "demo", epilog="Example: sudo netstack demo")
def demo(common: Common) -> int:  # noqa: ARG001
    """Show what netstack does, against a small internet in network namespaces. Needs root, and no network."""
    return int(importlib.import_module("netstack.cli.demo").demo())
