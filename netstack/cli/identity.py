"""Who called: whose uid and groups the captured command gets, and whether this caller may capture at all."""

import os
import pwd
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from errno import EACCES, ENODEV, ENOENT, ENOSPC, ENXIO, EPERM, EUSERS
from pathlib import Path
from typing import Final

from netstack.cli.syscalls import (
    CAP_NET_ADMIN,
    CAP_SYS_ADMIN,
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWUSER,
    MS_REC,
    MS_SLAVE,
    mount,
    unshare,
)

TUN_DEVICE: Final = Path("/dev/net/tun")
# What forbids user namespaces, and the value that does.
SETTINGS: Final = {
    "kernel.unprivileged_userns_clone": 0,  # Debian and Ubuntu kernels
    "kernel.apparmor_restrict_unprivileged_userns": 1,  # Ubuntu 23.10 and later
    "user.max_user_namespaces": 0,
    "user.max_net_namespaces": 0,
    "user.max_mnt_namespaces": 0,
    "user.max_pid_namespaces": 0,
}
_ALLOWING: Final = {
    "kernel.unprivileged_userns_clone": "1",
    "kernel.apparmor_restrict_unprivileged_userns": "0",
}
_ENOUGH_NAMESPACES: Final = "15000"  # about what the kernel computes for 4 GiB of memory


@dataclass(frozen=True)
class Identity:
    """The caller, and whether it has CAP_SYS_ADMIN and CAP_NET_ADMIN; without them a user namespace is used."""

    uid: int
    gid: int
    groups: tuple[int, ...]  # supplementary
    privileged: bool


class PrivilegeError(Exception):
    """The caller may not do this; the message says what is missing and the remedy, in one line or more."""


def caller() -> Identity:
    """Who runs this process; under sudo the user who called sudo. `env -u SUDO_UID` makes it root again."""
    privileged = has_capabilities(_own_status(), (CAP_SYS_ADMIN, CAP_NET_ADMIN))
    invoking = sudo_caller(os.environ) if privileged and os.geteuid() == 0 else None
    if invoking is None:
        return Identity(os.getuid(), os.getgid(), tuple(os.getgroups()), privileged)
    uid, gid = invoking
    try:
        groups = tuple(os.getgrouplist(pwd.getpwuid(uid).pw_name, gid))
    except KeyError:  # a uid without an account
        groups = (gid,)
    return Identity(uid, gid, groups, privileged)


def sudo_caller(environment: Mapping[str, str]) -> tuple[int, int] | None:
    """The uid and gid of whoever called sudo, None where the variables are not sudo's."""
    uid, gid = environment.get("SUDO_UID", ""), environment.get("SUDO_GID", "")
    if not (uid.isascii() and uid.isdigit() and gid.isascii() and gid.isdigit()):
        return None
    return int(uid), int(gid)


def has_capabilities(status: str, numbers: tuple[int, ...]) -> bool:
    """Whether a text as in /proc/PID/status has all these capabilities in its effective set."""
    for line in status.splitlines():
        name, _, value = line.partition(":")
        if name == "CapEff":
            effective = int(value, 16)
            return all(effective >> number & 1 for number in numbers)
    return False


def personal_environment(uid: int, environment: Mapping[str, str]) -> dict[str, str]:
    """The environment with HOME, USER, LOGNAME and SHELL of that user.

    sudo leaves root's or the caller's there, as its policy has it; a program that runs as the caller and writes to
    root's home fails.
    """
    changed = dict(environment)
    try:
        account = pwd.getpwuid(uid)
    except KeyError:
        return changed
    changed.update(HOME=account.pw_dir, USER=account.pw_name, LOGNAME=account.pw_name, SHELL=account.pw_shell)
    return changed


def check_privileges(identity: Identity) -> None:
    """Raise PrivilegeError if no TUN and namespace can be made; nothing is left of the attempt."""
    _check_device()
    if not identity.privileged:
        failure = _attempt(_enter_namespaces)
        if failure is not None:
            raise PrivilegeError(explain_namespaces(*failure, _read_settings(), root=os.geteuid() == 0))


