"""When sessions are called: their timers, delayed acknowledgements, and what ends a connect that takes too long.

Only the timers that differ from flow to flow are in a heap (services.tcp_fwd.timers). What lasts equally long for all
is in order as it comes: a place in a dict is taken and given back for less than a place in a heap.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from services.tcp_fwd.receiving import DELAYED_ACK
from services.tcp_fwd.timers import Timers

if TYPE_CHECKING:
    from services.tcp_fwd.session import Session

Alarm = Callable[[float, Callable[[], object]], None]
"""Calls once, at that time or a little later (netstack.runtime.selector)."""


class Timing:
    """That of one worker's sessions."""

    def __init__(self, alarm: Alarm, now: Callable[[], float], connect_timeout: float) -> None:
        """connect_timeout in seconds."""
        self._alarm = alarm
        self._now = now
        self._connect_timeout = connect_timeout
        self._timers = Timers()
        self._timer_at: float | None = None
        self._connecting: dict[Session, None] = {}  # who began first is first
        self._watches_connects = False
        self._acknowledging: dict[Session, None] = {}

    def schedule(self, session: "Session") -> None:
        """The session's next timeout may have changed."""
        if self._timers.schedule(session):
            self._arm()

    def acknowledge_soon(self, session: "Session") -> None:
        """The session's delayed acknowledgement is due soon. Most are carried by data before that.

        All of them share an alarm: one for each request would cost as much as the request.
        """
        if not self._acknowledging:
            self._alarm(self._now() + DELAYED_ACK, self._acknowledge)
        self._acknowledging[session] = None

    def connecting(self, session: "Session") -> None:
        """The session has begun to connect, at session.connect_at: it may take so long, and no longer."""
        self._connecting[session] = None
        if not self._watches_connects:
            self._watches_connects = True
            self._alarm(session.connect_at + self._connect_timeout, self._watch_connects)

    def connect_ended(self, session: "Session") -> None:
        """It is connected, or will not be."""
        self._connecting.pop(session, None)

    def forget(self, session: "Session") -> None:
        """The session is over."""
        self._timers.forget(session)
        self._acknowledging.pop(session, None)

    def _arm(self) -> None:
        when = self._timers.next()
        if when is None or (self._timer_at is not None and self._timer_at <= when):
            return
        self._timer_at = when
        self._alarm(when, self._on_timer)

    def _on_timer(self) -> None:
        now = self._now()
        if self._timer_at is not None and self._timer_at <= now:
            self._timer_at = None
        session: Session
        for session in self._timers.due(now):
            session.handle_timeout(now)
        self._arm()

    def _acknowledge(self) -> None:
        now = self._now()
        waiting, self._acknowledging = self._acknowledging, {}
        for session in waiting:
            due = session.connection.receiver.ack_due_at
            if due is None:
                continue
            if due <= now:
                session.handle_timeout(now)
            else:
                self.acknowledge_soon(session)

    def _watch_connects(self) -> None:
        now = self._now()
        try:
            while self._connecting:
                oldest = next(iter(self._connecting))
                if oldest.connect_at + self._connect_timeout > now:
                    break
                del self._connecting[oldest]
                oldest.connect_timed_out()
        finally:  # also where one failed: the others have their time too
            self._watches_connects = len(self._connecting) > 0
            if self._watches_connects:
                oldest = next(iter(self._connecting))
                self._alarm(oldest.connect_at + self._connect_timeout, self._watch_connects)
