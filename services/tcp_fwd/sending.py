"""The sending half of a connection: what an acknowledgement shows to be lost, and what is sent again when.

Losses are found by RACK where the client has SACK, and by three duplicates (RFC 6582) where it has not; the tail of a
flight is probed (RFC 8985 section 7); what is left is for the retransmission timer (RFC 6298). A reduction of the
window that turns out to have been for nothing is undone, by timestamps (Eifel, RFC 3522) or duplicate SACKs (RFC 3708).
"""

from typing import Final

from netstack.packet.seqnum import MASK, diff
from services.tcp_fwd.congestion import UNLIMITED, Cubic
from services.tcp_fwd.rack import DUPLICATES
from services.tcp_fwd.rtt import AFTER_LOST_SYN, GRANULARITY, MAX_RTO
from services.tcp_fwd.scoreboard import IN_FLIGHT, RESENT, Run
from services.tcp_fwd.segment import Segment
from services.tcp_fwd.send_window import MAX_SEGMENTS, Alarm, SendWindow

MAX_RETRANSMISSIONS: Final = 10  # 0.2 s doubled ten times and capped: about 160 s; RFC 9293 section 3.8.3: R2 >= 100 s

_JUDGED: Final = -1.0


class Sender(SendWindow):
    """The send window, and the ways back to where all is calm."""

    __slots__ = ()

    # --- acknowledgements ---------------------------------------------------------------------------------------------

    def receive_ack(self, segment: Segment, sack: tuple[tuple[int, int], ...], now: float) -> None:
        """Take any acceptable acknowledgement; what it showed to be lost is then to be had from `resend`."""
        ack = segment.ack
        flight, before = self.in_flight, self.pipe
        advanced = (ack - self.snd_una) & MASK
        self.board.trim(self.snd_una)
        delivered = self.board.acknowledge(ack)
        duplicate = False
        if sack and self._sack:
            sack, duplicate = self._separate(sack, ack)
            for left, right in sack:
                delivered += self.board.sack(left, right)
        if advanced:
            self.snd_una = ack
            if self.resent_end is not None and diff(ack, self.resent_end) >= 0:
                self.resent_end = None
            self._duplicates = 0
            self.inflation = 0
        elif not self._sack and self._is_duplicate(segment):
            self._duplicates += 1
            self.inflation = min(self.inflation + self._mss, self.in_flight - self.board.absent)
        self._measure(delivered, segment.tsecr, now)
        self._judge(segment, flight, duplicate=duplicate, advanced=bool(advanced))
        if advanced or not self.snd_wnd:
            # New, or the answer of a client that has closed its window: go on (RFC 9293 section 3.8.6.1).
            self.retransmissions = 0
        self._update_window(segment)
        wait = self._find_losses(now, flight, partial=bool(advanced))
        octets = sum((run.end - run.seq) & MASK for run in delivered)
        if octets and (self._recover is None or self._after_timeout) and self.congestion.cwnd <= 2 * before:
            congestion = self.congestion
            congestion.acknowledged(octets, now, self.round_trip.srtt)
            if congestion.ssthresh == UNLIMITED and self._hystart.over(ack, self.snd_nxt, now, self.round_trip.min_rtt):
                congestion.ssthresh = congestion.cwnd
        self._rearm(now, wait, advanced=bool(advanced))

    def _is_duplicate(self, segment: Segment) -> bool:
        """RFC 5681 section 2."""
        return bool(
            self.runs and not segment.length and segment.ack == self.snd_una
            and segment.window << self.scale == self.snd_wnd
        )  # fmt: skip

    def _separate(self, sack: tuple[tuple[int, int], ...], ack: int) -> tuple[tuple[tuple[int, int], ...], bool]:
        """The blocks in order that tell of what is in flight, and whether the first is a D-SACK (RFC 2883)."""
        left, right = sack[0]
        size = diff(right, left)
        duplicate = size > 0 and (
            diff(right, ack) <= 0 or (len(sack) > 1 and diff(left, sack[1][0]) >= 0 and diff(right, sack[1][1]) <= 0)
        )
        if duplicate and self._resent > 0:
            if diff(right, self._round) > 0:
                self._round = self.snd_nxt
                self.rack.spurious()
            self._resent -= size
            if self._resent <= 0:
                self._undo()
        nxt = self.snd_nxt
        blocks = [
            block for block in sack
            if diff(block[0], ack) > 0 and diff(block[1], block[0]) > 0 and diff(nxt, block[1]) >= 0
        ]  # fmt: skip
        blocks.sort(key=lambda block: diff(block[0], ack))
        return tuple(blocks), duplicate

    def _measure(self, delivered: list[Run], tsecr: int, now: float) -> None:
        newest: float | None = None
        for run in delivered:
            self.rack.delivered(run, now, self.round_trip.min_rtt)
            if not run.state & RESENT and diff(run.end, self._rtt_seq) >= 0:
                newest = run.sent_at
        if newest is not None:
            self.round_trip.sample(now - newest, now)
            self._rtt_seq = self.snd_nxt
        elif delivered and delivered[0].state & RESENT and self._ts_offset is not None and tsecr > 0:
            # RTTM (RFC 7323 section 4.1): the echo says which of the sendings it is for, as Karn's rule cannot.
            rtt = diff(self.stamp(now), tsecr) / 1000
            if 0 <= rtt <= MAX_RTO:
                self.round_trip.sample(max(rtt, GRANULARITY), now)

    def _judge(self, segment: Segment, flight: int, *, duplicate: bool, advanced: bool) -> None:
        """What an acknowledgement shows of retransmissions: needed, or in vain; and whether a recovery is over."""
        old_echo = self._ts_offset is not None and segment.tsecr > 0
        if advanced and self._resent_at is not None and self._resent_at is not _JUDGED:
            if old_echo and diff(segment.tsecr, self.stamp(self._resent_at)) < 0:
                if not self._after_timeout:
                    self.rack.spurious()
                self._undo()
            self._resent_at = _JUDGED
        if self._probe_end is not None and diff(segment.ack, self._probe_end) >= 0:
            in_vain = duplicate or (old_echo and diff(segment.tsecr, self.stamp(self._probed_at)) < 0)
            if in_vain or (not advanced and not segment.length):
                self._probe_end = None  # the flight and the probe have both arrived
            elif diff(segment.ack, self._probe_end) > 0:
                # RFC 8985 section 7.4.2: the probe filled a hole that nothing else told of.
                self._probe_end = None
                if self._recover is None:
                    self.congestion.lost(flight)
        if self._recover is not None and diff(segment.ack, self._recover) >= 0:
            self._recover = None
            self._after_timeout = False
            self.rack.recovered()

    def _undo(self) -> None:
        """The losses were none."""
        self._resent = 0
        self._resent_at = _JUDGED
        self.congestion.undo()
        if self._recover is not None:
            self.board.find_again()
            self._recover = None
            self._after_timeout = False

    def _update_window(self, segment: Segment) -> None:
        # RFC 9293 section 3.10.7.4: only a segment not older than the last one that did may update the window. The
        # acknowledgement number need not be compared: it is SND.UNA or more.
        if diff(segment.seq, self.wl1) >= 0:
            self.snd_wnd = segment.window << self.scale
            self.wl1 = segment.seq

    def _find_losses(self, now: float, flight: int, *, partial: bool) -> float:
        """Mark what is lost, and begin a recovery; gives the seconds until reordering is no longer an excuse."""
        wait = 0.0
        if self._sack:
            if self.board.absent or self._recover is not None:
                hurry = self._recover is not None or self.board.sacked >= DUPLICATES * self._mss
                wait = self.rack.detect(self.board, now, self.rack.window(self.round_trip, hurry=hurry))
        elif self._recover is not None:
            if partial and not self._after_timeout:
                self.board.lose_first(self._mss)
        elif self._duplicates >= DUPLICATES:
            self.board.lose_first(self._mss)
        if self._recover is None and self.board.absent > self.board.sacked:
            self._begin_recovery()
            self.congestion.lost(flight)
        return wait

    def _begin_recovery(self) -> None:
        self._recover = self.snd_nxt
        self._after_timeout = False
        self._urgent = True
        self._resent = 0
        self._resent_at = None
        self._probe_end = None

    # --- sending again ------------------------------------------------------------------------------------------------

    def resend(self, now: float, most: int) -> Run | None:
        """What is to be sent again now, up to `most` octets of it; ask until it is None."""
        index = self.board.next_lost()
        if index < 0:
            return None
        run = self.runs[index]
        length = (run.end - run.seq) & MASK
        mss = self._mss
        room = self.congestion.cwnd - self.pipe
        if room < min(length, mss) and not self._urgent:
            return None
        self._urgent = False
        run = self._send_again(index, min(max(room // mss, 1) * mss, most), now)
        self._resent += (run.end - run.seq) & MASK
        if self._resent_at is None:
            self._resent_at = now
        self.last_sent = now
        if index == 0:
            self.timer = now + self.round_trip.rto
            self.alarm = Alarm.RETRANSMIT
        return run

    def handle_timeout(self, now: float) -> Run | None:
        """The timer ran out; gives the probe of the tail that is to be sent, and marks what `resend` is to send."""
        alarm = self.alarm
        self.board.trim(self.snd_una)
        if alarm is Alarm.PROBE_TAIL:
            left = self.round_trip.rto - self.round_trip.probe_after
            if self.in_flight > self._mss or left > GRANULARITY:
                return self._probe_tail(now, left)
            alarm = self.alarm = Alarm.RETRANSMIT
        if alarm is Alarm.REORDERING:
            self._rearm(now, self._find_losses(now, self.in_flight, partial=False), advanced=True)
            return None
        self.retransmissions += 1
        self.round_trip.back_off()
        self.timer = now + self.round_trip.rto
        if alarm is Alarm.RETRANSMIT and self.runs:
            self._time_out()
        return None

    def _time_out(self) -> None:
        if self._recover is None:
            self.congestion.timed_out(self.in_flight)
            self._begin_recovery()
        else:
            self.congestion.collapse()
            self._recover = self.snd_nxt
        self._after_timeout = True
        self._urgent = True
        self._probe_end = None
        self._duplicates = 0
        self.inflation = 0
        self.board.lose_all()

    def _probe_tail(self, now: float, left: float) -> Run | None:
        """RFC 8985 section 7.3, with the last segment: nothing is kept here that was not sent.

        left is how many seconds later the retransmission timer would have run out.
        """
        self.alarm = Alarm.RETRANSMIT
        if self.in_flight <= self._mss:
            # The acknowledgement of a single segment may be delayed by longer than most timeouts last.
            self.timer = now + left
            return None
        self.timer = now + self.round_trip.rto
        self._probe_end = self.snd_nxt
        self._probed_at = now
        return self._send_again(self.board.last(self._mss), self._mss, now)

    def _send_again(self, index: int, octets: int, now: float) -> Run:
        run = self.board.resend(index, octets, now)
        if self.resent_end is None or diff(run.end, self.resent_end) > 0:
            self.resent_end = run.end
        return run

    def watch_window(self, now: float) -> None:
        """The window is closed and nothing is in flight: probe it, or a lost update would stop the flow for ever."""
        if self.timer is None:
            self.timer = now + self.round_trip.rto
            self.alarm = Alarm.PROBE_WINDOW

    def _rearm(self, now: float, wait: float, *, advanced: bool) -> None:
        if not self.runs:
            if self.alarm is not Alarm.PROBE_WINDOW or self.snd_wnd:
                self.timer = None
            elif self.timer is not None:
                self.timer = now + self.round_trip.rto
        elif wait:
            self.timer = now + wait
            self.alarm = Alarm.REORDERING
        elif advanced or self.timer is None or not self._runs_on:
            self._arm(now)

    @property
    def _runs_on(self) -> bool:
        """Whether the timer is one that only something new puts off; else a client that sends on and on would."""
        return self.alarm is Alarm.RETRANSMIT or (self.alarm is Alarm.PROBE_TAIL and self.calm)

    # --- what changes the terms ---------------------------------------------------------------------------------------

    def open(self, window: int) -> None:
        """The SYN is acknowledged, by a segment with this window."""
        self.snd_wnd = window << self.scale
        if self._resent or self.retransmissions:
            self.congestion = Cubic(self._mss)
            self.congestion.syn_was_lost()
            if not self.round_trip.srtt:
                self.round_trip.rto = self.round_trip.probe_after = AFTER_LOST_SYN
        self._recover = None
        self._after_timeout = False
        self._resent = 0
        self._resent_at = None

    def set_mss(self, mss: int) -> None:
        """The path takes no more: what was sent in larger segments is sent again, which is no sign of congestion."""
        old, self._mss = self._mss, mss
        self._limit = min(self._limit, MAX_SEGMENTS * mss)
        self.congestion.set_mss(mss)
        self.board.trim(self.snd_una)
        for index, run in enumerate(list(self.runs)):
            if min((run.end - run.seq) & MASK, old) > mss and run.state in {IN_FLIGHT, RESENT}:
                self.board.lose(index)
        if self.board.absent > self.board.sacked and self._recover is None:
            self._begin_recovery()
