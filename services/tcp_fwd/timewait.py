"""TIME-WAIT (RFC 9293 section 3.6.1): what is left of a connection that we closed first. No I/O, no clock.

A record of a few numbers, not the connection: it answers the client's FIN sent again, and gives way to a new SYN. A
reset does not end it (RFC 1337).
"""

from collections import OrderedDict
from typing import Final, NamedTuple

from netstack.packet import tcp
from netstack.packet.seqnum import MASK, diff
from services.tcp_fwd.segment import Emitter, Segment

LASTS: Final = 60.0  # seconds; Linux's TCP_TIMEWAIT_LEN


class Record(NamedTuple):
    """The numbers that an acknowledgement needs."""

    snd_nxt: int
    rcv_nxt: int
    window: int
    ts_recent: int | None
    """The client's last timestamp; None where there were none."""
    ts_offset: int
    """Of our own timestamps (services.tcp_fwd.sending)."""

    def acknowledgement(self, emitter: Emitter, now: float) -> bytes:
        """The frame that answers whatever comes."""
        options = b""
        if self.ts_recent is not None:
            options = tcp.emit_timestamps((int(now * 1000) + self.ts_offset) & MASK, self.ts_recent)
        return emitter.emit(self.snd_nxt, self.rcv_nxt, tcp.ACK, self.window, options=options)


class TimeWait:
    """The records, oldest first; the oldest go when there are too many."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._records: OrderedDict[bytes, tuple[float, Record]] = OrderedDict()  # and until when
        self._due = 0.0
        """None has lasted long enough before this time."""

    def __len__(self) -> int:
        return len(self._records)

    def add(self, key: bytes, record: Record, now: float) -> None:
        """A connection entered TIME-WAIT."""
        self._records.pop(key, None)
        self._records[key] = (now + LASTS, record)
        self.expire(now)
        while len(self._records) > self._limit:
            self._records.popitem(last=False)

    def get(self, segment: Segment, now: float) -> Record | None:
        """The record of a segment's flow, if it has one that still lasts; a FIN makes it last as long again."""
        until, record = self._records.get(segment.key, (now, None))
        if record is None or until <= now:
            return None
        if segment.flags & tcp.FIN:
            self.add(segment.key, record, now)
        return record

    def admits(self, syn: Segment, now: float) -> bool:
        """Whether a SYN may open a connection; the record of the one before goes if so.

        RFC 6191: where its timestamp is later than the last of the old connection, or else its sequence number beyond.
        """
        record = self.get(syn, now)
        if record is not None:
            timestamps = tcp.parse_options(syn.options).timestamps
            tsval = timestamps[0] if timestamps else syn.tsval
            later = record.ts_recent is not None and tsval >= 0 and diff(tsval, record.ts_recent) > 0
            if not later and diff(syn.seq, record.rcv_nxt) <= 0:
                return False
            del self._records[syn.key]
        return True

    def expire(self, now: float) -> None:
        """Forget what has lasted long enough."""
        if now < self._due:
            return
        records = self._records
        self._due = now + LASTS
        while records:
            until = records[next(iter(records))][0]
            if until > now:
                self._due = until
                break
            records.popitem(last=False)
