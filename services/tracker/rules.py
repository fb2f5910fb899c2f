"""What commands allowed, denied and paused while the pipeline runs, beside the configuration. No I/O, no clock.

Each has its time, `math.inf` where it lasts as long as the instance; `expire` takes away what is over. Times are in the
clock of `now`.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Final, Literal, NamedTuple

import msgspec

from netstack.runtime.namerulings import NameRulings
from services.tracker.endpoints import CompiledRule, Endpoint, Rule, compile_rule, rule_text

MAX_RULES: Final = 1000
"""Of names, and as many of endpoints: each dns_filter is told all of them at once."""


class RulesFullError(Exception):
    """There is no room for another rule until one ends or is revoked."""


class Ended(NamedTuple):
    """What is over."""

    endpoints: list[str]
    """Rules about endpoints that allowed them."""
    allowed_names: list[str]
    """Patterns that were allowed."""
    names: bool
    """Whether a ruling about names is over, so that dns_filter has to be told."""
    pause: bool


class Said(NamedTuple):
    """What a command said of a name or an endpoint, as trackers tell each other."""

    about: Literal["name", "endpoint"]
    text: str
    allowed: bool
    until: float
    """`math.inf` where it lasts as long as the instance in which it was said."""


class Heard(NamedTuple):
    """What follows from what commands said to other trackers."""

    changed: bool
    denied: list[str]
    """Patterns that were not denied before."""
    closed: list[Rule]
    """Endpoints that are no longer allowed, before their time."""


class SavedRules(msgspec.Struct):
    """Rules as they are kept for a tracker that starts anew; None is without end."""

    endpoints: dict[str, float | None] = {}
    allowed: dict[str, float | None] = {}
    denied: dict[str, float | None] = {}
    paused_until: float = 0.0


class _Permission(NamedTuple):
    rule: CompiledRule
    until: float


class Rules:
    """The rules of now."""

    def __init__(self) -> None:
        self._endpoints: dict[str, _Permission] = {}
        self._until: dict[str, float] = {}  # of names, by pattern
        self.names = NameRulings()
        self.paused_until = 0.0

    def permit_endpoint(self, rule: Rule, until: float) -> None:
        """Allow an endpoint; raises RulesFullError."""
        text = rule_text(rule)
        if len(self._endpoints) >= MAX_RULES and text not in self._endpoints:
            raise RulesFullError(f"{MAX_RULES} endpoints are allowed by commands already")
        self._endpoints[text] = _Permission(compile_rule(rule), until)

    def rule_name(self, pattern: str, *, allowed: bool, until: float) -> None:
        """Allow or deny a name and those below it; raises RulesFullError."""
        if len(self.names) >= MAX_RULES and pattern not in self._until:
            raise RulesFullError(f"{MAX_RULES} names are allowed or denied by commands already")
        for replaced in self.names.rule(pattern, allowed=allowed):
            self._until.pop(replaced, None)
        self._until[pattern] = until

    def forget(self, target: str) -> bool:
        """Take back a rule about exactly this name, or all about exactly this address; whether there was one."""
        if self.names.forget(target):
            del self._until[target]
            return True
        own = [text for text in self._endpoints if text == target or _is_of(text, target)]
        for text in own:
            del self._endpoints[text]
        return bool(own)

    def endpoint(self, endpoint: Endpoint) -> tuple[str, float] | None:
        """The rule that allows an endpoint for longest, as text, and until when."""
        if not self._endpoints:
            return None
        found = [
            (permission.until, text) for text, permission in self._endpoints.items() if permission.rule.covers(endpoint)
        ]
        return None if not found else (max(found)[1], max(found)[0])

    def about(self, address: bytes) -> list[str]:
        """Every rule that allows something of this address."""
        return [text for text, permission in self._endpoints.items() if permission.rule.contains(address)]

    def name_until(self, pattern: str) -> float:
        """Until when a ruling about names holds."""
        return self._until.get(pattern, 0.0)

    def expire(self, now: float) -> Ended:
        """Take away what is over, and say what that was."""
        endpoints = [text for text, permission in self._endpoints.items() if permission.until <= now]
        for text in endpoints:
            del self._endpoints[text]
        allowed = set(self.names.patterns(allowed=True))
        names = [pattern for pattern, until in self._until.items() if until <= now]
        for pattern in names:
            self.forget(pattern)
        pause = 0.0 < self.paused_until <= now
        if pause:
            self.paused_until = 0.0
        return Ended(endpoints, [pattern for pattern in names if pattern in allowed], bool(names), pause)

    def said(self) -> list[Said]:
        """All but a pause, which is for this tracker alone."""
        said = [
            Said("endpoint", text, allowed=True, until=permission.until) for text, permission in self._endpoints.items()
        ]
        for allowed in (True, False):
            patterns = self.names.patterns(allowed=allowed)
            said += [Said("name", text, allowed=allowed, until=self._until[text]) for text in patterns]
        return said

    def hear(self, said: Sequence[Said], parse: Callable[[str], Rule], now: float) -> Heard:
        """This is what was said to all trackers together; only what has no end is not taken over, but kept.

        What cannot be read, or is too much, is passed over.
        """
        before = {(each.about, each.text, each.allowed): each.until for each in self.said()}
        self._endpoints, self._until, self.names = {}, {}, NameRulings()
        # The more general first, since what is said later about more replaces what was said about less.
        for each in sorted(said, key=_generality):
            until = math.inf if before.get(each[:3]) == math.inf else each.until
            if until > now:
                with suppress(RulesFullError, ValueError):
                    if each.about == "name":
                        self.rule_name(each.text, allowed=each.allowed, until=until)
                    else:
                        self.permit_endpoint(parse(each.text), until)
        after = {each[:3] for each in self.said()}
        denied = [text for about, text, allowed in after if about == "name" and not allowed]
        gone = [key for key, until in before.items() if key not in after and until > now]
        return Heard(
            changed=after != set(before),
            denied=[text for text in denied if ("name", text, False) not in before],
            closed=[parse(text) for about, text, _ in gone if about == "endpoint"],
        )

    def save(self) -> SavedRules:
        """All of it."""
        names = {
            allowed: {pattern: _finite(self._until[pattern]) for pattern in self.names.patterns(allowed=allowed)}
            for allowed in (True, False)
        }
        endpoints = {text: _finite(permission.until) for text, permission in self._endpoints.items()}
        return SavedRules(endpoints, names[True], names[False], self.paused_until)

    def restore(self, saved: SavedRules, endpoints: Iterable[Rule]) -> None:
        """What `save` gave, with its endpoints read again."""
        for rule in endpoints:
            self.permit_endpoint(rule, _until(saved.endpoints.get(rule_text(rule), 0.0)))
        rulings = [
            Said("name", pattern, allowed=allowed, until=_until(until))
            for patterns, allowed in ((saved.denied, False), (saved.allowed, True))
            for pattern, until in patterns.items()
        ]
        # The more general first, since what is said later about more replaces what was said about less.
        for ruling in sorted(rulings, key=_generality):
            self.rule_name(ruling.text, allowed=ruling.allowed, until=ruling.until)
        self.paused_until = saved.paused_until


def _generality(said: Said) -> tuple[int, bool]:
    """Of names, `*.a.example` goes before `b.a.example`, which it covers too."""
    return said.text.count("."), said.text[:1] != "*"


def _is_of(text: str, address: str) -> bool:
    if ":" in address:
        return text.startswith((f"[{address}]:", f"{address}/"))
    return text.startswith((f"{address}:", f"{address}/"))


def _finite(until: float) -> float | None:
    return None if math.isinf(until) else until


def _until(saved: float | None) -> float:
    return math.inf if saved is None else saved
