"""The round-trip time and the retransmission timeout (RFC 6298). No I/O, no clock."""

from typing import Final

INITIAL_RTO: Final = 1.0  # seconds; RFC 6298 (2.1)
MIN_RTO: Final = 0.2  # seconds; RFC 6298 (2.4) says 1, Linux (TCP_RTO_MIN) has 0.2, and if Linux does it, we do too
MAX_RTO: Final = 60.0  # seconds; RFC 6298 (2.5)
AFTER_LOST_SYN: Final = 3.0  # seconds; RFC 6298 (5.7), where the SYN was sent again and nothing was measured
GRANULARITY: Final = 0.001  # seconds; the loop's
MIN_PROBE: Final = 0.05
"""Seconds; the least time after which a tail is probed (RFC 8985 section 7.2 leaves it open).

A delayed acknowledgement takes 0.04 in Linux: a probe before it would be in vain. Every connection with data in flight
is looked at this often.
"""
MIN_RTT_AGE: Final = 300.0  # seconds after which the least round trip is measured anew; Linux's tcp_min_rtt_wlen


class RoundTrip:
    """SRTT, RTTVAR and RTO, and the least round trip of late."""

    __slots__ = ("_min_at", "min_rtt", "probe_after", "rto", "rttvar", "srtt")

    def __init__(self) -> None:
        self.srtt = 0.0
        """Seconds; 0 as long as nothing was measured."""
        self.rttvar = 0.0
        self.rto = INITIAL_RTO
        self.min_rtt = 0.0
        self._min_at = 0.0
        self.probe_after = INITIAL_RTO
        """Seconds without an acknowledgement after which a tail loss probe is sent, at most the RTO."""

    def sample(self, rtt: float, now: float) -> None:
        """Take a measurement, once a round trip (RFC 6298 section 4); it ends backing off."""
        srtt = self.srtt
        if srtt:
            self.rttvar = rttvar = self.rttvar + (abs(srtt - rtt) - self.rttvar) / 4
            self.srtt = srtt = srtt + (rtt - srtt) / 8
        else:
            self.srtt = srtt = max(rtt, 1e-6)
            self.rttvar = rttvar = rtt / 2
        rto = srtt + max(4 * rttvar, GRANULARITY)
        self.rto = rto = min(max(rto, MIN_RTO), MAX_RTO)
        self.probe_after = min(max(2 * srtt, MIN_PROBE), rto)
        if rtt <= self.min_rtt or not self.min_rtt or now - self._min_at > MIN_RTT_AGE:
            self.min_rtt = rtt
            self._min_at = now

    def back_off(self) -> None:
        """The retransmission timer ran out (RFC 6298 (5.5))."""
        self.rto = min(self.rto * 2, MAX_RTO)
        self.probe_after = self.rto
