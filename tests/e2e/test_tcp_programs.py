"""Programs that people use, through the pipeline: each does its work, and every octet is what it was."""

import hashlib
import os
import pty
import select
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.internet import Internet, Sandbox
from tests.internet.files import make_file, sha256
from tests.internet.programs import (
    GIT_HTTP_PORT,
    GRPC_PORT,
    REDIS_PORT,
    STREAMS_PORT,
    Programs,
    missing_programs,
    programs_served,
)

MEBIBYTE = 1 << 20

# What takes its time is done over the one family in one direction, and over the other in the other.
V4, V6 = "v4.test", "v6.test"
NAMES = pytest.mark.parametrize("name", [V4, V6], ids=["IPv4", "IPv6"])

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def programs(internet: Internet) -> Iterator[Programs]:
    """Their servers."""
    if lacks := missing_programs():
        pytest.skip(f"these tests need {', '.join(lacks)}: run tests/install-packages")
    with programs_served(internet) as programs:
        yield programs


@pytest.fixture
def sample(folder: Path) -> tuple[Path, str]:
    """A file of 16 MiB, and its SHA-256."""
    path = folder / "sample"
    return path, make_file(path, 16 * MEBIBYTE)


# --- the web --------------------------------------------------------------------------------------------------------


@NAMES
def test_wget_fetches_a_whole_file_and_the_rest_of_one(
    internet: Internet, sandbox: Sandbox, folder: Path, name: str
) -> None:
    expected = internet.parts()[199]
    wget: list[str | Path] = ["wget", "-nv", "-P", folder]
    sandbox.run([*wget, f"http://{name}/part/199"]).ok()
    with (folder / "199").open("r+b") as file:
        file.truncate(100_000)
    sandbox.run([*wget, "-c", f"--ca-certificate={internet.ca}", f"https://{name}/part/199"]).ok()
    assert sha256(folder / "199") == expected


@NAMES
def test_http2_carries_many_streams_in_one_connection(
    internet: Internet, sandbox: Sandbox, folder: Path, name: str
) -> None:
    expected = internet.parts()[:60]
    curl: list[str | Path] = ["curl", "-sS", "-f", "--http2", "--cacert", internet.ca, "-Z", "--parallel-max", "60"]
    urls = [f"https://{name}/part/[000-059]", "-o", f"{folder}/#1", "-w", "%{http_version} %{num_connects}\\n"]
    rows = [line.split() for line in sandbox.run([*curl, *urls], timeout=20).ok().text.splitlines()]
    assert [sha256(folder / f"{index:03}") for index in range(60)] == expected
    assert {version for version, _ in rows} == {"2"}
    assert sum(int(connects) for _, connects in rows) == 1


@NAMES
def test_http2_upload_is_whole(internet: Internet, sandbox: Sandbox, sample: tuple[Path, str], name: str) -> None:
    path, expected = sample
    url = f"https://{name}/upload/{name}"
    sandbox.run(["curl", "-sS", "-f", "--http2", "--cacert", internet.ca, "-T", path, url], timeout=20).ok()
    assert sha256(internet.uploaded(name)) == expected


# --- git, ssh, scp, rsync -------------------------------------------------------------------------------------------


@pytest.fixture(params=["HTTP", "SSH"])
def remote(request: pytest.FixtureRequest, programs: Programs) -> tuple[str, dict[str, str]]:
    """The URL of a repository but for the host's name, and the environment that git needs for it."""
    if request.param == "HTTP":
        return f"http://{{}}:{GIT_HTTP_PORT}/project.git", {}
    ssh = " ".join(str(word) for word in ["ssh", *programs.ssh_options()])
    return f"ssh://root@{{}}{programs.folder}/git/project.git", {"GIT_SSH_COMMAND": ssh}


