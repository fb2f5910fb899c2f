"""Large packets in shared memory: a message then carries where a packet lies, not its octets.

Theory of operation. Every process on the packets link owns an arena, a file in the run directory cut into slots, which
it alone writes and its partner maps for reading. A packet is read from the device, or a host socket, straight into a
slot, and written to the other end straight from there: two copies in all, where a packet inside a message is copied
seven times. Small packets stay in the message, and so does a large one when no slot is free.

A slot is held by whoever still needs it: the partner, until it says that it is done (netstack.wire.lending), and a
connection that may have to send it again. The last one to let go frees it; freed slots are taken again at once, while
their octets are still in the processor's cache.

A partner that is lost while slots are lent to it may yet wake up and read them. What was lent is therefore never taken
again: the owner retires the whole arena, and goes on with a new one under another name.
"""

import mmap
import os
from pathlib import Path
from typing import Final

SLOTS: Final = 256
SLOT: Final = 17 * 4096
"""Octets: room for the largest packet behind the longest headers, in whole pages."""

HEADROOM: Final = 128
"""Octets in front of a payload for the headers to come; a multiple of the cache line, so that copies are aligned."""

LARGE: Final = 2048
"""Octets from which on a packet travels in a slot; a smaller one is copied sooner than referred to."""


class Slot:
    """Room for one packet. Held once by whoever took it."""

    __slots__ = ("_free", "_holds", "buffers", "memory", "payload", "position", "view")

    def __init__(self, memory: mmap.mmap, position: int, free: "list[Slot]") -> None:
        self._free = free
        self._holds = 0
        self.memory = memory
        """Of which this is a part; a slice of it is bytes, a copy."""
        self.position = position
        """Of its first octet in that memory."""
        self.view = view = memoryview(memory)[position : position + SLOT]
        self.buffers = [view]
        """For readv."""
        self.payload = view[HEADROOM:]

    def hold(self) -> None:
        """One more needs it."""
        self._holds += 1

    def release(self) -> None:
        """One that held it needs it no more."""
        self._holds -= 1
        if self._holds == 0:
            self._free.append(self)


def private_slot() -> Slot:
    """Room that is not shared: for what is copied out of it before it is used again."""
    return Slot(mmap.mmap(-1, SLOT), 0, [])


class Arena:
    """The slots of this process."""

    def __init__(self, path: Path, slots: int = SLOTS) -> None:
        """Make the file, readable by its owner only; raises OSError where there is no room for all of it."""
        self.path = path
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            # All of it now: a page that could not be had later would end the process with SIGBUS.
            os.posix_fallocate(descriptor, 0, slots * SLOT)
            memory = mmap.mmap(descriptor, slots * SLOT)
        except OSError:
            path.unlink()
            raise
        finally:
            os.close(descriptor)
        self._free: list[Slot] = []
        self._free += [Slot(memory, at, self._free) for at in range(0, slots * SLOT, SLOT)]

    def take(self) -> Slot | None:
        """A free slot, held once; None where there is none."""
        if not self._free:
            return None
        slot = self._free.pop()
        slot._holds = 1  # noqa: SLF001 - a call for each packet would cost more than the rest of this
        return slot

    def owns(self, slot: Slot) -> bool:
        """Whether a slot is one of these, and not of an arena that was retired."""
        return slot._free is self._free  # noqa: SLF001 - a slot and its arena are of one piece

    def retire(self) -> None:
        """Nobody may find it any more; who has it mapped keeps it as it is."""
        self.path.unlink(missing_ok=True)
