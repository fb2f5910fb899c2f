"""What commands allowed and denied, kept in Redis for all trackers on it.

Each tracker says the whole of what holds for it, and hears the whole of what holds for all. What it said and Redis has
not taken yet is written before anything is read, so that nothing is lost in a time without Redis, and an answer to what
was read before something else was said here is void. What has no end lasts as long as the instance that said it: Redis
keeps it for a while only, and it is written again and again.
"""

import math
from collections.abc import Callable, Sequence
from typing import Final, Literal

from services.tracker.redis_link import RedisLink
from services.tracker.redis_scripts import RULE, RULES
from services.tracker.rules import Said

KEPT_FOR: Final = 90.0
"""Seconds for which Redis keeps what has no end ..."""
RENEW_EVERY: Final = 30.0
"""... and after which it is written again."""

_ABOUT: Final[dict[str, Literal["name", "endpoint"]]] = {"name": "name", "endpoint": "endpoint"}
_ALLOWED: Final = {b"allow": True, b"deny": False}
_SAME: Final = 1.0  # seconds by which two times may differ that were one, after a way through Redis

_Key = tuple[Literal["name", "endpoint"], str]


class RedisRules:
    """The rules of one tracker and those in Redis, brought together."""

    def __init__(self, link: RedisLink, source: str, clock: Callable[[], float]) -> None:
        self._link = link
        self._source = source
        self._clock = clock
        self._said: dict[_Key, Said] = {}
        """What holds here."""
        self._agreed: dict[_Key, Said] = {}
        """What Redis is known to hold."""
        self._taken_back: set[_Key] = set()
        self._turn = 0
        """How often something was said here."""
        self._told_at = -math.inf

    def known(self, said: Sequence[Said]) -> None:
        """What the tracker before this one had said: Redis has heard of it, and what it does not hold was revoked."""
        self._said = self._agreed = _by_key(said)

    def say(self, said: Sequence[Said]) -> bool:
        """All that holds here by now; whether Redis has to be told."""
        self._turn += 1
        before, self._said = self._said, _by_key(said)
        self._taken_back.update(before.keys() - self._said.keys())
        self._taken_back -= self._said.keys()
        return any(self._differences())

    def forgotten(self) -> None:
        """Redis holds nothing of it any more."""
        self._agreed = {}

    def due(self) -> bool:
        """Whether something has to be written that has no end, or was not taken when it was said."""
        if self._clock() - self._told_at < RENEW_EVERY:
            return False
        return any(each.until == math.inf for each in self._said.values()) or any(self._differences())

    async def tell(self) -> None:
        """Write what is new, and again what has no end."""
        said, now = self._said, self._clock()
        changed, gone = self._differences()
        written = [*changed, *(each for key, each in said.items() if each.until == math.inf and each not in changed)]
        if not written and not gone:
            return
        self._told_at = now
        put = [word for each in written for word in (_field(each), *_value(each, now))]
        await self._link.run(RULE, self._source, len(written), *put, *(f"{about} {text}" for about, text in gone))
        self._agreed = said
        self._taken_back -= set(gone)

    async def hear(self) -> list[Said] | None:
        """What holds for all trackers; None where something was said here meanwhile, which is then told and heard."""
        turn, now = self._turn, self._clock()
        answer = await self._link.run(RULES)
        if turn != self._turn or any(self._differences()):
            return None
        heard = [
            Said(_ABOUT[about], text, allowed=_ALLOWED[verdict], until=now + left / 1000)
            for field, verdict, left in zip(answer[::3], answer[1::3], answer[2::3], strict=True)
            for about, _, text in [field.decode(errors="replace").partition(" ")]
            if about in _ABOUT and verdict in _ALLOWED
        ]
        self._agreed = _by_key(heard)
        return heard

    def _differences(self) -> tuple[list[Said], list[_Key]]:
        """What Redis does not hold, and what it holds that was taken back. What has ended, it forgets by itself."""
        said, agreed, now = self._said, self._agreed, self._clock()
        changed = [each for key, each in said.items() if each.until > now and not _is_same(each, agreed.get(key))]
        return changed, [key for key in self._taken_back if key in agreed and agreed[key].until > now + _SAME]


def _is_same(said: Said, agreed: Said | None) -> bool:
    if agreed is None or said.allowed is not agreed.allowed:
        return False
    return said.until == math.inf or abs(said.until - agreed.until) <= _SAME


def _by_key(said: Sequence[Said]) -> dict[_Key, Said]:
    return {(each.about, each.text): each for each in said}


def _field(said: Said) -> str:
    return f"{said.about} {said.text}"


def _value(said: Said, now: float) -> tuple[str, int]:
    seconds = KEPT_FOR if said.until == math.inf else said.until - now
    return "allow" if said.allowed else "deny", max(1, math.ceil(seconds * 1000))
