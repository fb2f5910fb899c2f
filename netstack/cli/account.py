"""As whom the services of an instance run.

Without privilege: as the caller. With it: as nobody, since the captured command runs as the caller and could otherwise
trace or replace the processes that guard it. Where nobody cannot read our own code (a virtual environment in a home
directory that is closed to others), they keep root's uid but no capability.
"""

import importlib.util
import logging
import os
import signal
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from netstack.cli.syscalls import drop_capabilities, set_parent_death_signal

NOBODY: Final = 65534  # the kernel's overflow uid and gid, nobody and nogroup in every distribution

_PR_SET_NO_NEW_PRIVS: Final = 38  # <linux/prctl.h>
_LAST_CAPABILITY: Final = Path("/proc/sys/kernel/cap_last_cap")

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Account:
    """A user to become, or None to stay what we are; and whether to give up every capability."""

    uid: int | None = None
    gid: int | None = None
    drop_all: bool = False


def choose(run_dir: Path, files: Iterable[Path] = ()) -> Account:
    """The account for services; `files` are what they have to read beside our own code."""
    if os.geteuid() != 0:
        return Account()
    unreadable = _unreadable(NOBODY, [*_own_code(), *files], run_dir)
    if not unreadable:
        return Account(NOBODY, NOBODY)
    _log.debug("services keep root's uid, without capabilities: user %d cannot read %s", NOBODY, unreadable)
    return Account(drop_all=True)


def settle(account: Account, supervisor: int) -> None:
    """In the child, once its user was changed and before it is executed: die with the supervisor, gain no privilege."""
    if account.drop_all:
        drop_capabilities(tuple(range(int(_LAST_CAPABILITY.read_text()) + 1)))
    _set_no_new_privileges()
    set_parent_death_signal(signal.SIGKILL)
    if os.getppid() != supervisor:
        os._exit(1)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _set_no_new_privileges() -> None:
    import ctypes  # noqa: PLC0415

    zero = ctypes.c_ulong(0)
    ctypes.CDLL(None).prctl(_PR_SET_NO_NEW_PRIVS, ctypes.c_ulong(1), zero, zero, zero)


def _own_code() -> list[Path]:
    found = [Path(sys.executable), Path(os.__file__)]
    for package in ("netstack", "services", "zmq", "msgspec"):
        spec = importlib.util.find_spec(package)
        if spec is not None and spec.origin is not None:
            found.append(Path(spec.origin))
    return found


def _unreadable(uid: int, files: Iterable[Path], run_dir: Path) -> str:
    """The first file that this user cannot read, as found out by a child that becomes that user; "" if none."""
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            found = [path for path in files if not os.access(path, os.R_OK)]
            if not os.access(run_dir, os.X_OK):
                found.append(run_dir)
            os.write(theirs, str(found[0]).encode(errors="replace") if found else b"")
        except OSError as error:
            os.write(theirs, str(error).encode())
        finally:
            os._exit(0)
    os.close(theirs)
    with os.fdopen(ours, "rb") as reader:
        said = reader.read().decode(errors="replace")
    os.waitpid(child, 0)
    return said
