"""TIME-WAIT (RFC 9293 section 3.6.1): what is left of a connection that we closed first. No I/O, no clock.

A record of a few numbers, not the connection: it answers the client's FIN sent again, and gives way to a new SYN.
"""

from collections import OrderedDict
from typing import Final, NamedTuple

LASTS: Final = 60.0  # seconds; Linux's TCP_TIMEWAIT_LEN


class Record(NamedTuple):
    """The numbers that an acknowledgement needs."""

    snd_nxt: int
    rcv_nxt: int
    window: int
    until: float


class TimeWait:
    """The records, oldest first; the oldest go when there are too many."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._records: OrderedDict[bytes, Record] = OrderedDict()

    def __len__(self) -> int:
        return len(self._records)

    def add(self, key: bytes, snd_nxt: int, rcv_nxt: int, window: int, now: float) -> None:
        """A connection entered TIME-WAIT."""
        self._records.pop(key, None)
        self._records[key] = Record(snd_nxt, rcv_nxt, window, now + LASTS)
        self.expire(now)
        while len(self._records) > self._limit:
            self._records.popitem(last=False)

    def get(self, key: bytes, now: float) -> Record | None:
        """The record of a flow, if it has one that still lasts."""
        record = self._records.get(key)
        if record is None or record.until <= now:
            return None
        return record

    def remove(self, key: bytes) -> None:
        """A new connection takes its place."""
        self._records.pop(key, None)

    def expire(self, now: float) -> None:
        """Forget what has lasted long enough."""
        records = self._records
        while records and records[next(iter(records))].until <= now:
            records.popitem(last=False)
