"""Which upstream to ask: the configured order, less those that do not answer. No I/O, no clock.

The policy. An upstream that refuses, resets or answers garbage is down at once; one that is silent is down after
SILENT_QUERIES queries in a row, since a single name may be slow. While another is up, one that is down is passed over,
and asked a copy of a live question when its backoff ends (1 s, doubling to 30 s): no client waits for it. When all are
down, all are asked in order, since any answer is better than none.
"""

from dataclasses import dataclass
from typing import Final

BACKOFF: Final = 1.0  # seconds after the first failure; doubled by each further one
MAX_BACKOFF: Final = 30.0  # seconds
SILENT_QUERIES: Final = 3


@dataclass(slots=True)
class _State:
    up: bool = True
    silent: int = 0
    backoff: float = BACKOFF
    retry_at: float = 0.0
    answered_at: float = float("-inf")


class Health:
    """The state of each upstream, by its index in the configured order."""

    def __init__(self, count: int) -> None:
        self._states = [_State() for _ in range(count)]

    @property
    def all_down(self) -> bool:
        """Whether no upstream answers."""
        return not any(state.up for state in self._states)

    def order(self) -> list[int]:
        """Which to ask, the first first."""
        return [index for index, state in enumerate(self._states) if state.up] or list(range(len(self._states)))

    def probes(self, now: float) -> list[int]:
        """Which to ask a copy of the question, besides; each is given once per backoff."""
        if self.all_down:
            return []
        due = [index for index, state in enumerate(self._states) if not state.up and state.retry_at <= now]
        for index in due:
            self._back_off(self._states[index], now)
        return due

    def answered(self, index: int, now: float) -> bool:
        """It answered; whether it was down before."""
        state = self._states[index]
        was_down = not state.up
        state.up = True
        state.silent = 0
        state.backoff = BACKOFF
        state.answered_at = now
        return was_down

    def failed(self, index: int, now: float, *, asked_at: float, silent: bool) -> bool:
        """It failed a question that was asked at asked_at; whether it goes down by this."""
        state = self._states[index]
        if silent:
            if state.answered_at >= asked_at:
                return False  # it answers others: this name is slow, or a datagram was lost
            state.silent += 1
            if state.silent < SILENT_QUERIES:
                return False
        if not state.up:
            return False
        state.up = False
        self._back_off(state, now)
        return True

    def _back_off(self, state: _State, now: float) -> None:
        state.retry_at = now + state.backoff
        state.backoff = min(2 * state.backoff, MAX_BACKOFF)
