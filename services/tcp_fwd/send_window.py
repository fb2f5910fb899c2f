"""The send window while nothing is lost: what is unacknowledged, and how much more may be sent. No I/O, no clock.

Nothing is kept here that was not sent: the owner reads from the host socket only as much as `room` allows. What was
sent stays in runs (services.tcp_fwd.scoreboard) until it is acknowledged. services.tcp_fwd.sending has what is done
where not all is calm.

One timer is enough: of what it may mean only the next matters (`Alarm`).
"""

from collections import deque
from enum import Enum
from typing import Final

from netstack.packet.seqnum import MASK
from services.tcp_fwd.congestion import UNLIMITED, Cubic
from services.tcp_fwd.hystart import HyStart
from services.tcp_fwd.rack import Rack
from services.tcp_fwd.rtt import RoundTrip
from services.tcp_fwd.scoreboard import IN_FLIGHT, MAX_RUNS, Run, Scoreboard
from services.tcp_fwd.segment import Segment

LIMIT: Final = 4 << 20
"""Octets that may be unacknowledged per flow, whatever the client's window."""

MAX_SEGMENTS: Final = 4096
"""Segments that may be, where they are so small that these are less: each may be sent again by itself."""

_HALF: Final = 1 << 31


class Alarm(Enum):
    """What it means that the sender's timer ran out."""

    RETRANSMIT = "retransmit"
    PROBE_TAIL = "probe the tail"
    REORDERING = "no longer only late"
    PROBE_WINDOW = "probe a closed window"


_RETRANSMIT: Final = Alarm.RETRANSMIT
_PROBE_TAIL: Final = Alarm.PROBE_TAIL


