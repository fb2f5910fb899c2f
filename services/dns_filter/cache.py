"""Answers that are kept, in wire form, until their shortest TTL ends, or longer for when no upstream answers.

No I/O, no clock.
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final, NamedTuple

from services.dns_filter.answer import Answer
from services.dns_filter.query import Key

MAX_ENTRIES: Final = 10_000  # about what dnsmasq and systemd-resolved (4096) hold, and room for a browser's day
MAX_OCTETS: Final = 16 << 20
REFRESH_AT: Final = 0.9
"""The share of an answer's time after which one that is in use is asked for anew; unbound's `prefetch` has the same."""
REFRESH_FROM: Final = 10  # seconds; an answer that is kept for less is not asked for before its time


class Hit(NamedTuple):
    """A kept answer and for how many whole seconds it has been kept."""

    answer: Answer
    age: int
    is_due: bool = False
    """Ask for it anew, before its time ends. Said once."""
    is_stale: bool = False
    """Its time has ended; it is better than nothing (RFC 8767)."""


@dataclass(slots=True)
class _Entry:
    answer: Answer
    kept_at: float
    ends_at: float
    due_at: float


class Cache:
    """Bounded; the least recently used goes first."""

    def __init__(self, max_entries: int = MAX_ENTRIES, max_octets: int = MAX_OCTETS, stale: float = 0.0) -> None:
        """stale is for how many seconds an answer is kept beyond its time."""
        self._max_entries = max_entries
        self._max_octets = max_octets
        self._stale = stale
        # Least recently used first. The first of a dict whose first ones are gone is found in a step for each of these.
        self._entries: OrderedDict[Key, _Entry] = OrderedDict()
        self.octets = 0
        """Of the bodies kept."""

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: Key, now: float) -> Hit | None:
        """The answer to this question, if it is kept and its time has not ended."""
        entry = self._use(key, now)
        if entry is None or entry.ends_at <= now:
            return None
        is_due = entry.due_at <= now
        if is_due:
            entry.due_at = entry.ends_at
        return Hit(entry.answer, int(now - entry.kept_at), is_due=is_due)

    def get_stale(self, key: Key, now: float) -> Hit | None:
        """The answer to this question even if its time has ended, as long as it is kept."""
        entry = self._use(key, now)
        if entry is None:
            return None
        return Hit(entry.answer, int(now - entry.kept_at), is_stale=entry.ends_at <= now)

    def put(self, key: Key, answer: Answer, now: float) -> None:
        """Keep an answer for its cache_ttl."""
        if answer.cache_ttl <= 0:
            return
        self._forget(key)
        ttl = answer.cache_ttl
        due_after = ttl * REFRESH_AT if ttl >= REFRESH_FROM else ttl
        self._entries[key] = _Entry(answer, now, now + ttl, now + due_after)
        self.octets += len(answer.body)
        while len(self._entries) > self._max_entries or self.octets > self._max_octets:
            self._forget(next(iter(self._entries)))

    def _use(self, key: Key, now: float) -> _Entry | None:
        entry = self._entries.pop(key, None)
        if entry is None:
            return None
        if entry.ends_at + self._stale <= now:
            self.octets -= len(entry.answer.body)
            return None
        self._entries[key] = entry
        return entry

    def _forget(self, key: Key) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self.octets -= len(entry.answer.body)
