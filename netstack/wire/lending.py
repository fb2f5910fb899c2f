"""Who may still read which slots of an arena. No I/O, no clock.

Slots are lent in order. Each message carries its sender's count of slots lent to this partner, up to and with that
message; what the partner gives back is the last such count that it has dealt with. A message that was lost on the way
is thus settled by the next one. Counts begin anywhere, so that what was said to somebody who died is not taken for
what is said to the process in his place.
"""

from collections import deque

from netstack.wire.arena import Slot


class Lending:
    """What one process has lent to one partner, and what it was lent."""

    __slots__ = ("_out", "borrowed", "lent", "reported")

    def __init__(self, first: int) -> None:
        """first is where the count begins: at random, below 2**62."""
        self._out: deque[Slot] = deque()
        self.lent = first
        """The count of slots lent."""
        self.borrowed = 0
        """The partner's count, as of the last message dealt with."""
        self.reported = 0
        """What of it the partner was told."""

    @property
    def outstanding(self) -> int:
        """Slots that the partner has."""
        return len(self._out)

    def lend(self, slot: Slot) -> None:
        """A message refers to this slot; the partner holds it from now on, in the place of the caller."""
        self._out.append(slot)
        self.lent += 1

    def returned(self, count: int) -> None:
        """The partner is done with what it was lent up to this count; any other number means nothing."""
        out = self._out
        done = len(out) - (self.lent - count)
        if 0 < done <= len(out):
            for _ in range(done):
                out.popleft().release()

    def forget(self) -> None:
        """The arena was retired: what was lent of it is never taken again."""
        self._out.clear()
