"""Instances beside each other in a run directory, and what killed ones leave."""

import os
import socket
from pathlib import Path

import pytest

from netstack.cli import rundir
from netstack.cli.options import CommandError, UsageError

DEAD = '{"pid":4711,"command":"up","namespace":["netns /run/netns/x 1234"]}'


@pytest.mark.parametrize(
    ("uid", "environment", "expected"),
    [
        pytest.param(0, {"XDG_RUNTIME_DIR": "/run/user/0"}, "/run/netstack", id="root"),
        pytest.param(1000, {"XDG_RUNTIME_DIR": "/run/user/1000"}, "/run/user/1000/netstack", id="a user"),
        pytest.param(1000, {"XDG_RUNTIME_DIR": "x"}, "/tmp/netstack-1000", id="a user whose variable makes no sense"),
        pytest.param(1000, {}, "/tmp/netstack-1000", id="a user without a session"),
    ],
)
def test_the_default_depends_on_who_calls(
    monkeypatch: pytest.MonkeyPatch, uid: int, environment: dict[str, str], expected: str
) -> None:
    monkeypatch.setattr("tempfile.tempdir", "/tmp")
    assert rundir.default_run_dir(uid, environment) == Path(expected)


def test_a_run_directory_is_made(short_path: Path) -> None:
    rundir.prepare(short_path / "a" / "b", 0o700)
    assert (short_path / "a" / "b").stat().st_mode & 0o777 == 0o700


def test_a_run_directory_that_others_can_write_to_is_refused(short_path: Path) -> None:
    short_path.chmod(0o777)
    with pytest.raises(UsageError, match="could be changed by another user"):
        rundir.prepare(short_path, 0o700)


def test_a_run_directory_that_is_a_link_or_file_is_refused(short_path: Path) -> None:
    (short_path / "file").touch()
    (short_path / "link").symlink_to(short_path)
    for name in ("file", "link"):
        with pytest.raises(UsageError, match="--run-dir"):
            rundir.prepare(short_path / name, 0o700)


def test_an_instance_is_claimed_seen_and_released(short_path: Path) -> None:
    instance = rundir.claim(short_path, "lab", "up")
    assert instance.directory.stat().st_mode & 0o777 == 0o700
    assert rundir.live(short_path) == ["lab"]
    assert rundir.the_only(short_path, None) == "lab"
    instance.release()
    assert list(short_path.iterdir()) == []
    assert rundir.live(short_path) == []


def test_a_name_that_is_taken_is_refused_with_the_pid(short_path: Path) -> None:
    rundir.claim(short_path, "lab", "up")
    with pytest.raises(CommandError, match=f"running already \\(pid {os.getpid()}\\)"):
        rundir.claim(short_path, "lab", "up")
    assert rundir.recover(short_path, lambda _: []) == []
    assert rundir.live(short_path) == ["lab"]


@pytest.mark.parametrize("name", ["", "..", "a/b", "-x", "x" * 33, "a\n"])
def test_an_impossible_name_is_refused(short_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="--instance"):
        rundir.claim(short_path, name, "up")


def test_what_a_killed_instance_left_is_removed_and_nothing_else(short_path: Path) -> None:
    (short_path / "dead").mkdir()
    (short_path / "dead" / "packets").touch()
    (short_path / "dead.lock").write_text(DEAD)
    (short_path / "other").mkdir()
    (short_path / "other" / "file").touch()
    rundir.claim(short_path, "lab", "up")
    asked: list[list[str]] = []

    def remove(namespace: list[str]) -> list[str]:
        asked.append(namespace)
        return ["netns /run/netns/x"]

    assert rundir.recover(short_path, remove) == ["netns /run/netns/x", "instance dead of process 4711"]
    assert asked == [["netns /run/netns/x 1234"]]
    assert sorted(path.name for path in short_path.iterdir()) == ["lab", "lab.lock", "other"]


def test_a_lock_that_was_never_written_is_removed_too(short_path: Path) -> None:
    (short_path / "dead.lock").touch()
    assert rundir.recover(short_path, lambda _: []) == ["instance dead of process 0"]


def test_recovering_where_nothing_ever_was(short_path: Path) -> None:
    assert rundir.recover(short_path / "missing", lambda _: []) == []


def test_an_instance_without_supervisor_lives_while_its_events_answer(short_path: Path) -> None:
    directory = short_path / "compose"
    directory.mkdir()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as events:
        events.bind(str(directory / "events-out"))
        events.listen()
        assert rundir.live(short_path) == ["compose"]
        with pytest.raises(CommandError, match="without a supervisor"):
            rundir.claim(short_path, "compose", "up")
    assert rundir.live(short_path) == []


def test_an_instance_lives_while_single_stages_of_it_are_supervised(short_path: Path) -> None:
    (short_path / "compose").mkdir()
    path = short_path / "compose" / "supervisor-tun_io.lock"
    with rundir.held(path):
        assert rundir.live(short_path) == ["compose"]
        with pytest.raises(CommandError, match="have a supervisor already"), rundir.held(path):
            pass
    assert rundir.live(short_path) == []


def test_a_command_finds_the_only_instance_or_asks(short_path: Path) -> None:
    with pytest.raises(rundir.NotRunningError, match="start one with"):
        rundir.the_only(short_path, None)
    rundir.claim(short_path, "a", "up")
    rundir.claim(short_path, "b", "exec")
    with pytest.raises(UsageError, match="choose one with --instance: a, b"):
        rundir.the_only(short_path, None)
    assert rundir.the_only(short_path, "b") == "b"
    with pytest.raises(rundir.NotRunningError, match=r"no instance c runs in .*; what runs: a, b"):
        rundir.the_only(short_path, "c")


def test_a_namespace_is_noted_before_it_is_made(short_path: Path) -> None:
    instance = rundir.claim(short_path, "lab", "up")
    instance.note_namespace(["netns /run/netns/x 1234"])
    assert '"namespace":["netns /run/netns/x 1234"]' in (short_path / "lab.lock").read_text()
