"""The sending half of a connection: what is unacknowledged, how much more may be sent, and when to send again.

Nothing is kept here that was not sent: the owner reads from the host socket only as much as `room` allows. Recovery is
NewReno's (RFC 6582) one frame at a time; the retransmission timer is RFC 6298's.
"""

from collections import deque
from typing import Final

from netstack.packet.seqnum import MASK, diff

LIMIT: Final = 4 << 20
"""Octets that may be unacknowledged per flow, whatever the client's window."""

INITIAL_RTO: Final = 1.0  # seconds; RFC 6298 (2.1)
MIN_RTO: Final = 0.2  # seconds; RFC 6298 (2.4) says 1, Linux (TCP_RTO_MIN) has 0.2, and if Linux does it, we do too
MAX_RTO: Final = 60.0  # seconds; RFC 6298 (2.5)
GRANULARITY: Final = 0.001  # seconds; the loop's
MAX_RETRANSMISSIONS: Final = 10  # 0.2 s doubled ten times and capped: about 160 s; RFC 9293 section 3.8.3: R2 >= 100 s
DUPLICATES: Final = 3  # RFC 5681 section 3.2


class Sender:
    """SND.UNA, SND.NXT, SND.WND and the retransmission queue."""

    __slots__ = (
        "_duplicates",
        "_limit",
        "_recover",
        "_rtt_at",
        "_rtt_seq",
        "_rttvar",
        "_sent",
        "_srtt",
        "retransmissions",
        "rto",
        "scale",
        "snd_nxt",
        "snd_una",
        "snd_wnd",
        "timer",
        "wl1",
        "wl2",
    )  # fmt: skip

    def __init__(self, iss: int, *, scale: int, window: int, irs: int, limit: int = LIMIT) -> None:
        self.snd_una = iss
        self.snd_nxt = iss
        self.snd_wnd = window  # the SYN's window is never scaled (RFC 7323 section 2.2)
        self.scale = scale
        self.wl1 = irs
        self.wl2 = iss
        self._limit = limit
        self._sent: deque[tuple[int, bytes | memoryview]] = deque()  # (seq, data); SYN and FIN are empty entries
        self._duplicates = 0
        self._recover: int | None = None  # SND.NXT when recovery began; partial acknowledgements retransmit until then
        self._rtt_seq = 0
        self._rtt_at = 0.0
        self._srtt: float | None = None
        self._rttvar = 0.0
        self.rto = INITIAL_RTO
        self.retransmissions = 0
        """In a row, without an acknowledgement of anything new."""
        self.timer: float | None = None
        """When to retransmit, or to probe a closed window."""

    @property
    def in_flight(self) -> int:
        """Unacknowledged octets (SYN and FIN count one each)."""
        return (self.snd_nxt - self.snd_una) & MASK

    def room(self) -> int:
        """How many octets may be sent now."""
        return min(self.snd_wnd, self._limit) - ((self.snd_nxt - self.snd_una) & MASK)

    def take(self, data: bytes | memoryview, length: int, now: float) -> int:
        """Record what is being sent, `length` in sequence space; gives its sequence number."""
        seq = self.snd_nxt
        self._sent.append((seq, data))
        self.snd_nxt = (seq + length) & MASK
        if self._rtt_at == 0.0:
            self._rtt_at = now
            self._rtt_seq = self.snd_nxt
        if self.timer is None:
            self.timer = now + self.rto
        return seq

    def acceptable(self, ack: int) -> bool:
        """SND.UNA =< SEG.ACK =< SND.NXT."""
        return (ack - self.snd_una) & MASK <= self.in_flight

    def receive_ack(self, seq: int, ack: int, window: int, *, pure: bool, now: float) -> bool:
        """Take an acceptable acknowledgement; True where the oldest unacknowledged segment is to be sent again.

        window is as on the wire; pure means that the segment had no data, SYN or FIN.
        """
        advertised = window << self.scale
        advanced = (ack - self.snd_una) & MASK
        again = False
        if advanced:
            again = self._advance(ack, now)
        elif not self._sent:
            self.retransmissions = (
                0  # a probe of a closed window was answered: go on probing (RFC 9293 section 3.8.6.1)
            )
        elif pure and advertised == self.snd_wnd:
            self._duplicates += 1
            if self._duplicates == DUPLICATES and self._recover is None:
                self._recover = self.snd_nxt
                again = True
        # RFC 9293 section 3.10.7.4: only a segment newer than the last one that did may update the window.
        newer = diff(seq, self.wl1)
        if newer > 0 or (newer == 0 and diff(ack, self.wl2) >= 0):
            self.snd_wnd = advertised
            self.wl1 = seq
            self.wl2 = ack
        return again

    def _advance(self, ack: int, now: float) -> bool:
        self.snd_una = ack
        self._duplicates = 0
        sent = self._sent
        while sent:
            seq, data = sent[0]
            if diff(seq + max(len(data), 1), ack) <= 0:
                sent.popleft()
                continue
            covered = diff(ack, seq)
            if covered > 0:
                sent[0] = (ack, data[covered:])
            break
        if self._rtt_at and diff(ack, self._rtt_seq) >= 0:
            if not self.retransmissions:
                self._measured(now - self._rtt_at)
            self._rtt_at = 0.0
        self.retransmissions = 0
        self.timer = now + self.rto if sent else None
        if self._recover is None:
            return False
        if diff(ack, self._recover) >= 0:
            self._recover = None
            return False
        return bool(sent)

    def oldest(self) -> tuple[int, bytes | memoryview] | None:
        """The oldest unacknowledged entry: sequence number and data; data is empty for SYN and FIN."""
        return self._sent[0] if self._sent else None

    def back_off(self, now: float) -> None:
        """The timer ran out: double it (RFC 6298 (5.5)), and take no RTT from what is sent again (Karn)."""
        self.retransmissions += 1
        self.rto = min(self.rto * 2, MAX_RTO)
        self.timer = now + self.rto
        self._rtt_at = 0.0
        if self._sent:
            self._recover = self.snd_nxt

    def watch_window(self, now: float) -> None:
        """The window is closed and nothing is in flight: probe it, or a lost update would stop the flow for ever."""
        if self.timer is None:
            self.timer = now + self.rto

    def _measured(self, rtt: float) -> None:
        # RFC 6298 section 2.
        if self._srtt is None:
            self._srtt = rtt
            self._rttvar = rtt / 2
        else:
            self._rttvar += (abs(self._srtt - rtt) - self._rttvar) / 4
            self._srtt += (rtt - self._srtt) / 8
        self.rto = min(max(self._srtt + max(GRANULARITY, 4 * self._rttvar), MIN_RTO), MAX_RTO)
