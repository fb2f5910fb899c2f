"""The congestion window: slow start, and CUBIC (RFC 9438). In octets. No I/O, no clock.

Growth counts the octets acknowledged, not the acknowledgements (RFC 3465): one may be for a train of 64 KiB.
"""

from typing import Final

BETA: Final = 0.7  # RFC 9438 section 4.6
C: Final = 0.4  # segments / s^3; RFC 9438 section 5
ALPHA: Final = 3 * (1 - BETA) / (1 + BETA)  # RFC 9438 section 4.3
INITIAL_SEGMENTS: Final = 10  # RFC 6928
INITIAL_OCTETS: Final = 14600  # RFC 6928: the initial window is no more, but for two segments
UNLIMITED: Final = 1 << 30  # octets; RFC 5681 section 3.1: ssthresh begins arbitrarily high


class Cubic:
    """cwnd and ssthresh, with the variables of RFC 9438 section 4.1.2."""

    __slots__ = (
        "_credit", "_cwnd_prior", "_epoch", "_k", "_mss", "_saved", "_w_est", "_w_max", "cwnd", "ssthresh",
    )  # fmt: skip

    def __init__(self, mss: int) -> None:
        self._mss = mss
        self.cwnd = initial_window(mss)
        self.ssthresh = UNLIMITED
        self._w_max = 0.0
        self._cwnd_prior = 0.0
        self._w_est = 0.0
        self._k = 0.0
        self._epoch: float | None = None  # when this congestion avoidance stage began
        self._credit = 0.0  # the fraction of an octet that cwnd is larger
        self._saved: tuple[int, int, float, float] | None = None

    def acknowledged(self, octets: int, now: float, rtt: float) -> None:
        """The window was in use, and this many octets of it have arrived."""
        cwnd = self.cwnd
        if cwnd < self.ssthresh:
            self.cwnd = min(cwnd + octets, max(self.ssthresh, cwnd))
            return
        if self._epoch is None:
            self._begin(now)
        mss = self._mss
        time = now - (self._epoch or 0.0) + rtt
        target = C * mss * (time - self._k) ** 3 + self._w_max
        # The Reno-friendly region, RFC 9438 section 4.3: alpha is 1 once the window of before is reached.
        self._w_est += (ALPHA if self._w_est < self._cwnd_prior else 1.0) * octets * mss / cwnd
        grown = cwnd + self._credit + max(min(target, 1.5 * cwnd) - cwnd, mss / 100) * octets / cwnd
        grown = max(grown, min(self._w_est, cwnd + octets))
        self.cwnd = int(grown)
        self._credit = grown - self.cwnd

    def _begin(self, now: float) -> None:
        self._epoch = now
        cwnd = self.cwnd
        if cwnd < self._w_max:
            self._k = ((self._w_max - cwnd) / (C * self._mss)) ** (1 / 3)
        else:
            self._k = 0.0
            self._w_max = float(cwnd)
        self._w_est = float(cwnd)

    def lost(self, flight: int) -> None:
        """Something of the `flight` octets was lost: once a window (RFC 9438 sections 4.6 and 4.7)."""
        self._saved = (self.cwnd, self.ssthresh, self._w_max, self._cwnd_prior)
        cwnd = min(self.cwnd, max(flight, 2 * self._mss))
        # Fast convergence: a flow that did not get as far as the last time leaves room for others.
        self._w_max = cwnd * (1 + BETA) / 2 if cwnd < self._w_max else float(cwnd)
        self._cwnd_prior = float(cwnd)
        self.ssthresh = max(int(cwnd * BETA), 2 * self._mss)
        self.cwnd = self.ssthresh
        self._epoch = None
        self._credit = 0.0

    def timed_out(self, flight: int) -> None:
        """The retransmission timer ran out: as `lost`, and slow start from one segment (RFC 5681 section 3.1)."""
        self.lost(flight)
        self.cwnd = self._mss

    def collapse(self) -> None:
        """The timer ran out again: slow start once more, with the threshold of the first time (RFC 5681 (4))."""
        self.cwnd = self._mss
        self._epoch = None

    def undo(self) -> None:
        """What was taken for lost had arrived: as before (RFC 9438 section 4.9)."""
        if self._saved is None:
            return
        cwnd, ssthresh, self._w_max, self._cwnd_prior = self._saved
        self.cwnd = max(self.cwnd, cwnd)
        self.ssthresh = max(self.ssthresh, ssthresh)
        self._saved = None
        self._epoch = None

    def rested(self, idle: float, rto: float) -> None:
        """Nothing was sent for `idle` seconds: the window halves for each RTO of it, down to the initial one.

        RFC 5681 section 4.1 falls to the initial window at once; halving is Linux's, after RFC 2861. The time does not
        count for CUBIC (RFC 9438 section 4.2).
        """
        least = min(initial_window(self._mss), self.cwnd)
        if self.cwnd > least:
            self.ssthresh = max(self.ssthresh, self.cwnd * 3 // 4)
            self.cwnd = max(self.cwnd >> min(int(idle / rto), 30), least)
        if self._epoch is not None:
            self._epoch += idle

    def set_mss(self, mss: int) -> None:
        """The segments became smaller: the window in octets stays."""
        self._mss = mss

    def syn_was_lost(self) -> None:
        """RFC 6928 section 2: the initial window is one segment."""
        self.cwnd = self._mss


def initial_window(mss: int) -> int:
    """IW of RFC 6928, in octets."""
    return min(INITIAL_SEGMENTS * mss, max(2 * mss, INITIAL_OCTETS))
