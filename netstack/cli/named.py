"""Named network namespaces for `netstack up`: one that we make and others join, or one that is there and that we join.

What is made outlives a killed process, unlike a sandbox, so it is written down first: plan() says what will be made, as
lines that recover() understands. Each thing carries the plan's token, so that recover() never takes what is not ours.
"""

import errno
import logging
import os
import secrets
import signal
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NoReturn

from netstack.cli import mounts, network
from netstack.cli.sandbox_messages import Built, Failed, SandboxError, decode_report, encode, receive
from netstack.cli.syscalls import (
    CLONE_NEWNET,
    MNT_DETACH,
    MS_BIND,
    MS_REC,
    MS_SHARED,
    UMOUNT_NOFOLLOW,
    mount,
    set_parent_death_signal,
    setns,
    umount,
    unshare,
)
from netstack.cli.tun import open_tun, quic_ports
from netstack.runtime.config import Config

# Where iproute2 has them (NETNS_RUN_DIR, NETNS_ETC_DIR).
NAMES: Final = Path("/run/netns")
FILES: Final = Path("/etc/netns")
_OWN: Final = Path("/proc/self/ns/net")
_EVERY_GROUP: Final = "0 2147483647"  # net.ipv4.ping_group_range

_log = logging.getLogger(__name__)


class NamedNamespace:
    """A namespace with a TUN in it. The TUN is there as long as a descriptor of it is open."""

    def __init__(self, tun: tuple[int, ...], manifest: Sequence[str], warnings: Sequence[str]) -> None:
        self.tun = tun
        """The descriptors of its queues (netstack.cli.tun)."""
        self.warnings = tuple(warnings)  # what could not be had, for the caller to log
        self._manifest = tuple(manifest)

    @classmethod
    def open(cls, config: Config, manifest: Sequence[str] | None = None) -> "NamedNamespace":
        """Make what plan(config) said, or join. SandboxError if it cannot be; then nothing is left of the attempt.

        Forks for a moment: to be called before threads or an event loop exist.
        """
        planned = plan(config) if manifest is None else list(manifest)
        addresses = network.parse_addresses(config.tun)
        path = namespace_path(config)
        joins = config.capture.kind == "name"
        if joins and not path.exists():
            raise SandboxError(f"there is no network namespace {path} to join: see `ip netns list`, set capture.name")
        if not joins and os.path.lexists(path):
            raise SandboxError(
                f"there is already a network namespace {path}: join it with capture.kind=name, choose another "
                "capture.name, or, if a killed netstack left it, run `netstack recover`"
            )

        def build() -> tuple[tuple[int, ...], list[str]]:
            if joins:
                _enter(path)
                return open_tun(config.tun.name, quic_ports(config)), network.configure_joined(config.tun, addresses)
            _make(path, _token(planned))
            tun = open_tun(config.tun.name, quic_ports(config))
            return tun, network.configure_own(config.tun, addresses, _EVERY_GROUP)

        try:
            _make_resolv_conf(planned, config.tun.dns)
            tun, warnings = _in_child(build)
            theirs = FILES / config.capture.name / "resolv.conf"
            if not joins and theirs.exists() and not any(line.startswith("resolv.conf ") for line in planned):
                warnings.append(f"{theirs} was there and is left as it is; the tunnel's resolver is {config.tun.dns}")
            return cls(tun, planned, warnings)
        except (OSError, SandboxError) as error:
            recover(planned)
            if isinstance(error, SandboxError):
                raise
            raise SandboxError(f"cannot make the network namespace {path}: {error.strerror}") from None

    def manifest(self) -> list[str]:
        """What was made, for recover()."""
        return list(self._manifest)

    def close(self) -> None:
        """Close the TUN and remove what was made; a joined namespace is as it was. May be called again."""
        for descriptor in self.tun:
            os.close(descriptor)
        self.tun = ()
        recover(self._manifest)


def namespace_path(config: Config) -> Path:
    """The file that stands for the configured namespace."""
    return NAMES / config.capture.name  # a path of its own replaces NAMES


def plan(config: Config) -> list[str]:
    """What open() will make on this machine as it is now, to be kept for recover(); nothing where it joins."""
    if config.capture.kind != "netns":
        return []
    name = config.capture.name
    if "/" in name or name in {"", ".", ".."}:
        raise SandboxError(f"capture.name {name!r} is no name for a network namespace: it must be one without a slash")
    token = secrets.token_hex(8)
    files = FILES / name
    lines = [f"directory {NAMES}"] if not NAMES.exists() else []
    if not _is_mount_point(NAMES):
        lines.append(f"mount {NAMES}")
    lines.append(f"netns {NAMES / name} {token}")
    lines += [f"directory {directory}" for directory in (FILES, files) if not directory.exists()]
    if not (files / "resolv.conf").exists():  # the administrator's own is left in use
        lines.append(f"resolv.conf {files / 'resolv.conf'} {token}")
    return lines


def recover(manifest: Sequence[str]) -> list[str]:
    """Remove what is left of what a plan said, in the reverse order, and nothing else. Returns what was removed."""
    removed = []
    for line in reversed(manifest):
        kind, _, rest = line.partition(" ")
        where, _, token = rest.partition(" ")
        remove = _REMOVERS.get(kind)
        if remove and remove(Path(where), token):
            removed.append(f"{kind} {where}")
    return removed


