"""The way of a query: policy, cache, upstream, lease, and only then the answer.

The order is what the whole firewall rests on: an answer with addresses is released by `_confirmed` alone, which the
tracker's acknowledgement calls. Where it does not come, the client gets SERVFAIL.
"""

import logging
import time
from collections.abc import Sequence
from functools import partial
from typing import Final

from netstack.packet.flow import address_text
from netstack.packet.reason import Reason
from netstack.runtime.service import Runtime
from services.dns_filter import message as dns
from services.dns_filter.answer import Answer
from services.dns_filter.cache import Cache, Hit
from services.dns_filter.leased import Leased
from services.dns_filter.leases import Confirmation, Leases, Wanted
from services.dns_filter.local import answer_to_any, refusal
from services.dns_filter.message import name_text
from services.dns_filter.policy import Policy
from services.dns_filter.queries import Asked, Bridge, Client, Flight, Outcome
from services.dns_filter.query import Key, Query, UnanswerableError, parse
from services.dns_filter.reply import (
    EDE_BLOCKED,
    EDE_NETWORK_ERROR,
    EDE_NO_REACHABLE_AUTHORITY,
    EDE_NOT_SUPPORTED,
    EDE_OTHER,
    EDE_STALE,
    EDE_STALE_NXDOMAIN,
    emit_answer,
    emit_refusal,
    extended_error,
)
from services.dns_filter.upstreams.pool import AllFailedError, Pool

_HEADSTART: Final = 0.05  # seconds by which the upstreams give up before the bridge: their refusal names them
_NO_LIMIT: Final = 0x7FFFFFFF  # seconds; the largest TTL (RFC 2181 section 8)
_STALE_AFTER: Final = 1.8  # seconds that a client waits before it gets a stale answer (RFC 8767 section 5)
_STALE_TTL: Final = 30  # seconds; RFC 8767 section 5

_log = logging.getLogger(__name__)