class SendWindow:
    """SND.UNA, SND.NXT, SND.WND and the retransmission queue."""

    __slots__ = (
        "_after_timeout", "_duplicates", "_hystart", "_limit", "_mss", "_probe_end", "_probed_at", "_recover",
        "_resent", "_resent_at", "_round", "_rtt_seq", "_sack", "_ts_offset", "_urgent", "alarm", "board",
        "congestion", "inflation", "iss", "last_sent", "rack", "resent_end", "retransmissions", "round_trip", "runs",
        "scale", "snd_nxt", "snd_una", "snd_wnd", "timer", "wl1",
    )  # fmt: skip

    def __init__(self, syn: Segment, iss: int, *, scale: int, mss: int, sack: bool, limit: int = LIMIT) -> None:
        """scale and sack are what the client's SYN offered; mss is of data alone."""
        self.iss = iss
        self.snd_una = iss
        self.snd_nxt = iss
        self.snd_wnd = syn.window  # the SYN's window is never scaled (RFC 7323 section 2.2)
        self.scale = scale
        self.board = Scoreboard()
        self.runs: deque[Run] = self.board.runs
        self.round_trip = RoundTrip()
        self.congestion = Cubic(mss)
        self.rack = Rack(iss)
        self._hystart = HyStart(iss)
        self.retransmissions = 0
        """In a row, without an acknowledgement of anything new."""
        self.timer: float | None = None
        self.alarm = _RETRANSMIT
        self.inflation = 0
        """Octets that duplicate acknowledgements without SACK have shown to have arrived (RFC 5681 section 3.2)."""
        self.resent_end: int | None = None
        """The end of what was sent again and is not acknowledged yet: it measures no round trip (Karn's rule)."""
        self.last_sent = 0.0
        self.wl1 = syn.seq
        self._mss = mss
        self._sack = sack
        self._limit = min(limit, MAX_SEGMENTS * mss)
        self._ts_offset: int | None = None
        self._rtt_seq = iss  # an acknowledgement of this measures a round trip
        self._duplicates = 0
        self._recover: int | None = None  # SND.NXT when a loss was found; the recovery ends there
        self._after_timeout = False  # the recovery is by slow start
        self._urgent = False  # the first retransmission of a recovery waits for no room (RFC 6675 section 5 (4.3))
        self._resent = 0  # octets sent again in this recovery, less those that a D-SACK showed to be in vain
        self._resent_at: float | None = None  # when the first was, until it is _JUDGED whether it was needed
        self._probe_end: int | None = None  # TLP.end_seq
        self._probed_at = 0.0
        self._round = iss  # D-SACKs before this were counted

    @property
    def in_flight(self) -> int:
        """Unacknowledged octets (SYN and FIN count one each)."""
        return (self.snd_nxt - self.snd_una) & MASK

    @property
    def pipe(self) -> int:
        """RFC 6675: an estimate of the octets on the way."""
        return self.in_flight - self.board.absent - self.inflation

    @property
    def calm(self) -> bool:
        """Nothing is lost, late or being probed: `advance` may take acknowledgements."""
        return (
            self._recover is None and not self.board.absent and not self._duplicates
            and self._probe_end is None and not self.retransmissions
        )  # fmt: skip

    def stamp(self, now: float) -> int:
        """TSval: milliseconds (RFC 7323 section 5.4), from an offset that tells nothing of other connections."""
        return (int(now * 1000) + (self._ts_offset or 0)) & MASK

    def use_timestamps(self, offset: int) -> None:
        """The client's echoes are of stamps with this offset."""
        self._ts_offset = offset

    def room(self) -> int:
        """How many octets may be sent now; negative where the window has shrunk."""
        if len(self.runs) >= MAX_RUNS:
            return 0
        flight = (self.snd_nxt - self.snd_una) & MASK
        window = self.snd_wnd
        if window > self._limit:
            window = self._limit
        allowed = self.congestion.cwnd + self.board.absent + self.inflation
        if window <= allowed:
            return window - flight
        room = allowed - flight
        return room - room % self._mss if room > self._mss else room

    def take(self, data: bytes | memoryview, length: int, now: float) -> int:
        """Record what is being sent, `length` in sequence space; gives its sequence number.

        The data must stay as it is until it is acknowledged: it is not copied.
        """
        seq = self.snd_nxt
        self.snd_nxt = end = (seq + length) & MASK
        self.runs.append(Run(seq, end, now, IN_FLIGHT, data, seq))
        self.last_sent = now
        if self.timer is None:
            self._arm(now)
        return seq

    def rest(self, now: float) -> None:
        """Nothing is in flight: a window that was not used for long is not to be trusted (RFC 5681 section 4.1)."""
        idle = now - self.last_sent
        if idle > self.round_trip.rto and self.snd_una == self.snd_nxt and self.round_trip.srtt:
            self.congestion.rested(idle, self.round_trip.rto)
            self.last_sent = now

    def acceptable(self, ack: int) -> bool:
        """SND.UNA =< SEG.ACK =< SND.NXT."""
        return (ack - self.snd_una) & MASK <= (self.snd_nxt - self.snd_una) & MASK

    def advance(self, ack: int, now: float) -> None:
        """Take an acceptable acknowledgement of something new while all is calm, and nothing was sent again."""
        una = self.snd_una
        flight = (self.snd_nxt - una) & MASK
        self.snd_una = ack
        runs = self.runs
        run = runs[0]
        sent_at = run.sent_at
        while (ack - run.end) & MASK < _HALF:
            sent_at = run.sent_at
            runs.popleft()
            if not runs:
                break
            run = runs[0]
        else:
            if ack != run.seq:
                sent_at = run.sent_at
        round_trip = self.round_trip
        if (ack - self._rtt_seq) & MASK < _HALF:
            self._rtt_seq = self.snd_nxt
            round_trip.sample(now - sent_at, now)
        congestion = self.congestion
        if congestion.cwnd <= 2 * flight and congestion.cwnd < self._limit:
            congestion.acknowledged((ack - una) & MASK, now, round_trip.srtt)
            if congestion.ssthresh == UNLIMITED and self._hystart.over(ack, self.snd_nxt, now, round_trip.min_rtt):
                congestion.ssthresh = congestion.cwnd
        if not runs:
            self.timer = None
        elif self._sack:
            self.timer = now + round_trip.probe_after
            self.alarm = _PROBE_TAIL
        else:
            self.timer = now + round_trip.rto
            self.alarm = _RETRANSMIT

    def _arm(self, now: float) -> None:
        if self._sack and self.round_trip.srtt and self.calm:
            self.timer = now + self.round_trip.probe_after
            self.alarm = _PROBE_TAIL
        else:
            self.timer = now + self.round_trip.rto
            self.alarm = _RETRANSMIT
