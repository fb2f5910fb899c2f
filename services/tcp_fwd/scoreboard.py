"""What was sent and is not acknowledged, in runs of octets that have fared alike (RFC 6675). No I/O, no clock.

A run is what one call of the sender put on the way, up to 64 KiB, until a SACK or a loss divides it: the price is that
of the holes, not of the segments. The data of a run is never copied: a part of it is a pair of sequence numbers.
"""

from collections import deque
from typing import Final

from netstack.packet.seqnum import MASK, diff

IN_FLIGHT: Final = 0
SACKED: Final = 1  # the client has it, out of order
LOST: Final = 2  # to be sent again
RESENT: Final = 4  # was sent again at least once; together with one of the others

MAX_RUNS: Final = 1024
"""Runs beyond which a SACK divides none, and nothing new is sent.

A client that SACKs every other octet would have a run for each, and all of them looked at with each acknowledgement. A
SACK is advisory (RFC 2018 section 3), so that what is not noted of it costs a retransmission at most. FreeBSD keeps 128
holes of a connection; Linux takes nothing less than a segment for sacked.
"""

_HALF: Final = 1 << 31


class Run:
    """Octets from seq up to end, sent at one time. One is never changed: others may have it."""

    __slots__ = ("base", "data", "end", "sent_at", "seq", "state")

    def __init__(self, seq: int, end: int, sent_at: float, state: int, data: bytes | memoryview, base: int) -> None:
        self.seq = seq
        self.end = end
        self.sent_at = sent_at
        self.state = state
        self.data = data
        """Of which base is the first octet; empty for SYN and FIN, whose run is one long."""
        self.base = base

    def part(self, seq: int, end: int) -> "Run":
        """From seq up to end of it."""
        return Run(seq, end, self.sent_at, self.state, self.data, self.base)

    def after(self, sent_at: float, state: int) -> "Run":
        """What it has become."""
        return Run(self.seq, self.end, sent_at, state, self.data, self.base)

    @property
    def octets(self) -> bytes | memoryview:
        """The data of this run."""
        if not self.data or (self.seq == self.base and self.end == (self.base + len(self.data)) & MASK):
            return self.data
        start = (self.seq - self.base) & MASK
        return memoryview(self.data)[start : start + ((self.end - self.seq) & MASK)]


