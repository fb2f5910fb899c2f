"""Running client.py in a captured network and reading what it says."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.internet import Finished
from tests.internet.machine import Place

CLIENT = Path(__file__).with_name("client.py")

Client = Callable[..., list[dict[str, Any]]]
"""Called with the words of client.py, gives its reports."""


def client_command(*words: str) -> list[str | Path]:
    """The words that run client.py."""
    return [sys.executable, CLIENT, *words]


def reports(finished: Finished) -> list[dict[str, Any]]:
    """What client.py said, one object for each action."""
    return [json.loads(line) for line in finished.ok().text.splitlines() if line.startswith("{")]


def client_in(place: Place) -> Client:
    """Run client.py in that place."""

    def call(*words: str, timeout: float = 20) -> list[dict[str, Any]]:
        return reports(place.run(client_command(*words), timeout=timeout))

    return call


def udp_client_command(*words: str) -> list[str | Path]:
    """The words that run udp_client.py."""
    return [sys.executable, "-m", "tests.e2e.udp_client", *words]
