"""How often one destination was refused: after REFUSALS answers within WINDOW seconds there is only silence.

No I/O, no clock. A program that goes on knocking at a closed door would else make us send an error for each of its
packets; a router limits its ICMP errors for the same reason (RFC 1812 section 4.3.2.8, RFC 4443 section 2.4 (f)).
"""

from typing import Final

REFUSALS: Final = 50
WINDOW: Final = 30.0  # seconds
MAX_DESTINATIONS: Final = 4096
"""Destinations kept; beyond it the one whose window began first is forgotten, and is answered anew if it comes back."""


class Refusals:
    """Counts refusals by destination: an address, or whatever else of octets the caller wants to tell apart."""

    def __init__(self) -> None:
        self._windows: dict[bytes, tuple[float, int]] = {}  # destination -> (began, refusals); the oldest window first

    def __len__(self) -> int:
        return len(self._windows)

    def should_answer(self, destination: bytes, now: float) -> bool:
        """Count one refusal; False where it is to be met with silence (reason refused-too-often)."""
        began, count = self._windows.get(destination, (now, 0))
        if now - began >= WINDOW:
            del self._windows[destination]
            began, count = now, 0
        self._windows[destination] = (began, count + 1)
        if len(self._windows) > MAX_DESTINATIONS:
            del self._windows[next(iter(self._windows))]
        return count < REFUSALS
