"""The run directory: where instances live beside each other, each known by a lock that its supervisor holds.

    RUN_DIR/NAME.lock   held with flock(2) by the supervisor; says its pid and what it made outside the directory
    RUN_DIR/NAME/       the instance's sockets, its effective configuration and its roster of processes

The lock is not in the instance's directory, because that belongs to the user as whom the services run, and what they
could write must not tell a later `netstack recover`, which is root, what to remove. A lock that nobody holds is that of
a killed instance. Taking and removing locks is serialised by a lock on the run directory itself.
"""

import fcntl
import os
import re
import shutil
import socket
import stat
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import msgspec

from netstack.cli.options import CommandError, UsageError
from netstack.wire.topology import RunDirError, Topology

_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,31}\Z")
_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH
_LOCK: Final = ".lock"
STAGES_LOCK: Final = "supervisor"
"""Begins the names of the locks, within an instance's directory, of those that supervise single stages."""

RemoveNamespace = Callable[[list[str]], list[str]]
"""netstack.cli.named.recover: removes what its argument says, and says what it removed."""


class Claim(msgspec.Struct):
    """What a lock says of the instance that holds it."""

    pid: int
    command: str
    namespace: list[str] = []  # what netstack.cli.named.recover is to remove


class Instance:
    """An instance that this process has claimed."""

    def __init__(self, run_dir: Path, name: str, lock: int, claim: Claim) -> None:
        self.run_dir = run_dir
        self.name = name
        self.directory = run_dir / name
        self._lock = lock
        self._claim = claim

    def note_namespace(self, manifest: list[str]) -> None:
        """Write down what has to be removed if this process is killed; call it before anything else is built on it."""
        self._claim.namespace = manifest
        _write_claim(self._lock, self._claim)

    def release(self) -> None:
        """Remove the directory and the lock."""
        shutil.rmtree(self.directory, ignore_errors=True)
        lock_path(self.run_dir, self.name).unlink(missing_ok=True)
        os.close(self._lock)


def default_run_dir(uid: int, environment: Mapping[str, str]) -> Path:
    """/run/netstack for root, $XDG_RUNTIME_DIR/netstack otherwise, /tmp/netstack-UID where that is unset."""
    if uid == 0:
        return Path("/run/netstack")
    runtime = environment.get("XDG_RUNTIME_DIR", "")
    if runtime.startswith("/"):
        return Path(runtime) / "netstack"
    return Path(tempfile.gettempdir()) / f"netstack-{uid}"


def prepare(run_dir: Path, mode: int) -> None:
    """Make the run directory where it is missing; refuse one that somebody else could write to."""
    try:
        run_dir.mkdir(mode=mode, parents=True, exist_ok=True)
        found = run_dir.lstat()
    except OSError as error:
        raise UsageError(
            f"run directory {run_dir}: {error.strerror}; choose another with --run-dir or NETSTACK_RUN_DIR"
        ) from None
    if not stat.S_ISDIR(found.st_mode):
        raise UsageError(f"run directory {run_dir} is no directory; choose another with --run-dir or NETSTACK_RUN_DIR")
    if found.st_uid not in (0, os.geteuid()) or found.st_mode & _OTHERS_WRITE:
        raise UsageError(
            f"run directory {run_dir} could be changed by another user (owner {found.st_uid}, mode "
            f"{stat.S_IMODE(found.st_mode):04o}); choose one that is yours alone with --run-dir or NETSTACK_RUN_DIR"
        )


def check_name(name: str) -> str:
    """The name of an instance; raises UsageError for one that cannot be."""
    if not _NAME.match(name):
        raise UsageError(f"--instance {name!r}: must be 1 to 32 letters, digits, '_', '-' and '.', such as default")
    return name


