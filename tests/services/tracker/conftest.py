"""What the tests of the tracker share: a real Redis, and a place that never answers."""

import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.services.tracker.redis_server import RedisServer


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    """A running redis-server."""
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed: apt-get install redis-server")
    directory = Path(tempfile.mkdtemp(prefix="netstack-"))  # pytest's own are too long for a Unix socket
    server = RedisServer(directory)
    server.start()
    yield server
    server.kill()
    shutil.rmtree(directory)


@pytest.fixture
def silent() -> Iterator[str]:
    """The URL of a place that takes connections and never answers."""
    with tempfile.TemporaryDirectory(prefix="netstack-") as directory, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{directory}/silent.sock")
        listener.listen()
        yield f"unix://{directory}/silent.sock"