class Scoreboard:
    """The runs in order, and how many octets of them are not on the way."""

    __slots__ = ("absent", "runs", "sacked")

    def __init__(self) -> None:
        self.runs: deque[Run] = deque()
        self.absent = 0
        """Octets that are in no queue of the network: sacked, or lost and not sent again."""
        self.sacked = 0
        """Those of them that are sacked."""

    def acknowledge(self, ack: int) -> list[Run]:
        """Take out what lies before ack; gives the runs, and the part of one, that had not been sacked."""
        delivered = []
        runs = self.runs
        while runs:
            run = runs[0]
            if diff(run.end, ack) <= 0:
                runs.popleft()
            elif diff(run.seq, ack) < 0:
                runs[0] = run.part(ack, run.end)
                run = run.part(run.seq, ack)
            else:
                break
            self._count(run, -1)
            if not run.state & SACKED:
                delivered.append(run)
        return delivered

    def trim(self, una: int) -> None:
        """Cut off what was acknowledged of the first run while nothing was absent."""
        if self.runs and diff(self.runs[0].seq, una) < 0:
            self.runs[0] = self.runs[0].part(una, self.runs[0].end)

    def sack(self, left: int, right: int) -> list[Run]:
        """The client has the octets from left up to right; gives those of which that is new.

        Of a run that may not be divided any more (MAX_RUNS) none is noted unless all is.
        """
        delivered: list[Run] = []
        runs = self.runs
        index = self._find(left)
        while index < len(runs):
            run = runs[index]
            if diff(run.seq, right) >= 0:
                break
            if run.state & SACKED:
                index += 1
                continue
            if len(runs) >= MAX_RUNS and (diff(run.seq, left) < 0 or diff(run.end, right) > 0):
                index += 1
                continue
            if diff(run.seq, left) < 0:
                self._split(index, left)
                index += 1
                run = runs[index]
            if diff(run.end, right) > 0:
                self._split(index, right)
                run = runs[index]
            delivered.append(run)
            self._change(index, run.state & RESENT | SACKED)
            index = self._join(index) + 1
        return delivered

    def lose(self, index: int) -> None:
        """The run at index is taken for lost."""
        self._change(index, self.runs[index].state & RESENT | LOST)

    def lose_first(self, octets: int) -> None:
        """The first octets, no more than a segment, are taken for lost (RFC 6582, without SACK)."""
        if not self.runs:
            return
        run = self.runs[0]
        if (run.end - run.seq) & MASK > octets:
            self._split(0, (run.seq + octets) & MASK)
        if not self.runs[0].state & (SACKED | LOST):
            self.lose(0)

    def lose_all(self) -> None:
        """The retransmission timer ran out: whatever the client has not is taken for lost.

        A first run that is sacked, but was not acknowledged, shows a client that threw away what it had (RFC 2018
        section 8): then no SACK counts.
        """
        reneged = bool(self.runs) and bool(self.runs[0].state & SACKED)
        for index, run in enumerate(list(self.runs)):
            if not run.state & LOST and (reneged or not run.state & SACKED):
                self._change(index, run.state & RESENT | LOST)

    def find_again(self) -> None:
        """What was taken for lost was not: it is on the way."""
        for index, run in enumerate(list(self.runs)):
            if run.state & LOST:
                self._change(index, run.state & ~LOST)

    def next_lost(self) -> int:
        """Where the first lost run is, or -1 (RFC 6675 section 4, NextSeg (1))."""
        if self.absent == self.sacked:
            return -1
        for index, run in enumerate(self.runs):
            if run.state & LOST:
                return index
        return -1

    def resend(self, index: int, octets: int, now: float) -> Run:
        """Put the first octets of a run on the way again; gives what is to be sent."""
        run = self.runs[index]
        if (run.end - run.seq) & MASK > octets:
            self._split(index, (run.seq + octets) & MASK)
        self.runs[index] = self.runs[index].after(now, self.runs[index].state)
        self._change(index, RESENT)
        return self.runs[index]

    def last(self, octets: int) -> int:
        """Make the last octets a run of their own; gives where it is."""
        index = len(self.runs) - 1
        run = self.runs[index]
        if (run.end - run.seq) & MASK > octets:
            self._split(index, (run.end - octets) & MASK)
            index += 1
        return index

    def _find(self, left: int) -> int:
        """Where the first run is that ends after left."""
        runs = self.runs
        low, high = 0, len(runs)
        while low < high:
            middle = (low + high) >> 1
            if (runs[middle].end - left - 1) & MASK < _HALF:
                high = middle
            else:
                low = middle + 1
        return low

    def _split(self, index: int, at: int) -> None:
        run = self.runs[index]
        self.runs[index] = run.part(run.seq, at)
        self.runs.insert(index + 1, run.part(at, run.end))

    def _join(self, index: int) -> int:
        """Make one run of it and its neighbours that are alike; gives where that is."""
        runs = self.runs
        for left in (index, index - 1):
            if left < 0 or left + 1 >= len(runs):
                continue
            one, other = runs[left], runs[left + 1]
            if one.state == other.state and one.base == other.base and one.sent_at == other.sent_at:
                runs[left] = one.part(one.seq, other.end)
                del runs[left + 1]
                index = left
        return index

    def _change(self, index: int, state: int) -> None:
        run = self.runs[index]
        self._count(run, -1)
        run = run.after(run.sent_at, state)
        self.runs[index] = run
        self._count(run, 1)

    def _count(self, run: Run, sign: int) -> None:
        if run.state & (SACKED | LOST):
            octets = sign * ((run.end - run.seq) & MASK)
            self.absent += octets
            if run.state & SACKED:
                self.sacked += octets