def claim(run_dir: Path, name: str, command: str) -> Instance:
    """Take a name for this process, and make its empty directory (mode 0700); refused while another holds it."""
    directory = Topology(run_dir / check_name(name)).directory  # refuses a path that is too long for sockets
    with _guarded(run_dir):
        lock = os.open(lock_path(run_dir, name), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        if not _lock(lock):
            pid = _read_claim(lock).pid
            os.close(lock)
            raise CommandError(
                f"instance {name} is running already (pid {pid}); stop it, or choose another name with --instance"
            )
        if _answers(directory):
            os.close(lock)
            lock_path(run_dir, name).unlink()
            raise CommandError(
                f"processes of an instance {name} without a supervisor use {directory}; stop them, or choose another "
                "name with --instance"
            )
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(mode=0o700)
        own = Claim(os.getpid(), command)
        _write_claim(lock, own)
    return Instance(run_dir, name, lock, own)


def live(run_dir: Path) -> list[str]:
    """The names of the instances that run: their supervisor lives, or where they have none their processes answer."""
    if not run_dir.is_dir():
        return []
    held = {path.stem for path in run_dir.glob(f"*{_LOCK}") if _is_held(path)}
    answering = {path.name for path in run_dir.iterdir() if path.name not in held and _answers(path)}
    return sorted(held | answering)


def the_only(run_dir: Path, wanted: str | None) -> str:
    """The instance that a command is about: the wanted one, or the only one that runs."""
    names = live(run_dir)
    if wanted is not None:
        if check_name(wanted) in names:
            return wanted
        others = f"; what runs: {', '.join(names)}" if names else ""
        raise NotRunningError(f"no instance {wanted} runs in {run_dir}{others}")
    if not names:
        raise NotRunningError(
            f"no instance runs in {run_dir}; start one with `netstack exec` or `netstack up`, or look elsewhere with "
            "--run-dir"
        )
    if len(names) > 1:
        raise UsageError(f"several instances run in {run_dir}: choose one with --instance: {', '.join(names)}")
    return names[0]


class NotRunningError(CommandError):
    """There is no such instance."""


def recover(run_dir: Path, remove_namespace: RemoveNamespace) -> list[str]:
    """Remove what killed instances left, and nothing else; says what was removed."""
    removed: list[str] = []
    if not run_dir.is_dir():
        return removed
    with _guarded(run_dir):
        for path in sorted(run_dir.glob(f"*{_LOCK}")):
            with suppress(FileNotFoundError):
                removed += _recover_one(run_dir, path, remove_namespace)
    return removed


def remove_dead(run_dir: Path, name: str) -> bool:
    """Remove the files of one instance, which has made nothing else; whether they are gone, and not held by anybody."""
    with suppress(FileNotFoundError), _guarded(run_dir):
        _recover_one(run_dir, lock_path(run_dir, name), lambda _: [])
    return not lock_path(run_dir, name).exists()


def lock_path(run_dir: Path, name: str) -> Path:
    """The lock of an instance."""
    return run_dir / f"{name}{_LOCK}"


def _recover_one(run_dir: Path, path: Path, remove_namespace: RemoveNamespace) -> list[str]:
    lock = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if not _lock(lock):
            return []
        left = _read_claim(lock)
        removed = remove_namespace(left.namespace) if left.namespace else []
        shutil.rmtree(run_dir / path.stem, ignore_errors=True)
        path.unlink()
    finally:
        os.close(lock)
    return [*removed, f"instance {path.stem} of process {left.pid}"]


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold a lock of one's own in an instance's directory; refused while another process holds it."""
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        if not _lock(lock):
            raise CommandError(f"{path} is held: the same stages of this instance have a supervisor already; stop it")
        yield
    finally:
        os.close(lock)


@contextmanager
def _guarded(run_dir: Path) -> Iterator[None]:
    descriptor = os.open(run_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_held(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        # Shared, so that two that only look do not take each other for the holder.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _answers(directory: Path) -> bool:
    """Whether some process listens on the instance's events, or supervises single stages of it."""
    if any(_is_held(path) for path in directory.glob(f"{STAGES_LOCK}*{_LOCK}")):
        return True
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(Topology(directory).events_out.removeprefix("ipc://"))
        except (OSError, RunDirError):
            return False
    return True


def _write_claim(lock: int, own: Claim) -> None:
    data = msgspec.json.encode(own)
    os.ftruncate(lock, 0)
    os.pwrite(lock, data, 0)


def _read_claim(lock: int) -> Claim:
    try:
        return msgspec.json.decode(os.pread(lock, 1 << 16, 0), type=Claim)
    except msgspec.DecodeError:  # killed between creating the lock and writing to it
        return Claim(0, "")
