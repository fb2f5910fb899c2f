"""Keeping freed memory: the C library's allocator, told what this process does."""

import ctypes
from typing import Final

# malloc.h of glibc; its own names.
_M_TRIM_THRESHOLD: Final = -1
_M_TOP_PAD: Final = -2
_M_MMAP_THRESHOLD: Final = -3

_KEEP: Final = 256 << 20  # octets
_LARGE: Final = 32 << 20  # octets; the largest that glibc accepts
_PAD: Final = 4 << 20  # octets


def keep_freed_memory() -> None:
    """Do not give buffers of 64 to 256 KiB back to the kernel between two batches, only to fault them in again.

    Without it a quarter of the CPU time per octet forwarded was page faults. Where the C library is another one there
    is nothing to set.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    mallopt(_M_MMAP_THRESHOLD, _LARGE)
    mallopt(_M_TRIM_THRESHOLD, _KEEP)
    mallopt(_M_TOP_PAD, _PAD)
