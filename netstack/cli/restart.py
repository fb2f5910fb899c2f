"""When a process that died is started again. No I/O, no clock."""

from collections import deque
from dataclasses import dataclass
from typing import Final

FIRST_DELAY: Final = 0.1  # seconds, for the second death; the first is answered at once
LONGEST_DELAY: Final = 2.0  # seconds; DESIGN section 11: a killed process is back within 2 s
STEADY_AFTER: Final = 10.0  # seconds up, after which earlier deaths are forgotten
LOOP_DEATHS: Final = 5  # so many deaths ...
LOOP_WITHIN: Final = 10.0  # ... within so many seconds are a crash loop


@dataclass(frozen=True, slots=True)
class Restart:
    """What to do about a death."""

    delay: float  # seconds until the process is to be started again
    crash_loop: bool  # true once, when the deaths become a crash loop


class RestartPolicy:
    """The memory of one process's deaths."""

    def __init__(self) -> None:
        self._started = 0.0
        self._delay = 0.0
        self._deaths: deque[float] = deque(maxlen=LOOP_DEATHS)
        self.in_crash_loop = False

    def started(self, now: float) -> None:
        """The process was started."""
        self._started = now

    def died(self, now: float) -> Restart:
        """The process died: when to start it again."""
        if now - self._started >= STEADY_AFTER:
            self._delay = 0.0
            self._deaths.clear()
            self.in_crash_loop = False
        self._deaths.append(now)
        is_loop = len(self._deaths) == LOOP_DEATHS and now - self._deaths[0] <= LOOP_WITHIN
        restart = Restart(self._delay, is_loop and not self.in_crash_loop)
        self.in_crash_loop = self.in_crash_loop or is_loop
        self._delay = min(max(2 * self._delay, FIRST_DELAY), LONGEST_DELAY)
        return restart
