"""Memory of a process that forwards packets: the C library's allocator and Python's collector, told what it does."""

import ctypes
import gc
from typing import Final

# malloc.h of glibc; its own names.
_M_TRIM_THRESHOLD: Final = -1
_M_TOP_PAD: Final = -2
_M_MMAP_THRESHOLD: Final = -3

_KEEP: Final = 256 << 20  # octets
_LARGE: Final = 32 << 20  # octets; the largest that glibc accepts
_PAD: Final = 4 << 20  # octets

_YOUNG: Final = 50_000  # containers made, less those freed, between two collections
_OLDER: Final = (20, 50)  # collections of one generation for one of the next


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


def collect_rarely() -> None:
    """Look for cycles seldom, and never in what was there at the start.

    Packets and flows are freed by their reference counts. Every 700 new objects, as Python has it by default, is every
    few dozen packets, and each of these collections looks at the same live flows again: a twentieth of the time.
    Importing leaves some 700 objects (140 KiB) in cycles: to look for them is a tenth of a start, so they stay.
    """
    gc.freeze()
    gc.set_threshold(_YOUNG, *_OLDER)
    gc.enable()
