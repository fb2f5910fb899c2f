"""Who called, and what forbids a capture."""

import errno
import os
import pwd

import pytest

from netstack.cli import identity
from netstack.cli.syscalls import CAP_NET_ADMIN, CAP_SYS_ADMIN

STATUS = "Name:\tpython\nCapPrm:\t0000000000000000\nCapEff:\t{}\nCapBnd:\t000001ffffffffff\n"


@pytest.mark.parametrize(
    ("effective", "privileged"),
    [
        ("000001ffffffffff", True),
        ("0000000000201000", True),  # bits 21 (SYS_ADMIN) and 12 (NET_ADMIN)
        ("0000000000001000", False),
        ("0000000000200000", False),
        ("00000000a80425fb", False),  # what Docker gives root
        ("0000000000000000", False),
    ],
    ids=[
        "root has both",
        "the two are enough",
        "NET_ADMIN alone is not",
        "SYS_ADMIN alone is not",
        "root of a container has neither",
        "a user has none",
    ],
)
def test_privileged_is_both_capabilities(effective: str, privileged: bool) -> None:
    numbers = (CAP_SYS_ADMIN, CAP_NET_ADMIN)
    assert identity.has_capabilities(STATUS.format(effective), numbers) is privileged


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"SUDO_UID": "1000", "SUDO_GID": "100"}, (1000, 100)),
        ({"SUDO_UID": "0", "SUDO_GID": "0"}, (0, 0)),
        ({}, None),
        ({"SUDO_UID": "1000"}, None),
        ({"SUDO_UID": "-1", "SUDO_GID": "100"}, None),
        ({"SUDO_UID": "root", "SUDO_GID": "100"}, None),
        ({"SUDO_UID": "²", "SUDO_GID": "100"}, None),
    ],
    ids=[
        "sudo's two variables name the caller",
        "root may call sudo",
        "no sudo",
        "a uid without a gid is not sudo's",
        "a negative uid is not sudo's",
        "a name is not sudo's",
        "nor is a digit that is not ASCII",
    ],
)
def test_sudo_caller(environment: dict[str, str], expected: tuple[int, int] | None) -> None:
    assert identity.sudo_caller(environment) == expected


@pytest.mark.parametrize(
    ("number", "settings", "root", "said"),
    [
        (errno.EPERM, {"kernel.unprivileged_userns_clone": 0}, False, "sysctl kernel.unprivileged_userns_clone=1"),
        (errno.ENOSPC, {"user.max_user_namespaces": 0}, False, "sysctl user.max_user_namespaces=15000"),
        (errno.ENOSPC, {"user.max_net_namespaces": 0}, False, "sysctl user.max_net_namespaces=15000"),
        (
            errno.EACCES,
            {"kernel.apparmor_restrict_unprivileged_userns": 1},
            False,
            "sysctl kernel.apparmor_restrict_unprivileged_userns=0",
        ),
        (errno.ENOSPC, {"user.max_user_namespaces": 9}, False, "too many"),
        (errno.EPERM, {"user.max_user_namespaces": 9}, False, "seccomp"),
        (errno.EPERM, {}, True, "--cap-add SYS_ADMIN"),
    ],
    ids=[
        "Debian's switch is named",
        "no user namespaces at all",
        "no network namespaces at all",
        "Ubuntu's AppArmor is named",
        "used up",
        "nothing in the settings: a filter",
        "root of a container is told what to start it with",
    ],
)
def test_the_setting_that_forbids_namespaces_is_named(
    number: int, settings: dict[str, int], root: bool, said: str
) -> None:
    message = identity.explain_namespaces("unshare", number, settings, root=root)
    assert said in message
    assert f"unshare: {os.strerror(number)}" in message


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.ENOENT, "modprobe tun"),
        (errno.ENOENT, "--device /dev/net/tun"),
        (errno.ENODEV, "modprobe tun"),
        (errno.EACCES, "chmod 0666 /dev/net/tun"),
        (errno.EACCES, "its mode is 0600"),
        (errno.EPERM, "--device /dev/net/tun"),
        (errno.EIO, os.strerror(errno.EIO)),
    ],
    ids=["missing", "missing in a container", "no driver", "forbidden", "its mode", "a device cgroup", "whatever else"],
)
def test_why_the_device_cannot_be_opened(number: int, said: str) -> None:
    assert said in identity.explain_device(number, 0o600)


def test_personal_environment_is_the_users_own() -> None:
    root = pwd.getpwuid(0)
    changed = identity.personal_environment(0, {"HOME": "/home/other", "USER": "other", "PATH": "/bin"})
    assert changed == {
        "HOME": root.pw_dir,
        "USER": root.pw_name,
        "LOGNAME": root.pw_name,
        "SHELL": root.pw_shell,
        "PATH": "/bin",
    }


def test_a_uid_without_an_account_keeps_the_environment() -> None:
    assert identity.personal_environment(4_000_000_000, {"HOME": "/x"}) == {"HOME": "/x"}