def _remove_namespace(path: Path, token: str) -> bool:
    if not path.exists():
        return False
    if _is_namespace(path):
        if not _is_marked(path, token):
            return False
        umount(str(path), MNT_DETACH | UMOUNT_NOFOLLOW)
    elif path.stat().st_size:
        return False
    path.unlink()
    return True


def _remove_mount(path: Path, _token: str) -> bool:
    if not _is_mount_point(path) or any(path.iterdir()):
        return False
    try:
        umount(str(path), UMOUNT_NOFOLLOW)
    except OSError as error:
        if error.errno == errno.EBUSY:
            return False
        raise
    return True


def _remove_directory(path: Path, _token: str) -> bool:
    try:
        path.rmdir()
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTEMPTY, errno.EBUSY):
            return False
        raise
    return True


def _remove_resolv_conf(path: Path, token: str) -> bool:
    if not path.is_file() or not path.read_text().startswith(_first_line(token)):
        return False
    path.unlink()
    return True


_REMOVERS: Final[dict[str, Callable[[Path, str], bool]]] = {
    "netns": _remove_namespace,
    "mount": _remove_mount,
    "directory": _remove_directory,
    "resolv.conf": _remove_resolv_conf,
}


def _make(path: Path, token: str) -> None:
    """Make a namespace, mark it, and only then give it its name. The process is in it afterwards."""
    NAMES.mkdir(mode=0o755, exist_ok=True)
    try:
        mount("", str(NAMES), flags=MS_SHARED | MS_REC)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        # Not a mount point yet. As iproute2 does, so that its own later mounts do not cover ours.
        mount(str(NAMES), str(NAMES), flags=MS_BIND | MS_REC)
        mount("", str(NAMES), flags=MS_SHARED | MS_REC)
    os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0))
    unshare(CLONE_NEWNET)
    network.set_alias("lo", _first_line(token))
    mount(str(_OWN), str(path), flags=MS_BIND)


def _make_resolv_conf(manifest: Sequence[str], dns: str) -> None:
    """What `ip netns exec` lays over /etc/resolv.conf."""
    for line in manifest:
        if line.startswith("resolv.conf "):
            _, where, token = line.split(" ")
            path = Path(where)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{_first_line(token)}\n{mounts.resolv_conf(dns)}")


def _enter(path: Path) -> None:
    """Join; nothing to do for the namespace of this very process, which takes no CAP_SYS_ADMIN then."""
    if os.path.samestat(path.stat(), _OWN.stat()):
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        setns(descriptor, CLONE_NEWNET)
    except OSError as error:
        if error.errno == errno.EINVAL:
            raise SandboxError(f"{path} is not a network namespace: set capture.name to one") from None
        if error.errno == errno.EPERM:
            raise SandboxError(f"joining {path} takes CAP_SYS_ADMIN: run netstack as root") from None
        raise
    finally:
        os.close(descriptor)


def _in_child(build: Callable[[], tuple[tuple[int, ...], list[str]]]) -> tuple[tuple[int, ...], list[str]]:
    """Do it in a process of its own, for this one stays in its namespace. The TUN's descriptors, and warnings."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            child = os.fork()
            if child == 0:
                _child(build, theirs)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()
        data, descriptors = receive(ours)
        os.waitpid(child, 0)
    report = decode_report(data) if data else Failed("the process that was to make it died")
    if isinstance(report, Built):
        return tuple(descriptors), report.warnings
    raise SandboxError(report.why if isinstance(report, Failed) else "unexpected report")


def _child(build: Callable[[], tuple[tuple[int, ...], list[str]]], report: socket.socket) -> NoReturn:
    try:
        set_parent_death_signal(signal.SIGKILL)
        tun, warnings = build()
        socket.send_fds(report, [encode(Built(warnings))], tun)
    except SandboxError as error:
        report.send(encode(Failed(str(error))))
    except OSError as error:
        remedy = ": run netstack as root" if error.errno in (errno.EPERM, errno.EACCES) else ""
        report.send(encode(Failed(f"cannot make the network namespace: {error.strerror or error}{remedy}")))
    except Exception:
        _log.exception("the process that makes the network namespace failed")
        raise  # no further than this:
    finally:
        os._exit(0)


def _is_marked(path: Path, token: str) -> bool:
    def look() -> tuple[tuple[int, ...], list[str]]:
        _enter(path)
        return (), [network.alias("lo")]

    _, aliases = _in_child(look)
    return aliases == [_first_line(token)]


def _is_namespace(path: Path) -> bool:
    return path.stat().st_dev == _OWN.stat().st_dev


def _is_mount_point(path: Path) -> bool:
    """os.path.ismount does not see a bind mount of the same file system."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return any(line.split(" ")[4] == str(path) for line in lines)


def _first_line(token: str) -> str:
    return f"# netstack {token}"


def _token(manifest: Sequence[str]) -> str:
    return next(line.rpartition(" ")[2] for line in manifest if line.startswith("netns "))
