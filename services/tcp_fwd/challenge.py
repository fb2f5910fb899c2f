"""Challenge ACKs (RFC 5961): how many a connection may send, so that they cannot serve to make traffic. No I/O."""

from typing import Final

AT_ONCE: Final = 10  # RFC 5961 section 7 gives 10 in 5 s as an example
PERIOD: Final = 5.0  # seconds


_NEVER: Final = float("-inf")


class Challenges:
    """How many were sent in this period."""

    __slots__ = ("_sent", "_since")

    def __init__(self) -> None:
        self._since = _NEVER
        self._sent = 0

    def allow(self, now: float) -> bool:
        """Whether one more may be sent; counts it."""
        if now - self._since >= PERIOD:
            self._since = now
            self._sent = 0
        self._sent += 1
        return self._sent <= AT_ONCE
