"""The arena of the process at the other end (netstack.wire.arena), as it is seen from here: for reading only."""

import mmap
import os
import stat
from pathlib import Path
from typing import Final

_MAX_SIZE: Final = 64 << 20  # octets


class ArenaError(OSError):
    """A partner's arena cannot be mapped, or a reference does not lie in it."""


class Partner:
    """Another process's arena, for reading."""

    def __init__(self, directory: Path, name: str) -> None:
        """Map the file of that name; raises ArenaError where it is not there, or not what it should be."""
        if not name or name in {".", ".."} or "/" in name or "\0" in name:
            raise ArenaError(f"{name!r} is no name of an arena")
        try:
            descriptor = os.open(directory / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                found = os.fstat(descriptor)
                if not stat.S_ISREG(found.st_mode) or not 0 < found.st_size <= _MAX_SIZE:
                    raise ArenaError(f"{directory / name} is no arena")
                self._memory = mmap.mmap(descriptor, found.st_size, prot=mmap.PROT_READ)
            finally:
                os.close(descriptor)
        except (OSError, ValueError) as error:
            raise ArenaError(f"cannot map {directory / name}: {error}") from None
        self._size = found.st_size
        self._view = memoryview(self._memory)

    def packet(self, reference: list[int]) -> memoryview:
        """The packet of a reference `[position, octets]`; raises ArenaError where there can be none."""
        if len(reference) == 2:
            position, octets = reference
            if type(position) is int and type(octets) is int and 0 <= position < position + octets <= self._size:
                return self._view[position : position + octets]
        raise ArenaError("a reference that lies in no slot")
