"""The system calls that the standard library of Python 3.11 lacks. Each failure is an OSError that names the call."""

import ctypes
import os
import struct
from typing import Final

# <linux/sched.h>
CLONE_NEWNS: Final = 0x00020000
CLONE_NEWUSER: Final = 0x10000000
CLONE_NEWPID: Final = 0x20000000
CLONE_NEWNET: Final = 0x40000000

# <linux/mount.h>
MS_RDONLY: Final = 0x1
MS_NOSUID: Final = 0x2
MS_NODEV: Final = 0x4
MS_NOEXEC: Final = 0x8
MS_BIND: Final = 0x1000
MS_REC: Final = 0x4000
MS_SLAVE: Final = 1 << 19
MS_SHARED: Final = 1 << 20
MNT_DETACH: Final = 0x2
UMOUNT_NOFOLLOW: Final = 0x8

# <linux/capability.h>
CAP_NET_ADMIN: Final = 12
CAP_SYS_MODULE: Final = 16
CAP_SYS_ADMIN: Final = 21
_CAPABILITY_VERSION_3: Final = 0x20080522

# <linux/prctl.h>
_PR_SET_PDEATHSIG: Final = 1
_PR_CAPBSET_DROP: Final = 24

_libc = ctypes.CDLL(None, use_errno=True)


def unshare(flags: int) -> None:
    """Move the calling process to new namespaces; with CLONE_NEWPID only its future children."""
    _checked(_libc.unshare(flags), "unshare")


def setns(descriptor: int, flags: int) -> None:
    """Move the calling process to the namespace that the descriptor is open on."""
    _checked(_libc.setns(descriptor, flags), "setns")


def mount(source: str, target: str, kind: str = "", flags: int = 0, options: str = "") -> None:
    """mount(2). An empty source, kind or options is passed as NULL."""
    result = _libc.mount(
        _text(source), os.fsencode(target), _text(kind), ctypes.c_ulong(flags), _text(options)
    )  # fmt: skip
    _checked(result, f"mount on {target}")


def umount(target: str, flags: int = 0) -> None:
    """umount2(2)."""
    _checked(_libc.umount2(os.fsencode(target), flags), f"umount {target}")


def set_parent_death_signal(number: int) -> None:
    """Have the kernel send this process a signal when its parent dies.

    Cleared by the kernel whenever the process changes its uid or gid, so to be called after that; the parent may have
    died just before, which the caller has to look for.
    """
    _prctl(_PR_SET_PDEATHSIG, number)


def drop_capabilities(numbers: tuple[int, ...]) -> None:
    """Give up these capabilities for good: no program executed from here on, set-user-ID or not, has them again."""
    for number in numbers:
        _prctl(_PR_CAPBSET_DROP, number)
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    data = ctypes.create_string_buffer(24)  # effective, permitted, inheritable; low words, then high words
    _checked(_libc.capget(header, data), "capget")
    words = list(struct.unpack("=6I", data.raw))
    for number in numbers:
        half, bit = divmod(number, 32)
        for index in range(3 * half, 3 * half + 3):
            words[index] &= ~(1 << bit)
    # Lowering the inheritable set lowers the ambient set too (capabilities(7)).
    _checked(_libc.capset(header, struct.pack("=6I", *words)), "capset")


def _prctl(option: int, argument: int) -> None:
    zero = ctypes.c_ulong(0)
    _checked(_libc.prctl(option, ctypes.c_ulong(argument), zero, zero, zero), "prctl")


def _text(value: str) -> bytes | None:
    return os.fsencode(value) if value else None


def _checked(result: int, call: str) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{call}: {os.strerror(number)}")