class Resolver:
    """Answers queries."""

    def __init__(self, runtime: Runtime, policy: Policy, pool: Pool, leases: Leases) -> None:
        self._runtime = runtime
        self._counters = runtime.counters
        self._trace = runtime.trace
        self._clock = runtime.loop.time
        self._policy = policy
        self._pool = pool
        self._leases = leases
        self._bridge = Bridge(runtime.config.dns.timeout)
        self._stale = runtime.config.dns.serve_stale
        self._serves_stale = self._stale > 0
        self._cache = self._new_cache()
        whitelist = runtime.config.whitelist
        self._leased = Leased(whitelist.ttl, whitelist.grace)
        # A lease for one client says nothing of others, and which names of an address are known is the newest ones.
        self._remembers = whitelist.scope == "all" and runtime.config.tcp.sni != "enforce"
        self._leases.on_ending = self._leased.forget
        self._audits = whitelist.mode == "audit"
        self._leases.on_rules = self._rules_changed
        self._rules_changed()
        self._timer_armed = False
        self.queries = 0
        self.cache_hits = 0
        self.stale_answers = 0
        self.refreshed = 0
        """Answers asked for anew before their time ended."""
        self.audited = 0
        """Answers that were let through only because nothing is refused."""

    @property
    def in_flight(self) -> int:
        """How many questions and leases are waited for."""
        return len(self._bridge) + self._leases.pending

    @property
    def cached(self) -> int:
        """How many answers are kept."""
        return len(self._cache)

    def receive(self, octets: bytes, client: Client) -> bool:
        """Take a message; whether the client's `reply` will be, or has been, called for it."""
        if not self._policy.is_loaded:
            # Silence: it asks again when the lists are there, and a refusal would be passed on to the user.
            self._counters.drop(Reason.LISTS_LOADING)
            return False
        try:
            query = parse(octets)
        except UnanswerableError as error:
            self._counters.drop(error.reason)
            if error.reply is None:
                return False
            client.reply(error.reply)
            return True
        self.queries += 1
        asked = Asked(query, client)
        rule = self._denied_by((query.qname,))
        if rule is not None and not self._policy.lenient:
            self._deny([asked], rule)
            return True
        canary = self._policy.canary(query.qname)
        if canary is not None:
            self._counters.drop(Reason.ENCRYPTED_DNS)
            text = (
                f"{Reason.ENCRYPTED_DNS}: {canary.name} asks to leave DNS to this network; dns.canaries=false passes it"
            )
            self._refuse([asked], canary.rcode, EDE_BLOCKED, text)
            return True
        hit = self._cache.get(query.key, self._clock())
        if hit is not None:
            self.cache_hits += 1
            self._release([asked], hit, asked_passes=rule is None)
            if hit.is_due:
                self._refresh(query)
            return True
        return self._answer_here(asked) or self._ask(asked)

    def _answer_here(self, asked: Asked) -> bool:
        """Answer what is not passed on; whether it was."""
        query = asked.query
        refused = refusal(query)
        if refused is not None:
            self._counters.drop(Reason.UNSUPPORTED_DNS)
            self._refuse([asked], refused.rcode, EDE_NOT_SUPPORTED, f"{Reason.UNSUPPORTED_DNS}: {refused.text}")
            return True
        answer = answer_to_any(query)
        if answer is not None:
            self._release([asked], Hit(answer, 0))
        return answer is not None

    def _ask(self, asked: Asked) -> bool:
        if self._serves_stale and self._pool.all_down and not self._serve_stale([asked]):
            if not len(self._bridge):
                self._refresh(asked.query)  # one question at a time finds out whether an upstream is back
            return True
        outcome, flight = self._bridge.ask(asked, self._clock())
        if outcome is Outcome.ASK and flight is not None:
            self._begin(flight)
            if self._serves_stale:
                self._runtime.loop.call_later(_STALE_AFTER, self._waited, flight)
        elif outcome is Outcome.FULL:
            self._counters.drop(Reason.BUFFER_FULL)
            self._refuse([asked], dns.SERVFAIL, EDE_OTHER, f"{Reason.BUFFER_FULL}: too many queries in flight")
        return outcome is not Outcome.REPEATED

    def _begin(self, flight: Flight) -> None:
        self._runtime.spawn(self._resolve(flight))
        self._arm()

    def _refresh(self, query: Query) -> None:
        """Ask for an answer anew for which nobody waits."""
        flight = self._bridge.refresh(query, self._clock())
        if flight is not None:
            self.refreshed += 1
            self._begin(flight)

    async def _resolve(self, flight: Flight) -> None:
        """Ask the upstreams, and answer whoever waits."""
        query = flight.query
        asked_at = time.monotonic()
        try:
            answer, upstream = await self._pool.ask(query, flight.deadline - _HEADSTART)
        except AllFailedError as error:
            waiting = self._bridge.end(flight.number)
            self._hops(waiting, "asked upstream", asked_at, f"{query}:", error)
            self._fail(waiting, str(error), silent=error.silent)
            return
        self._cache.put(query.key, answer, self._clock())
        waiting = self._bridge.end(flight.number)
        self._hops(waiting, "asked upstream", asked_at, query, upstream)
        self._release(waiting, Hit(answer, 0))

    def _release(self, waiting: Sequence[Asked], hit: Hit, *, asked_passes: bool = False) -> None:
        """Have the addresses leased for each client, then answer; at once where there are none, or all are leased.

        asked_passes says that the asked name is known not to be denied.
        """
        answer = hit.answer
        rule = None if asked_passes and len(answer.names) == 1 else self._denied_by(answer.names)
        if rule is not None:
            if not self._policy.lenient:
                self._deny(waiting, rule)
                return
            # Let through without a lease: the addresses are open for as long as nothing is refused, and no longer.
            self.audited += len(waiting)
            _log.info("would be refused: %s", Reason.NAME_DENIED)
            self._answer(waiting, hit, _NO_LIMIT)
            return
        if answer.removed:
            self._counters.drop(Reason.REBIND, len(waiting))
            self._tell_refused(waiting, Reason.REBIND, f"removed {_list(answer.removed[:3])}: private addresses")
            _log.debug("removed from the answer to %s: %s", name_text(answer.names[0]), _list(answer.removed))
        if not answer.addresses:
            self._answer(waiting, hit, _NO_LIMIT)
            return
        ttl = _STALE_TTL if hit.is_stale else max(0, answer.lease_ttl - hit.age)
        now = self._clock()
        is_traced = any(asked.client.trace_id for asked in waiting)  # a trace shows the way by the tracker
        if not is_traced and self._leased.covers(answer, ttl, now) and self._leases.stand(now):
            self._answer(waiting, hit, self._leased.max_ttl(ttl))
            return
        self._ask_tracker(waiting, hit, ttl, now)

    def _ask_tracker(self, waiting: Sequence[Asked], hit: Hit, ttl: int, now: float) -> None:
        """Have the addresses leased, for each client by itself."""
        answer = hit.answer
        by_client: dict[bytes, list[Asked]] = {}
        for asked in waiting:
            by_client.setdefault(asked.client.address, []).append(asked)
        names = list(map(name_text, answer.names))
        spare = self._leased.spare if self._remembers else 0
        for client, group in by_client.items():
            trace_id = next((asked.client.trace_id for asked in group if asked.client.trace_id), 0)
            then = partial(self._confirmed, group, hit, now)
            self._leases.learn(Wanted(names, answer.addresses, ttl, client, trace_id, spare), then)

    def _confirmed(self, waiting: Sequence[Asked], hit: Hit, asked_at: float, confirmation: Confirmation) -> None:
        """The tracker has stored the leases, or has not."""
        self._hops(waiting, "asked tracker", asked_at, len(hit.answer.addresses), "addresses", confirmation.reason)
        if confirmation.ok:
            if self._remembers and confirmation.lease:
                self._leased.remember(hit.answer, asked_at + confirmation.lease)
            self._answer(waiting, hit, confirmation.max_ttl)
            return
        if confirmation.reason == Reason.NAME_DENIED:  # by a command, after the answer was looked at
            self._deny(waiting, "netstack deny")
            return
        self._counters.drop(Reason.TRACKER_DOWN, len(waiting))
        text = f"{Reason.TRACKER_DOWN}: the addresses could not be leased: {confirmation.reason}"
        self._refuse(waiting, dns.SERVFAIL, EDE_NETWORK_ERROR, text)

    def _answer(self, waiting: Sequence[Asked], hit: Hit, max_ttl: int) -> None:
        answer, age = hit.answer, hit.age
        error = _rebind_error(answer) if answer.removed else b""
        if hit.is_stale:
            age, max_ttl = 0, min(max_ttl, _STALE_TTL)
            error = error or _stale_error(hit)
        for asked in waiting:
            client = asked.client
            message = emit_answer(asked.query, answer, udp=client.udp, age=age, max_ttl=max_ttl, error=error)
            self._reply(asked, message, answer.rcode)

    def _new_cache(self) -> Cache:
        return Cache(stale=self._stale) if self._runtime.config.dns.cache else Cache(max_entries=0)

    def _denied_by(self, names: Sequence[bytes]) -> str | None:
        """The rule that denies a name or one that it is an alias of; what commands said goes first."""
        rulings = self._leases.rulings
        ruling = rulings.decide(map(name_text, names)) if rulings else None
        if ruling is not None:
            return None if ruling.allowed else f"netstack deny {ruling.pattern}"
        return self._policy.denied_by(names)

    def _rules_changed(self) -> None:
        lenient = self._audits or self._leases.lenient
        if lenient is not self._policy.lenient:
            # What is kept was filtered, or was not.
            self._policy.lenient = lenient
            self._cache = self._new_cache()

    def _tell_refused(self, waiting: Sequence[Asked], reason: Reason, detail: str) -> None:
        for asked in waiting[:1]:
            self._leases.refused(name_text(asked.query.qname), asked.client.address, reason, detail)

    def _deny(self, waiting: Sequence[Asked], rule: str) -> None:
        self._counters.drop(Reason.NAME_DENIED, len(waiting))
        self._tell_refused(waiting, Reason.NAME_DENIED, rule)
        self._refuse(waiting, dns.NXDOMAIN, EDE_BLOCKED, f"{Reason.NAME_DENIED}: {rule}")

    def _waited(self, flight: Flight) -> None:
        """Who waits for this question has waited for long: a stale answer is better, if there is one."""
        if flight.waiting and self._cache.get_stale(flight.query.key, self._clock()) is not None:
            self._serve_stale(self._bridge.take_waiting(flight.number))

    def _serve_stale(self, waiting: Sequence[Asked]) -> Sequence[Asked]:
        """Give what is kept beyond its time to those for whom there is some; gives back the others."""
        if not self._serves_stale:
            return waiting
        left: list[Asked] = []
        by_key: dict[Key, list[Asked]] = {}
        for asked in waiting:
            by_key.setdefault(asked.query.key, []).append(asked)
        for key, group in by_key.items():
            hit = self._cache.get_stale(key, self._clock())
            if hit is None:
                left += group
                continue
            self.stale_answers += len(group)
            self._release(group, hit)
        return left

    def _fail(self, waiting: Sequence[Asked], why: str, *, silent: bool) -> None:
        waiting = self._serve_stale(waiting)
        if not waiting:
            return
        reason = Reason.UPSTREAM_TIMEOUT if silent else Reason.UPSTREAM_DOWN
        self._counters.drop(reason, len(waiting))
        self._refuse(
            waiting, dns.SERVFAIL, EDE_NO_REACHABLE_AUTHORITY if silent else EDE_NETWORK_ERROR, f"{reason}: {why}"
        )

    def _refuse(self, waiting: Sequence[Asked], rcode: int, code: int, text: str) -> None:
        for asked in waiting:
            _log.debug("%s refused: %s", asked.query, text)
            self._reply(asked, emit_refusal(asked.query, rcode, code, text), rcode, text)

    def _reply(self, asked: Asked, message: bytes, rcode: int, text: str = "") -> None:
        if asked.client.trace_id:
            at = time.monotonic()
            detail = f"{asked.query} {dns.rcode_text(rcode)} {text}".strip()
            self._trace.hop(asked.client.trace_id, "answered", at=at, service=0.0, detail=detail)
        asked.client.reply(message)

    def _arm(self) -> None:
        at = self._bridge.next_timeout()
        if at is not None and not self._timer_armed:
            self._timer_armed = True
            self._runtime.loop.call_at(at, self._overdue)

    def _overdue(self) -> None:
        self._timer_armed = False
        timeout = self._runtime.config.dns.timeout
        self._fail(self._bridge.handle_timeout(self._clock()), f"no answer within {timeout:g} s", silent=True)
        self._arm()

    def _hops(self, waiting: Sequence[Asked], event: str, at: float, *detail: object) -> None:
        for asked in waiting:
            if asked.client.trace_id:
                self._trace.hop(asked.client.trace_id, event, at=at, detail=" ".join(map(str, detail)).strip())


def _rebind_error(answer: Answer) -> bytes:
    if not any(any(address) for address in answer.removed):
        # How many filtering resolvers say no (Control D among them): the address of nothing at all.
        text = f"{Reason.REBIND}: the upstream answered {_list(answer.removed)}: blocked there"
        return extended_error(EDE_BLOCKED, text)
    return extended_error(
        EDE_BLOCKED,
        f"{Reason.REBIND}: removed {_list(answer.removed[:3])}; dns.private_names or allow.networks allows it",
    )


def _stale_error(hit: Hit) -> bytes:
    code = EDE_STALE_NXDOMAIN if hit.answer.rcode == dns.NXDOMAIN else EDE_STALE
    return extended_error(code, f"no upstream has answered; this is from {hit.age} s ago")


def _list(addresses: Sequence[bytes]) -> str:
    return ", ".join(map(address_text, addresses))
