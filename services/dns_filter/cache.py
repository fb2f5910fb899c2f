"""Answers that are kept, in wire form, until their shortest TTL ends. No I/O, no clock."""

from typing import Final, NamedTuple

from services.dns_filter.answer import Answer
from services.dns_filter.query import Key

MAX_ENTRIES: Final = 10_000  # about what dnsmasq and systemd-resolved (4096) hold, and room for a browser's day
MAX_OCTETS: Final = 16 << 20


class Hit(NamedTuple):
    """A kept answer and for how many whole seconds it has been kept."""

    answer: Answer
    age: int


class _Entry(NamedTuple):
    answer: Answer
    kept_at: float
    ends_at: float


class Cache:
    """Bounded; the least recently used goes first."""

    def __init__(self, max_entries: int = MAX_ENTRIES, max_octets: int = MAX_OCTETS) -> None:
        self._max_entries = max_entries
        self._max_octets = max_octets
        self._entries: dict[Key, _Entry] = {}  # least recently used first
        self.octets = 0
        """Of the bodies kept."""

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: Key, now: float) -> Hit | None:
        """The answer to this question, if it is kept and its time has not ended."""
        entry = self._entries.pop(key, None)
        if entry is None:
            return None
        if entry.ends_at <= now:
            self.octets -= len(entry.answer.body)
            return None
        self._entries[key] = entry
        return Hit(entry.answer, int(now - entry.kept_at))

    def put(self, key: Key, answer: Answer, now: float) -> None:
        """Keep an answer for its cache_ttl."""
        if answer.cache_ttl <= 0:
            return
        self._forget(key)
        self._entries[key] = _Entry(answer, now, now + answer.cache_ttl)
        self.octets += len(answer.body)
        while len(self._entries) > self._max_entries or self.octets > self._max_octets:
            self._forget(next(iter(self._entries)))

    def _forget(self, key: Key) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self.octets -= len(entry.answer.body)
