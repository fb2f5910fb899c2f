"""Keepalive towards a silent client (RFC 9293 section 3.8.4). No I/O, no clock.

The probes end when tcp.idle_timeout does: a client that lives is never idle for so long, one that is gone is given up.
"""

from typing import Final

IDLE_TIMEOUT: Final = 7440.0  # seconds; RFC 5382 REQ-5
PROBES: Final = 9  # Linux's tcp_keepalive_probes
SHARE: Final = 0.9
"""Of the idle timeout, before the first probe: 6,696 of 7,440 s, and 74 s between two (Linux: 7,200 and 75)."""


_NEVER: Final = float("-inf")


class Keepalive:
    """When the next probe is due, and whether it is one too many."""

    __slots__ = ("_after", "_interval", "_last", "_sent")

    def __init__(self, idle_timeout: float) -> None:
        self._after = idle_timeout * SHARE
        self._interval = idle_timeout * (1 - SHARE) / (PROBES + 1)
        self._last = _NEVER
        self._sent = 0

    def due(self, last_heard: float) -> float:
        """When to probe a client that was last heard then."""
        if self._last <= last_heard:
            return last_heard + self._after
        return self._last + self._interval

    def probe(self, last_heard: float, now: float) -> bool:
        """A probe is due: whether to send it; False where enough were in vain."""
        if self._last <= last_heard:
            self._sent = 0
        self._last = now
        self._sent += 1
        return self._sent <= PROBES
