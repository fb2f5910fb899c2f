"""Answers whose addresses are leased already, for at least as long as giving them out once more needs.

No I/O, no clock. The tracker is asked for leases that last a little longer than an answer needs (`spare`). Until that
is used up, the lease that the same answer needs is stored before it is asked for, so it is released at once; after that
the tracker is asked again, and renews it. What it said is forgotten as a whole when any lease is ended before its time,
since that is rare and what a revocation takes with it (the addresses of other names) is not known here.
"""

from collections import OrderedDict
from typing import Final

from services.dns_filter.answer import Answer

MAX_ANSWERS: Final = 20_000  # twice what the cache keeps, some 200 octets each
_SPARE: Final = 10  # a tenth of the floor: 30 of 300 s

_Key = tuple[tuple[bytes, ...], tuple[bytes, ...]]


class Leased:
    """What the tracker has confirmed."""

    def __init__(self, floor: int, grace: int, max_answers: int = MAX_ANSWERS) -> None:
        """floor and grace are those of `whitelist`, in seconds."""
        self._floor = floor
        self._grace = grace
        self._max_answers = max_answers
        self._until: OrderedDict[_Key, float] = OrderedDict()  # oldest first
        self.spare = floor // _SPARE
        """Seconds by which leases are to last longer than needed."""

    def __len__(self) -> int:
        return len(self._until)

    def remember(self, answer: Answer, until: float) -> None:
        """The addresses of an answer are leased until then; `now` of `covers` is in the same clock."""
        key = (answer.names, answer.addresses)
        self._until[key] = max(until, self._until.pop(key, until))
        if len(self._until) > self._max_answers:
            del self._until[next(iter(self._until))]

    def covers(self, answer: Answer, ttl: int, now: float) -> bool:
        """Whether the leases last as long as they must for an answer with ttl seconds left: max(floor, ttl + grace)."""
        until = self._until.get((answer.names, answer.addresses))
        return until is not None and until >= now + max(self._floor, ttl + self._grace)

    def max_ttl(self, ttl: int) -> int:
        """The longest TTL that such an answer may be given out with, in seconds."""
        return max(self._floor - self._grace, ttl, 1)

    def forget(self) -> None:
        """Some lease was ended before its time."""
        self._until.clear()
