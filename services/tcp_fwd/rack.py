"""Which runs are lost, by time (RACK, RFC 8985 section 6): what was sent well before something that has arrived.

Chosen before the count of three duplicates (RFC 6675) because a train of 64 KiB is one sending, and because links that
reorder would have it reduce the window for nothing. Until reordering is seen, three segments sacked are enough.
"""

from typing import Final

from netstack.packet.seqnum import MASK, diff
from services.tcp_fwd.rtt import RoundTrip
from services.tcp_fwd.scoreboard import LOST, RESENT, SACKED, Run, Scoreboard

DUPLICATES: Final = 3  # segments; RFC 5681 section 3.2
_PERSIST: Final = 16  # recoveries after which a wider window of reordering is narrowed again; RFC 8985 section 6.2.4


class Rack:
    """RACK.xmit_ts, RACK.end_seq, RACK.rtt and the window of reordering."""

    __slots__ = ("_end", "_fack", "_multiplier", "_persist", "_rtt", "_sent_at", "reordering_seen")

    def __init__(self, iss: int) -> None:
        self._sent_at = -1.0
        self._end = iss
        self._rtt = 0.0
        self._fack = iss  # the highest that was acknowledged or sacked
        self.reordering_seen = False
        self._multiplier = 1
        self._persist = 0

    def delivered(self, run: Run, now: float, min_rtt: float) -> None:
        """The client has this run."""
        rtt = now - run.sent_at
        if run.state & RESENT:
            if rtt < min_rtt:
                return  # the acknowledgement is for the time before (RFC 8985 section 6.2, step 2)
        elif diff(run.end, self._fack) < 0:
            self.reordering_seen = True
        if diff(run.end, self._fack) > 0:
            self._fack = run.end
        if run.sent_at > self._sent_at or (run.sent_at == self._sent_at and diff(run.end, self._end) > 0):
            self._sent_at = run.sent_at
            self._end = run.end
            self._rtt = rtt

    def spurious(self) -> None:
        """A retransmission was in vain: wait longer from now on (RFC 8985 section 6.2.4)."""
        self.reordering_seen = True
        self._multiplier += 1
        self._persist = _PERSIST

    def recovered(self) -> None:
        """A recovery is over."""
        if self._persist:
            self._persist -= 1
            if not self._persist:
                self._multiplier = 1

    def window(self, round_trip: RoundTrip, *, hurry: bool) -> float:
        """RACK.reo_wnd, seconds; hurry where three segments are sacked or a recovery goes on."""
        if not self.reordering_seen and hurry:
            return 0.0
        return min(self._multiplier * round_trip.min_rtt / 4, round_trip.srtt)

    def detect(self, board: Scoreboard, now: float, window: float) -> float:
        """Mark what is lost; gives the seconds until more would be, 0 where nothing waits for that."""
        wait = 0.0
        sent_at, end, allowed = self._sent_at, self._end, self._rtt + window
        for index, run in enumerate(list(board.runs)):
            if run.state & (SACKED | LOST):
                continue
            if run.sent_at > sent_at or (run.sent_at == sent_at and (run.end - end) & MASK < 1 << 31):
                if run.state & RESENT:
                    continue
                break  # what follows was sent later still, or has been sent again since
            remaining = run.sent_at + allowed - now
            if remaining <= 1e-6:  # a microsecond: the timer must not come a rounding too early
                board.lose(index)
            elif remaining > wait:
                wait = remaining
        return wait
