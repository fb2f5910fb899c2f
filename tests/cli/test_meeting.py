"""Where a command finds the processes of an instance, by what the supervisor has left."""

from pathlib import Path

import pytest

from netstack.cli import meeting
from netstack.runtime import keys
from netstack.runtime.config import Config, ConfigError, Links
from netstack.runtime.load import dump

FAR = "tcp://198.18.7.1:5700"


def linked(directory: Path, name: str, **values) -> None:
    (directory / name).write_text(dump(Config(links=Links(**values))))


def test_in_the_directory_where_nothing_else_is_said(short_path: Path) -> None:
    assert meeting.of(short_path)[0].events_out == f"ipc://{short_path}/events-out"
    linked(short_path, "config.toml", listen=FAR, insecure=True)
    topology, curve = meeting.of(short_path)
    assert topology.events_out == f"ipc://{short_path}/events-out"
    assert curve is None


def test_on_the_other_host_where_only_workers_run_here(short_path: Path) -> None:
    public = keys.generate(short_path / "links.key-tcp_fwd")
    linked(
        short_path, "config-tcp_fwd.toml", connect=FAR, key_file=str(short_path / "links.key-tcp_fwd"),
        server_key="ab" * 32,
    )  # fmt: skip
    topology, curve = meeting.of(short_path)
    assert topology.events_out == "tcp://198.18.7.1:5704"
    assert (curve.public, curve.server) == (public, bytes.fromhex("ab" * 32))


@pytest.mark.parametrize("text", ["", "links = 1", "not TOML", "\x00"], ids=["empty", "wrong", "no TOML", "noise"])
def test_a_file_that_is_not_whole_is_passed_over(short_path: Path, text: str) -> None:
    (short_path / "config.toml").write_text(text)
    assert meeting.of(short_path)[0].connect == ""


def test_who_may_not_read_the_key_is_told(short_path: Path) -> None:
    linked(short_path, "config.toml", connect=FAR, key_file=str(short_path / "gone"), server_key="ab" * 32)
    with pytest.raises(ConfigError, match="no such file"):
        meeting.of(short_path)
