"""A client for the simulated link: a plain TCP of its own, written to be obviously right rather than fast.

It shares no code with the translator but the header's codec. It has what the TCP of a phone has: SACK both ways,
timestamps, window scaling, delayed acknowledgements, Reno with fast recovery. Positions count from the first octet of a
direction; the FIN is the octet after the last.
"""

import heapq
from collections.abc import Callable
from typing import Any, Final

from netstack.packet import tcp
from services.tcp_fwd.segment import Emitter, Segment, parse
from tests.sim.link import Clock

MSS: Final = 1460  # octets of options and data
WINDOW_SCALE: Final = 7
ISS: Final = 0xFFFF0000  # so that the circle is crossed soon
MASK: Final = 0xFFFFFFFF
DELAYED_ACK: Final = 0.04  # seconds, as in Linux
MIN_RTO: Final = 0.3
MAX_REORDERING: Final = 300  # segments; Linux's tcp_max_reordering


class Client:
    def __init__(
        self, clock: Clock, emitter: Emitter, upload: bytes, expected: bytes, *, window: int = 4 << 20,
        options: bool = True,
    ) -> None:  # fmt: skip
        self._clock = clock
        self._emitter = emitter
        self._upload = memoryview(upload)
        self._expected = memoryview(expected)
        self._window = window
        self._options = options
        self.send: Callable[[bytes, int], None] = lambda packet, octets: None
        self.established = False
        self.reset = False
        self.server_ended = False
        self.download_ended_at = 0.0
        self.ended_at = 0.0
        self._ts_recent = 0
        # sending
        self._size = MSS - 12 if options else MSS
        self._una = 0  # the octets of the upload that are acknowledged, and sent
        self._nxt = 0
        self._peer_window = 0
        self._cwnd = 10.0  # segments
        self._ssthresh = 1e9
        self._sacked: set[int] = set()  # where the segments begin
        self._lost: set[int] = set()
        self._resent: dict[int, int] = {}  # where a segment begins, and _nxt when it was sent again
        self._queue: list[int] = []  # the lost in order, and some that are no longer
        self._judged = 0  # what begins before this was found lost or not
        self._highest = 0  # the end of the highest that is sacked
        self._reordering = 3  # segments by which one may be overtaken and is not lost yet
        self._recover = -1
        self._duplicates = 0
        self._srtt = 0.0
        self._rttvar = 0.0
        self._rto = 1.0
        self._timer_at: float | None = None
        self._timer_scheduled = False
        # receiving
        self._irs = 0
        self.received = 0
        self.garbled = False
        self._ahead: list[list[int]] = []  # ranges, in order
        self._latest: tuple[int, int] | None = None
        self._fin_at: int | None = None
        self._unacked = 0
        self._ack_timer = 0

    @property
    def uploaded(self) -> bool:
        """All of it, and our FIN, are acknowledged."""
        return self._una == len(self._upload) + 1

    @property
    def done(self) -> bool:
        return self.uploaded and self.server_ended

    def open(self) -> None:
        if self.established:
            return
        options = tcp.Options(mss=MSS, window_scale=WINDOW_SCALE)
        if self._options:
            options = options._replace(sack_permitted=True, timestamps=(self._stamp(), 0))
        self._emit(ISS, 0, tcp.SYN, min(self._window, 0xFFFF), tcp.emit_options(options))
        self._clock.call_at(self._clock.now + 1.0, self.open)

    # --- receiving ----------------------------------------------------------------------------------------------------

    def receive(self, one: Any) -> None:
        """A segment, cut as the kernel behind the TUN cuts it."""
        if one.flags & tcp.RST:
            self.reset = True
            return
        if one.flags & tcp.SYN:
            self._receive_syn_ack(one)
            return
        if not self.established:
            return
        sack = tcp.parse_options(one.options).sack if one.options else ()
        if self._options:
            if (one.tsval - self._ts_recent) & MASK >= 1 << 31:
                self._acknowledge()
                return
            if self._position(one.seq) <= self.received:
                self._ts_recent = one.tsval
        self._receive_ack(one, sack)
        if one.payload or one.flags & tcp.FIN:
            self._receive_data(self._position(one.seq), one)
        elif self._position(one.seq) < self.received:
            self._acknowledge()  # a probe
        self._push()

    def _receive_syn_ack(self, one: Any) -> None:
        if not self.established:
            self.established = True
            self._irs = one.seq
            self._peer_window = one.window
            parsed = tcp.parse_options(one.options)
            self._options = self._options and parsed.sack_permitted
            if parsed.timestamps:
                self._ts_recent = parsed.timestamps[0]
        self._acknowledge()
        self._push()

    def _position(self, seq: int) -> int:
        """Of a sequence number of the server, near what was received."""
        ahead = (seq - self._irs - 1 - self.received) & MASK
        return self.received + (ahead if ahead < 1 << 31 else ahead - (1 << 32))

    def _receive_data(self, start: int, one: Any) -> None:
        end = start + len(one.payload)
        if one.flags & tcp.FIN:
            self._fin_at = end
        if self._expected[max(start, 0) : end] != one.payload:
            self.garbled = True
        in_order = start <= self.received < end
        at_once = bool(self._ahead) or not in_order or bool(one.flags & tcp.FIN)
        if in_order:
            self.received = end
            while self._ahead and self._ahead[0][0] <= self.received:
                self.received = max(self.received, self._ahead.pop(0)[1])
        elif start > self.received and one.payload:
            self._latest = (start, end)
            self._keep(start, end)
        if self.received == self._fin_at and not self.server_ended:
            self.server_ended = True
            self.download_ended_at = self._clock.now
            self.received += 1
        self._unacked += 1
        if at_once or self._unacked >= 2:
            self._acknowledge()
        elif self._unacked == 1:
            self._ack_timer += 1
            self._clock.call_at(self._clock.now + DELAYED_ACK, self._ack_late, self._ack_timer)

    def _keep(self, start: int, end: int) -> None:
        ranges = self._ahead
        if ranges and ranges[-1][0] <= start <= ranges[-1][1]:
            ranges[-1][1] = max(end, ranges[-1][1])
            return
        ranges.append([start, end])
        ranges.sort()
        merged = [ranges[0]]
        for one in ranges[1:]:
            if one[0] <= merged[-1][1]:
                merged[-1][1] = max(merged[-1][1], one[1])
            else:
                merged.append(one)
        self._ahead = merged

    def _ack_late(self, number: int) -> None:
        if number == self._ack_timer and self._unacked:
            self._acknowledge()

    def _blocks(self) -> list[tuple[int, int]]:
        """The range that changed last first, then others (RFC 2018 section 4)."""
        if not self._ahead or not self._options:
            return []
        first = [one for one in self._ahead if self._latest and one[0] <= self._latest[0] < one[1]]
        others = [one for one in reversed(self._ahead) if one not in first]
        return [(one[0], one[1]) for one in (first + others)[:3]]

    # --- sending ------------------------------------------------------------------------------------------------------

    def _receive_ack(self, one: Any, sack: tuple[tuple[int, int], ...]) -> None:
        ack = self._una + ((one.ack - ISS - 1 - self._una) & MASK)
        if ack > self._nxt:
            return
        window = one.window << WINDOW_SCALE
        before = self._una
        if ack > before:
            self._advance(ack, one)
        elif not one.payload and window == self._peer_window and self._nxt > self._una:
            self._duplicates += 1
        self._peer_window = window
        self._note(sack)
        self._find_losses()
        if self._lost and self._una >= self._recover:
            self._recover = self._nxt
            self._ssthresh = self._cwnd = max((self._nxt - self._una) / self._size / 2, 2.0)
        elif ack > before and self._una >= self._recover:
            acknowledged = (ack - before) / self._size
            self._cwnd += acknowledged if self._cwnd < self._ssthresh else acknowledged / self._cwnd

    def _advance(self, ack: int, one: Any) -> None:
        for at in range(self._una, ack, self._size):
            if at < self._highest and at not in self._sacked:
                self._note_reordering(at)
            self._sacked.discard(at)
            self._lost.discard(at)
            self._resent.pop(at, None)
        self._una = ack
        self._duplicates = 0
        if self.uploaded:
            self.ended_at = self._clock.now
        if self._options and one.tsecr > 0:
            rtt = ((self._stamp() - one.tsecr) & MASK) / 1000
            self._rttvar = self._rttvar * 0.75 + abs(rtt - self._srtt) * 0.25 if self._srtt else rtt / 2
            self._srtt = self._srtt * 0.875 + rtt * 0.125 if self._srtt else rtt
            self._rto = max(self._srtt + 4 * self._rttvar, MIN_RTO)
        elif not self._options:
            self._rto = 1.0
        self._arm()
        if not self._options and self._una < self._recover:
            self._lose(self._una)  # RFC 6582

    def _note(self, sack: tuple[tuple[int, int], ...]) -> None:
        for left, right in sack:
            start = self._una + ((left - ISS - 1 - self._una) & MASK)
            end = start + ((right - left) & MASK)
            if end > self._nxt or start < self._una:
                continue
            for at in range(start - start % self._size, end, self._size):
                if at not in self._sacked and at >= start and min(at + self._size, len(self._upload)) <= end:
                    self._sacked.add(at)
                    self._note_reordering(at)
                    self._lost.discard(at)
            self._highest = max(self._highest, end)

    def _note_reordering(self, at: int) -> None:
        if at not in self._resent:
            self._reordering = min(max(self._reordering, (self._highest - at) // self._size), MAX_REORDERING)

    def _find_losses(self) -> None:
        if self._options:
            limit = self._highest - self._reordering * self._size
            start = max(self._una, self._judged)
            for at in range(start + -start % self._size, limit, self._size):
                self._judged = at + 1
                if at not in self._sacked and at not in self._resent:
                    self._lose(at)
            for at, sent in list(self._resent.items()):
                if self._highest > sent + self._reordering * self._size:
                    del self._resent[at]
                    if at not in self._sacked:
                        self._lose(at)
        elif self._duplicates == 3 and self._una >= self._recover:
            self._lose(self._una)

    def _lose(self, at: int) -> None:
        if at not in self._lost:
            self._lost.add(at)
            heapq.heappush(self._queue, at)

    def _next_lost(self) -> int:
        while (at := heapq.heappop(self._queue)) not in self._lost:
            pass
        self._lost.discard(at)
        return at

    def _push(self) -> None:
        size = self._size
        end = len(self._upload)
        flight = (self._nxt - self._una) // size - len(self._sacked) - len(self._lost)
        if not self._options:
            flight -= self._duplicates
        while flight < self._cwnd:
            if self._lost:
                at = self._next_lost()
                self._resent[at] = self._nxt
            elif self._nxt <= end and self._nxt + size - self._una <= self._peer_window:
                at = self._nxt
                self._nxt = min(at + size, end) if at < end else end + 1
            else:
                return
            self._data(at)
            flight += 1

    def _data(self, at: int) -> None:
        end = len(self._upload)
        self._segment(at, self._upload[at : at + self._size], tcp.ACK | (tcp.FIN if at >= end else 0))
        if self._timer_at is None:
            self._arm()

    def _acknowledge(self) -> None:
        self._segment(self._nxt, b"", tcp.ACK)

    def _segment(self, at: int, data: bytes | memoryview, flags: int) -> None:
        self._unacked = 0
        options = b""
        if self._options:
            options = tcp.emit_timestamps(self._stamp(), self._ts_recent)
        blocks = self._blocks() if not data else []
        if blocks:
            base = self._irs + 1
            options += tcp.emit_sack([((base + left) & MASK, (base + right) & MASK) for left, right in blocks])
        ack = (self._irs + 1 + self.received) & MASK
        self._emit((ISS + 1 + at) & MASK, ack, flags, self._window >> WINDOW_SCALE, options, data)

    def _emit(
        self, seq: int, ack: int, flags: int, window: int, options: bytes, data: bytes | memoryview = b""
    ) -> None:
        frame = self._emitter.emit(seq, ack, flags, window, data, options)
        self.send(frame, len(frame) - 10)

    def _stamp(self) -> int:
        return (int(self._clock.now * 1000) + 0xFFFFF000) & MASK

    def _arm(self) -> None:
        self._timer_at = self._clock.now + self._rto if not self.uploaded else None
        if self._timer_at is not None and not self._timer_scheduled:
            self._timer_scheduled = True
            self._clock.call_at(self._timer_at, self._tick)

    def _tick(self) -> None:
        self._timer_scheduled = False
        if self._timer_at is None or self.reset:
            return
        if self._timer_at <= self._clock.now:
            self._time_out()
        self._timer_scheduled = True
        self._clock.call_at(self._timer_at, self._tick)

    def _time_out(self) -> None:
        if self._una == self._nxt:
            self._segment(self._nxt - 1, b"", tcp.ACK)  # the window is closed: a probe
            self._timer_at = self._clock.now + self._rto
            return
        self._ssthresh = max((self._nxt - self._una) / self._size / 2, 2.0)
        self._cwnd = 1.0
        self._rto = min(self._rto * 2, 60.0)
        self._duplicates = 0
        self._recover = self._nxt
        self._resent.clear()
        end = len(self._upload)
        for at in range(self._una, min(self._nxt, end), self._size):
            if at not in self._sacked:
                self._lose(at)
        if self._nxt > end:
            self._lose(end)
        self._timer_at = self._clock.now + self._rto
        self._push()


def cut(frame: bytes, gso_size: int) -> list[Any]:
    """What the kernel behind the TUN makes of a frame: segments of at most gso_size, or one where that is 0."""
    whole = parse(frame)
    data = whole.payload
    if not gso_size:
        return [whole]
    starts = range(0, len(data), gso_size)
    return [
        Segment(
            whole.key, (whole.seq + at) & MASK, whole.ack, whole.flags, whole.window, whole.options,
            data[at : at + gso_size], whole.tsval, whole.tsecr,
        )
        for at in starts
    ]  # fmt: skip
