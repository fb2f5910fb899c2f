"""Stand-ins for the services: small programs that are started as the services are, and behave as they are told."""

import os
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from netstack.cli.account import Account
from netstack.cli.compiled import Choice
from netstack.cli.process import Launch
from netstack.wire.topology import STAGES

STANDIN = """
import os, signal, socket, sys
stage = __spec__.parent.partition(".")[2]
options = dict(zip(sys.argv[1::2], sys.argv[2::2]))
ways = os.environ.get("STANDIN_" + stage, "").split()
print("starting", stage, file=sys.stderr, flush=True)
if "die" in ways:
    sys.exit(3)
if "deaf" in ways:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if "--tun-fd" in options:
    _, (tun,), _, _ = socket.recv_fds(socket.socket(fileno=int(options["--tun-fd"])), 1, 1)
    os.write(tun, options["--worker"].encode() + b" has the TUN\\n")
if "mute" not in ways:
    note = "READY=1\\nX_NETSTACK_WORKER=" + options["--worker"] + "\\n"
    socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(note.encode(), os.environ["NOTIFY_SOCKET"])
while True:
    signal.pause()
"""


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A directory whose path is short enough for the paths of sockets, unlike tmp_path where a test's name is long."""
    with tempfile.TemporaryDirectory() as path:
        yield Path(path)


@pytest.fixture
def standins(tmp_path: Path) -> Path:
    """Code with stand-ins in place of the services."""
    (tmp_path / "code" / "services").mkdir(parents=True)
    # Without it, this were a namespace package, and the real one would go before it.
    (tmp_path / "code" / "services" / "__init__.py").touch()
    for stage in STAGES:
        folder = tmp_path / "code" / "services" / stage
        folder.mkdir()
        (folder / "__main__.py").write_text(STANDIN)
    return tmp_path / "code"


@pytest.fixture
def make_launch(short_path: Path, standins: Path) -> Iterator[Callable[..., tuple[Launch, socket.socket]]]:
    """What the stand-ins are started with; keywords are how a stage behaves: die, deaf, mute."""
    directory = short_path / "run" / "test"
    directory.mkdir(parents=True)
    notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notify.bind(str(directory / "notify"))

    def make(**ways: str) -> tuple[Launch, socket.socket]:
        told = {f"STANDIN_{stage}": way for stage, way in ways.items()}
        launch = Launch(
            run_dir=directory.parent,
            instance="test",
            config=directory / "config.toml",
            notify=directory / "notify",
            roster=directory / "processes.json",
            account=Account(),
            environment=os.environ | told,
            code=Choice(standins, compiled=False),
        )
        return launch, notify

    with notify:
        yield make