def test_git_clones_pushes_and_pulls(
    programs: Programs, sandbox: Sandbox, folder: Path, remote: tuple[str, dict[str, str]]
) -> None:
    url, environment = remote
    commit = ["-c", "user.name=b", "-c", "user.email=b@test", "commit", "-q", "--allow-empty", "-m", f"by {url}"]

    def git(*words: str | Path):
        return sandbox.run(["git", *words], timeout=20, environment=environment).ok().text

    one, two = folder / "one", folder / "two"
    git("clone", "-q", url.format(V4), one)
    git("clone", "-q", "--depth", "1", url.format(V6), two)
    # Each has its turn at either end.
    for pushes, pulls in ((one, two), (two, one)):
        git("-C", pushes, *commit)
        git("-C", pushes, "push", "-q")
        git("-C", pulls, "pull", "-q")
        assert git("-C", one, "rev-parse", "HEAD") == git("-C", two, "rev-parse", "HEAD")
    git("-C", one, "fsck", "--full", "--strict")
    for version in range(1, 6):
        expected = sha256(programs.folder / "source" / f"data-{version}")
        assert [sha256(clone / f"data-{version}") for clone in (one, two)] == [expected] * 2


@NAMES
def test_ssh_carries_both_directions_and_the_exit_code(
    programs: Programs, sandbox: Sandbox, sample: tuple[Path, str], name: str
) -> None:
    path, expected = sample
    ssh = ["ssh", *programs.ssh_options(), f"root@{name}"]
    done = sandbox.run([*ssh, "tee /dev/stderr | sha256sum; exit 7"], stdin=path.read_bytes(), timeout=20)
    assert done.code == 7
    assert done.text.split()[0] == expected
    assert hashlib.sha256(done.err).hexdigest() == expected


@contextmanager
def terminal(rows: int, columns: int) -> Iterator[tuple[int, int]]:
    """Both ends of a new terminal of that size."""
    ours, theirs = pty.openpty()
    try:
        termios.tcsetwinsize(theirs, (rows, columns))
        yield ours, theirs
    finally:
        os.close(ours)
        os.close(theirs)


def read_until(descriptor: int, wanted: bytes, within: float = 10) -> bytes:
    """What comes until that text has come; AssertionError with what came otherwise."""
    said = b""
    end = time.monotonic() + within
    while wanted not in said:
        ready, _, _ = select.select([descriptor], [], [], max(end - time.monotonic(), 0))
        assert ready, f"no {wanted!r} within {within:g} s: {said!r}"
        said += os.read(descriptor, 65536)
    return said


@NAMES
def test_ssh_is_interactive(programs: Programs, sandbox: Sandbox, name: str) -> None:
    ssh = ["ssh", "-tt", *programs.ssh_options(), f"root@{name}", "env PS1='> ' HISTFILE= sh"]
    with terminal(33, 101) as (ours, theirs):
        running = sandbox.start(ssh, stdin=theirs, stdout=theirs, stderr=theirs)
        read_until(ours, b"> ")
        os.write(ours, b"stty size\n")
        read_until(ours, b"33 101\r\n> ")
        # One key at a time, each echoed before the next is pressed.
        for key in b"echo $((6 * 7))":
            os.write(ours, bytes([key]))
            read_until(ours, bytes([key]))
        os.write(ours, b"\n")
        read_until(ours, b"42\r\n> ")
        # Once it says so it is there to be interrupted; the shell itself, before it has begun, would not mind.
        os.write(ours, b"sh -c 'echo go; exec sleep 100'; echo so$(echo on)\n")
        read_until(ours, b"\r\ngo\r\n")
        os.write(ours, b"\x03")
        assert b"soon" not in read_until(ours, b"> ")
        # Much at once, to see that what is pressed meanwhile is not lost.
        os.write(ours, b"seq 1 20000\n")
        os.write(ours, b"exit 5\n")
        read_until(ours, b"\n19999\r\n20000\r\n")
        assert running.wait(10).code == 5


def test_scp_copies_there_and_back(programs: Programs, sandbox: Sandbox, sample: tuple[Path, str]) -> None:
    path, expected = sample
    options = programs.ssh_options()
    there = path.with_name("there")
    # Over SFTP, and as it was before.
    for scp, up, down in ((["scp", "-q"], V4, V6), (["scp", "-q", "-O"], V6, V4)):
        sandbox.run([*scp, *options, path, f"root@{up}:{there}"], timeout=20).ok()
        assert sha256(there) == expected
        sandbox.run([*scp, *options, f"root@{down}:{there}", path.with_name("back")], timeout=20).ok()
        assert sha256(path.with_name("back")) == expected


