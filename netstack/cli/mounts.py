"""The mounts of a sandbox: the tunnel's resolv.conf, and nothing of the host's resolvers or of our own sockets.

All in a mount namespace of the caller's, so that nothing has to be undone and the host's files are never touched.
"""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from netstack.cli.sandbox_messages import SandboxError
from netstack.cli.syscalls import (
    MNT_DETACH,
    MS_BIND,
    MS_NODEV,
    MS_NOEXEC,
    MS_NOSUID,
    MS_REC,
    MS_SLAVE,
    mount,
    umount,
)

RESOLV_CONF: Final = Path("/etc/resolv.conf")
# Sockets through which the C library would have a daemon outside resolve names: systemd-resolved's, nscd's, Avahi's.
RESOLVER_SOCKETS: Final = tuple(
    Path(path) for path in ("/run/systemd/resolve", "/run/nscd", "/var/run/nscd", "/run/avahi-daemon")
)
_PLAIN: Final = MS_NOSUID | MS_NODEV | MS_NOEXEC
_SMALL: Final = "mode=0755,size=64k,nr_inodes=16"


def resolv_conf(dns: str) -> str:
    """What /etc/resolv.conf holds in the sandbox."""
    # `search .`: a name is asked as it is written, not with the host's own domain behind it. edns0: answers larger than
    # 512 octets need no second try over TCP.
    return f"# The resolver of the captured network.\nnameserver {dns}\nsearch .\noptions edns0\n"


def set_up(dns: str, hidden: Iterable[Path]) -> None:
    """Lay our mounts over the caller's own mount namespace. `hidden` directories become empty.

    The namespace stays a slave of the host's: what the host mounts later appears, what it unmounts is not kept busy.
    """
    target = _resolv_conf_target()
    mount("", "/", flags=MS_REC | MS_SLAVE)
    masked = existing_directories([*RESOLVER_SOCKETS, *hidden])
    for directory in masked:
        mount("tmpfs", str(directory), "tmpfs", _PLAIN, _SMALL)
    content = resolv_conf(dns)
    if any(target.is_relative_to(directory) for directory in masked):
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(content)
        return
    # A bind mount keeps the file system of its file alive, so that the tmpfs itself can go again; /proc is there
    # everywhere and nobody else sees this namespace yet.
    mount("tmpfs", "/proc", "tmpfs", _PLAIN, _SMALL)
    source = Path("/proc/resolv.conf")
    source.write_text(content)
    source.chmod(0o644)
    mount(str(source), str(target), flags=MS_BIND)
    umount("/proc", MNT_DETACH)


def mount_proc() -> bool:
    """Mount the /proc of the caller's PID namespace. False where that is forbidden, as in containers without root."""
    try:
        mount("proc", "/proc", "proc", _PLAIN)
    except OSError:
        return False
    return True


def existing_directories(paths: Sequence[Path]) -> list[Path]:
    """The real paths of those that exist, each once, and none that is below another."""
    real = sorted({path.resolve() for path in paths if path.is_dir()})
    return [path for path in real if not any(path != other and path.is_relative_to(other) for other in real)]


def _resolv_conf_target() -> Path:
    target = RESOLV_CONF.resolve()
    if target.is_file():
        return target
    if os.path.lexists(RESOLV_CONF) and target != RESOLV_CONF:
        what = f"{RESOLV_CONF} leads to {target}, which does not exist"
        remedy = f"start the service that writes it, or make it: `sudo install -D -m 644 /dev/null {target}`"
    else:
        what = f"there is no file {RESOLV_CONF}"
        remedy = f"make an empty one: `sudo touch {RESOLV_CONF}`"
    raise SandboxError(f"{what}, so the command could not be given the tunnel's resolver: {remedy}")
