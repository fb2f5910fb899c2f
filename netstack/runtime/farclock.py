"""The clock of another host, as its messages tell it. No I/O, no clock.

CLOCK_MONOTONIC counts from the boot of each host. A message that says when it was sent tells how far the two clocks are
apart, plus how long it took; the least that was seen is nearest to the truth, and too much by the least time that a
message takes. What is put on the far clock with it is early by as much, so that cause and effect keep their order.
"""

from typing import Final

WINDOW: Final = 30.0
"""Seconds after which a least is forgotten, at the latest two of them: clocks drift against each other."""


class FarClock:
    """What a far host's clock says."""

    def __init__(self) -> None:
        self._since = 0.0
        self._before: float | None = None  # the least difference of the window before this one
        self._least: float | None = None  # and of this one

    def heard(self, sent_at: float, now: float) -> float:
        """A message that was sent at a time of the far clock came; gives how much longer it took than the quickest."""
        difference = now - sent_at
        if self._least is None or now - self._since >= WINDOW:
            self._since, self._before, self._least = now, self._least, difference
        elif difference < self._least:
            self._least = difference
        return difference - self._offset()

    def theirs(self, at: float) -> float:
        """A time of ours on the far clock; as it is while nothing was heard."""
        return at - self._offset()

    def _offset(self) -> float:
        if self._least is None:
            return 0.0
        return self._least if self._before is None else min(self._least, self._before)
