"""Servers of well-known programs in the small internet: sshd, PostgreSQL, Redis, and git over HTTP.

Each has its state in a folder of its own and is gone with it.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from tests.internet.machine import Running, wait_until
from tests.internet.world import Internet

PROGRAMS: Final = ("git", "ssh", "scp", "sshd", "ssh-keygen", "rsync", "wget", "psql", "redis-cli", "redis-server")
GIT_HTTP_PORT: Final = 8180
STREAMS_PORT: Final = 8181
GRPC_PORT: Final = 8182
POSTGRES_PORT: Final = 5432
REDIS_PORT: Final = 6379

# Root may log in with the key; nothing of the machine's own accounts is asked or written.
_SSHD: Final = """
Port 22
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/key.pub
StrictModes no
UsePAM no
PermitRootLogin prohibit-password
PasswordAuthentication no
PrintMotd no
PidFile none
UseDNS no
Subsystem sftp internal-sftp
"""
_POSTGRES: Final = """
listen_addresses = '*'
port = {port}
unix_socket_directories = ''
fsync = off
"""


def missing_programs() -> list[str]:
    """Which of them this machine lacks."""
    lacks = [program for program in PROGRAMS if not shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")]
    return lacks if _postgres_folder() else [*lacks, "postgres"]


class Programs:
    """The running servers, and what a client needs to reach them."""

    def __init__(self, internet: Internet, stack: ExitStack) -> None:
        self._internet = internet
        self.folder = stack.enter_context(internet.folder())
        self._stack = stack

    def ssh_options(self) -> list[str | Path]:
        """Of ssh and scp: the key, the host's key, and none of the caller's own configuration."""
        options = {
            "IdentityFile": self.folder / "key", "IdentitiesOnly": "yes", "BatchMode": "yes",
            "UserKnownHostsFile": self.folder / "known_hosts", "StrictHostKeyChecking": "yes", "LogLevel": "ERROR",
        }  # fmt: skip
        return ["-F", "none", *(word for name, value in options.items() for word in ("-o", f"{name}={value}"))]

    def psql(self) -> list[str]:
        """The words that reach the database."""
        return ["psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-At", "-p", str(POSTGRES_PORT), "-U", "postgres"]

    def start_all(self) -> None:
        """Start them, then wait until each listens."""
        ports = [22, POSTGRES_PORT, REDIS_PORT, GIT_HTTP_PORT, STREAMS_PORT, GRPC_PORT]
        self._git()
        self._sshd()
        self._postgres()
        self._redis()
        module = [sys.executable, "-m"]
        self._start([*module, "tests.internet.git_http", str(GIT_HTTP_PORT), self.folder / "git"], "git_http")
        self._start([*module, "tests.internet.streams", str(STREAMS_PORT), str(GRPC_PORT)], "streams")
        wait_until(lambda: self._listening(ports), 20, f"all servers of {self.folder} listen: {self._logs()}")

    def _git(self) -> None:
        """A repository with a history, of a few megabytes."""
        source, bare = self.folder / "source", self.folder / "git" / "project.git"
        script = f"""
            set -e
            git init -q -b main {source}; cd {source}
            for version in 1 2 3 4 5; do
                head -c 1000000 /dev/urandom > data-$version; echo "version $version" > version
                git add .; git -c user.name=a -c user.email=a@test commit -q -m "Version $version"
            done
            git clone -q --bare . {bare}; git -C {bare} config http.receivepack true
        """
        (self.folder / "git").mkdir()
        _run(["sh", "-c", script])

    def _sshd(self) -> None:
        for name in ("host_key", "key"):
            _run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.folder / name])
        words = (self.folder / "host_key.pub").read_text().split()
        (self.folder / "known_hosts").write_text(f"* {words[0]} {words[1]}\n")
        (self.folder / "sshd_config").write_text(_SSHD.format(folder=self.folder))
        # sshd separates its privileges in a folder below /run; this machine's own is left alone.
        own_run = "mount -t tmpfs tmpfs /run && mkdir -m 755 /run/sshd && exec /usr/sbin/sshd -D -e -f"
        self._start(["unshare", "--mount", "sh", "-c", f"{own_run} {self.folder}/sshd_config"], "sshd")

    def _postgres(self) -> None:
        programs, data = _postgres_folder(), self.folder / "postgres"
        assert programs is not None
        data.mkdir()
        shutil.chown(data, "postgres")
        as_postgres = ["runuser", "-u", "postgres", "--"]
        # The locale that every machine has.
        _run([*as_postgres, programs / "initdb", "-D", data, "-A", "trust", "--no-sync", "--locale=C.UTF-8"])
        (data / "postgresql.conf").write_text(_POSTGRES.format(port=POSTGRES_PORT))
        (data / "pg_hba.conf").write_text("host all all all trust\n")
        self._start([*as_postgres, programs / "postgres", "-D", data], "postgres")

    def _redis(self) -> None:
        options = ["--port", str(REDIS_PORT), "--protected-mode", "no", "--save", "", "--bind", "* -::*"]
        self._start(["redis-server", *options, "--dir", self.folder], "redis")

    def _start(self, command: Sequence[str | Path], name: str) -> Running:
        log = self._stack.enter_context((self.folder / f"{name}.log").open("wb"))
        running = self._internet.net.start(command, stdout=log, stderr=log)
        # In order, so that PostgreSQL's processes do not lose their folder while they live.
        self._stack.callback(running.stop)
        return running

    def _listening(self, ports: Sequence[int]) -> bool:
        said = self._internet.net.run(["ss", "-Hlnt"]).text
        return all(f":{port} " in said for port in ports)

    def _logs(self) -> str:
        return "\n".join(f"{path.name}: {path.read_text()[-500:]}" for path in sorted(self.folder.glob("*.log")))


@contextmanager
def programs_served(internet: Internet) -> Iterator[Programs]:
    """All of them, until the end."""
    with ExitStack() as stack:
        programs = Programs(internet, stack)
        programs.start_all()
        yield programs


def _postgres_folder() -> Path | None:
    """Where Debian has the programs of the server: not on the PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    on_path = shutil.which("postgres")
    return found[-1].parent if found else Path(on_path).resolve().parent if on_path else None


def _run(command: Sequence[str | Path]) -> None:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
