"""Running transfers.py in a captured network, and the server that it talks to."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.internet import Internet
from tests.internet.machine import Place, Running


@contextmanager
def orders_served(internet: Internet) -> Iterator[None]:
    """The server of tests/internet/orders.py, everywhere in the small internet."""
    server = internet.net.start([sys.executable, "-m", "tests.internet.orders"])
    try:
        assert server.stdout.readline() == b"up\n", server.wait(1)
        yield
    finally:
        server.stop()


def words(action: str, host: str, port: int, **arguments: Any) -> list[str | Path]:
    """The words that run transfers.py."""
    return [sys.executable, "-m", "tests.e2e.transfers", action, host, str(port), json.dumps(arguments)]


def ask(place: Place, action: str, host: str, port: int, *, within: float = 50, **arguments: Any) -> dict[str, Any]:
    """Run transfers.py there to its end; its report."""
    return said(place.run(words(action, host, port, **arguments), timeout=within).ok().text)


def report(running: Running, within: float = 30) -> dict[str, Any]:
    """Close the standard input of one that runs, and read what it says."""
    return said(running.wait(within, b"").ok().text)


def said(text: str) -> dict[str, Any]:
    """The report is the last line."""
    return json.loads(text.splitlines()[-1])  # type: ignore[no-any-return]
