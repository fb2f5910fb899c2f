"""Has the addresses of answers leased, and tells dns_filter once that is stored.

What one turn of the loop learned is told in one message. Where the store keeps leases in this process nothing is waited
for, so that nothing is scheduled either.
"""

import asyncio
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from netstack.packet.reason import Reason
from netstack.runtime.service import Runtime
from netstack.wire.bus import Hub
from netstack.wire.messages import Learn, Learned, Several
from services.tracker.announce import Announcer
from services.tracker.leases import MAX_SIBLINGS, LeasesFullError, Origin, lease_seconds, max_client_ttl
from services.tracker.names import normalize
from services.tracker.policy import Policy
from services.tracker.store import ANSWER_WITHIN, Store, StoreDownError

MAX_NAME: Final = 1024
"""Characters: 255 octets (RFC 1035 section 2.3.4), each at most four characters when escaped."""

_MAX_CHAIN: Final = 64  # aliases; resolvers follow some 8 to 20


class Surroundings(Protocol):
    """What learning needs of the tracker."""

    def begin(self, work: Coroutine[Any, Any, None]) -> bool:
        """Do something that waits for the store; False, and nothing done, where too much waits already."""

    def withhold(self, name: str, addresses: Sequence[bytes], seconds: float) -> None:
        """These were the answer for a resolver's name."""

    async def denied(self, pattern: str) -> None:
        """A name was answered that commands have denied meanwhile: what it has leased ends again."""


@dataclass(slots=True)
class _Learning:
    """One answer, on its way into the store."""

    identity: bytes
    learn: Learn
    name: str
    addresses: list[bytes]
    """Those that are to be leased."""
    seconds: float
    max_ttl: int
    origin: Origin
    at: float
    epoch: int


class Learner:
    """Speaks on the link `hub`, which is to be set before anything else."""

    hub: Hub

    def __init__(
        self, around: Surroundings, runtime: Runtime, store: Store, policy: Policy, announce: Announcer
    ) -> None:
        self._around = around
        self._runtime = runtime
        self._clock = runtime.loop.time
        self._counters = runtime.counters
        self._config = runtime.config.whitelist
        self._alone = self._config.scope == "client"
        self._store = store
        self._policy = policy
        self._announce = announce
        announce.before_ending = self._send
        self._told: dict[bytes, list[Learned]] = {}
        self.learned = 0
        """Answers whose leases were stored."""

    def learn(self, identity: bytes, learn: Learn) -> bool:
        """Have its addresses leased; False where it cannot be meant."""
        too_long = len(learn.name) > MAX_NAME or any(len(name) > MAX_NAME for name in learn.chain)
        if learn.ttl < 0 or learn.spare < 0 or len(learn.addresses) > MAX_SIBLINGS or too_long:
            return False
        if len(learn.chain) > _MAX_CHAIN:
            return False
        one = self._granted(identity, learn)
        if one is None:
            return True
        try:
            if not one.addresses or self._store.learn_at_once(one.name, one.addresses, one.seconds, one.origin):
                self._stored(one)
            elif not self._around.begin(self._wait(one)):
                self._refuse(one, Reason.QUEUE_FULL)
        except LeasesFullError:
            self._refuse(one, Reason.WHITELIST_FULL)
        return True

    def _granted(self, identity: bytes, learn: Learn) -> _Learning | None:
        """What may be leased, and for how long; None where a command has denied the name, which is told then."""
        config = self._config
        at = self._clock()
        name = normalize(learn.name)
        chain = tuple(map(normalize, learn.chain))
        grant = self._policy.grant(name, learn.addresses, chain, at)
        whole = lease_seconds(learn.ttl, config.ttl, config.grace)
        seconds = min(whole + min(learn.spare, whole), grant.at_most)
        max_ttl = min(max_client_ttl(whole, config.grace), max(1, int(min(seconds, whole)) - 1))
        origin = Origin(grant.rule, learn.client, chain, time.time(), self._alone)
        one = _Learning(identity, learn, name, grant.leased, seconds, max_ttl, origin, at, self._announce.epoch)
        if grant.refused:
            self._counters.drop(Reason.REBIND, grant.refused)
        if grant.withheld:
            self._around.withhold(name, grant.withheld, seconds)
        if grant.denied:
            self._refuse(one, Reason.NAME_DENIED)
            return None
        return one

    async def _wait(self, one: _Learning) -> None:
        """Until it is stored."""
        try:
            async with asyncio.timeout(ANSWER_WITHIN):
                await self._store.learn(one.name, one.addresses, one.seconds, one.origin)
        except (StoreDownError, TimeoutError):
            self._refuse(one, Reason.TRACKER_DOWN)
            return
        except LeasesFullError:
            self._refuse(one, Reason.WHITELIST_FULL)
            return
        if denied := self._policy.grant(one.name, (), one.origin.chain, self._clock()).denied:
            # By a command, while this was being stored: it may have come too late for what ended the leases.
            await self._around.denied(denied)
            self._refuse(one, Reason.NAME_DENIED)
            return
        self._stored(one)

    def _stored(self, one: _Learning) -> None:
        self.learned += 1
        self._announce.leased(one.addresses, one.seconds)
        # What was revoked while the store was asked may be among these.
        lease = float(one.seconds) if one.epoch == self._announce.epoch else 0.0
        self._tell(one.identity, Learned(one.learn.request, ok=True, reason="", max_ttl=one.max_ttl, lease=lease))
        if one.learn.trace_id:
            self._hop(one, f"{len(one.addresses)} addresses")

    def _refuse(self, one: _Learning, reason: Reason) -> None:
        self._counters.drop(reason)
        self._tell(one.identity, Learned(one.learn.request, ok=False, reason=reason.value, max_ttl=one.max_ttl))
        if one.learn.trace_id:
            self._hop(one, reason.value)

    def _tell(self, identity: bytes, learned: Learned) -> None:
        """With all else that this turn of the loop has for it."""
        if not self._told:
            self._runtime.loop.call_soon(self._send)
        self._told.setdefault(identity, []).append(learned)

    def _send(self) -> None:
        told, self._told = self._told, {}
        for identity, outcomes in told.items():
            message = outcomes[0] if len(outcomes) == 1 else Several([*outcomes])
            if not self.hub.send(identity, message):
                self._counters.drop(Reason.QUEUE_FULL, len(outcomes))

    def _hop(self, one: _Learning, outcome: str) -> None:
        self._runtime.trace.hop(one.learn.trace_id, "learned", at=one.at, detail=f"{one.name} {outcome}")