def explain_namespaces(call: str, number: int, settings: Mapping[str, int], *, root: bool) -> str:
    """Why a user namespace could not be made: `call` failed with errno `number`, the kernel's settings are these."""
    why = f"no network namespace can be made without root: {call}: {os.strerror(number)}."
    for name, forbids in SETTINGS.items():
        if settings.get(name) == forbids:
            allows = _ALLOWING.get(name, _ENOUGH_NAMESPACES)
            return f"{why}\n{name} = {forbids} forbids it: `sudo sysctl {name}={allows}`, or run netstack under sudo."
    if number in (ENOSPC, EUSERS):
        return f"{why}\nThere are too many already: raise user.max_user_namespaces, or run netstack under sudo."
    if root:
        return (
            f"{why}\nThis is root without CAP_SYS_ADMIN and CAP_NET_ADMIN, as in a container: start the container with "
            "`--cap-add SYS_ADMIN --cap-add NET_ADMIN --security-opt apparmor=unconfined --device /dev/net/tun`,\n"
            "or with no network of its own, --cap-add NET_ADMIN alone, and `netstack up -s capture.kind=name "
            "-s capture.name=/proc/self/ns/net` inside."
        )
    return (
        f"{why}\nA seccomp filter (in a container: the engine's default profile, which `--security-opt "
        "seccomp=unconfined` lifts) or a security module forbids it. Run netstack under sudo, or where user namespaces "
        "are allowed."
    )


def explain_device(number: int, mode: int) -> str:
    """Why /dev/net/tun could not be opened."""
    if number == ENOENT:
        return (
            f"there is no {TUN_DEVICE}, so no TUN can be made: load the kernel's module with `sudo modprobe tun`; "
            "in a container, start it with `--device /dev/net/tun`."
        )
    if number in (ENODEV, ENXIO):
        return f"{TUN_DEVICE} has no driver behind it: `sudo modprobe tun`, or a kernel with CONFIG_TUN."
    if number == EACCES:
        return (
            f"{TUN_DEVICE} may not be opened by this user (its mode is {mode:04o}): run netstack under sudo, "
            f"or allow everybody, as most distributions do, with `sudo chmod 0666 {TUN_DEVICE}`."
        )
    if number == EPERM:
        return f"the container may not use {TUN_DEVICE}: start it with `--device /dev/net/tun`."
    return f"{TUN_DEVICE} cannot be opened: {os.strerror(number)}."


def _check_device() -> None:
    try:
        os.close(os.open(TUN_DEVICE, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        number = error.errno or 0
        mode = 0 if number == ENOENT else stat.S_IMODE(TUN_DEVICE.stat().st_mode)
        raise PrivilegeError(explain_device(number, mode)) from None


def _enter_namespaces() -> None:
    unshare(CLONE_NEWUSER | CLONE_NEWNET | CLONE_NEWNS | CLONE_NEWPID)
    # Ubuntu's AppArmor lets a user namespace be made, and then gives no capability in it.
    mount("", "/", flags=MS_REC | MS_SLAVE)


def _attempt(action: Callable[[], None]) -> tuple[str, int] | None:
    """Do it in a child that ends at once. Returns the call that failed and its errno."""
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            action()
        except OSError as error:
            os.write(theirs, f"{error.errno} {(error.strerror or '').partition(':')[0]}".encode())
        finally:
            os._exit(0)
    os.close(theirs)
    with os.fdopen(ours, "rb") as reader:
        said = reader.read().decode()
    os.waitpid(child, 0)
    if not said:
        return None
    number, _, call = said.partition(" ")
    return call, int(number)


def _read_settings() -> dict[str, int]:
    found: dict[str, int] = {}
    for name in SETTINGS:
        try:
            found[name] = int((Path("/proc/sys") / name.replace(".", "/")).read_text())
        except (OSError, ValueError):  # not every kernel has every setting
            continue
    return found


def _own_status() -> str:
    return Path("/proc/self/status").read_text()