def test_rsync_copies_a_tree_and_then_only_what_changed(
    internet: Internet, programs: Programs, sandbox: Sandbox, folder: Path
) -> None:
    internet.parts()
    ssh = " ".join(str(word) for word in ["ssh", *programs.ssh_options()])
    rsync = ["rsync", "-a", "--no-whole-file", "--stats", "-e", ssh]
    source = folder / "tree"
    sandbox.run([*rsync, f"root@{V4}:{internet.directory}/files/part/", source], timeout=20).ok()
    assert [sha256(source / f"{index:03}") for index in range(200)] == internet.parts()
    with (source / "100").open("r+b") as file:
        file.seek(50_000)
        file.write(b"changed")
    said = sandbox.run([*rsync, "-c", f"{source}/", f"root@{V6}:{folder}/copy"], timeout=20).ok()
    again = sandbox.run([*rsync, "-c", f"{source}/", f"root@{V4}:{folder}/copy"], timeout=20).ok()
    assert [sha256(folder / "copy" / f"{index:03}") for index in range(200)] == [
        sha256(source / f"{index:03}") for index in range(200)
    ]
    assert "Number of regular files transferred: 200" in said.text
    assert "Number of regular files transferred: 0" in again.text


# --- databases ------------------------------------------------------------------------------------------------------


@NAMES
def test_psql_asks_copies_in_copies_out_and_cancels(
    programs: Programs, sandbox: Sandbox, folder: Path, name: str
) -> None:
    table = folder / "table"
    rows = "".join(f"{index}\t{hashlib.sha256(b'%d' % index).hexdigest()}\n" for index in range(50_000))
    table.write_text(rows)
    script = f"""
        create temporary table sums (number integer primary key, sum text);
        \\copy sums from '{table}'
        select count(*), md5(string_agg(sum, '' order by number)) from sums;
        \\copy (select * from sums order by number) to '{folder}/out'
        set statement_timeout = 300;
        select 'slept' from pg_sleep(5);
    """
    done = sandbox.run([*programs.psql(), "-h", name, "-v", "ON_ERROR_STOP=0"], stdin=script.encode(), timeout=20)
    together = "".join(line.split("\t")[1] for line in rows.splitlines())
    assert done.text.splitlines() == [f"50000|{hashlib.md5(together.encode()).hexdigest()}"]
    assert "canceling statement" in done.messages
    assert (folder / "out").read_text() == rows


@NAMES
def test_redis_cli_in_a_pipeline(programs: Programs, sandbox: Sandbox, folder: Path, name: str) -> None:
    cli = ["redis-cli", "-h", name, "-p", str(REDIS_PORT)]
    sandbox.run([*cli, "FLUSHALL"]).ok()
    commands = b"".join(b"SET key:%d %s\r\n" % (index, b"%d" % (index * index)) for index in range(50_000))
    said = sandbox.run([*cli, "--pipe"], stdin=commands, timeout=20).ok().text
    assert "errors: 0, replies: 50000" in said
    asked = "".join(f"GET key:{index}\n" for index in range(0, 50_000, 50))
    assert sandbox.run(cli, stdin=asked.encode()).ok().text.split() == [str(i * i) for i in range(0, 50_000, 50)]
    # One value as large as many windows.
    large = os.urandom(4 * MEBIBYTE).hex().encode()
    sandbox.run([*cli, "-x", "SET", "large"], stdin=large, timeout=20).ok()
    assert sandbox.run([*cli, "--raw", "GET", "large"], timeout=20).ok().out == large + b"\n"


# --- long conversations ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("what", "port"), [("websocket", STREAMS_PORT), ("grpc", GRPC_PORT)], ids=["WebSocket", "gRPC"]
)
@NAMES
def test_long_conversations_in_one_connection(
    programs: Programs, sandbox: Sandbox, name: str, what: str, port: int
) -> None:
    said = sandbox.run([sys.executable, "-m", "tests.e2e.streams", what, name, str(port)], timeout=30).ok()
    assert said.text == "all is right\n"
