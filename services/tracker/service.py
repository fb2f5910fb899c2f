"""The tracker's shell: links in and out, the store, and the answers."""

import asyncio
import logging
import secrets
from collections.abc import Callable, Coroutine, Mapping, Sequence
from ipaddress import ip_address
from typing import Any, Final

from netstack.packet.reason import Reason
from netstack.runtime.config import Config
from netstack.runtime.service import Runtime
from netstack.runtime.values import parse_allowed_network
from netstack.wire.messages import (
    VERSION,
    Check,
    Join,
    Joined,
    Learn,
    Learned,
    LeaseChange,
    Message,
    Revoke,
    Revoked,
    Touch,
    Verdict,
)
from netstack.wire.proxy import EventsProxy
from services.tracker.leases import MAX_SIBLINGS, Lease, Leases, LeasesFullError, lease_seconds, max_client_ttl
from services.tracker.memory import MemoryStore
from services.tracker.names import normalize
from services.tracker.policy import Endpoint, Known, Policy, Rule, Ruling, audited, refusal
from services.tracker.store import ANSWER_WITHIN, Store, StoreDownError

LEASE_TOPIC: Final = b"lease"

_HIGH_WATER: Final = 65536  # messages per peer: as many questions as a forwarder has open at most
_MAX_WORK: Final = 16384  # operations that wait for the store
_MAX_NAME: Final = 1024  # characters: 255 octets (RFC 1035 section 2.3.4), each at most four characters when escaped
_MAX_TOUCHED: Final = 65536  # addresses in one Touch
_TOUCHED_AT_ONCE: Final = 1024  # of these, so that others get their turn between
_MAX_REFUSED: Final = 1024  # peers of another version that are remembered
_MAX_WITHHELD: Final = 65536  # addresses of resolvers that are remembered
_SWEEP: Final = 0.25  # seconds between looks at leases that have ended
_SWEPT: Final = 4096  # leases looked at each time; 1 ms or so

_log = logging.getLogger(__name__)


async def start(runtime: Runtime) -> None:
    """Bind the events proxy, open the store, then bind the links and be ready, whether the store answers or not."""
    proxy = EventsProxy(runtime.topology.events_in, runtime.topology.events_out)
    runtime.on_stop.append(proxy.stop)
    store = _store(runtime)
    runtime.on_stop.append(store.close)
    await store.open()
    Tracker(runtime, store, _policy(runtime.config))
    runtime.ready()


class Tracker:
    """Answers Join, Learn, Check, Touch and Revoke."""

    def __init__(self, runtime: Runtime, store: Store, policy: Policy) -> None:
        self._runtime = runtime
        self._counters = runtime.counters
        self._clock = runtime.loop.time
        self._config = runtime.config.whitelist
        self._store = store
        self._policy = policy
        self._withheld = Leases(_MAX_WITHHELD)
        self._instance = secrets.token_hex(8)
        self._refused: dict[bytes, None] = {}
        self._work = 0
        self._asked = 0
        self._learned = 0
        self._audited = 0
        self._handlers: dict[type, Callable[[bytes, Any], bool]] = {
            Learn: self._on_learn,
            Check: self._on_check,
            Touch: self._on_touch,
            Revoke: self._on_revoke,
        }
        self._hub = runtime.bus.hub(runtime.topology.whitelist, self._received, high_water=_HIGH_WATER)
        self._changes = runtime.bus.publisher(runtime.topology.changes, bind=True)
        runtime.before_sample = self._gauge
        runtime.every(_SWEEP, self._sweep)

    def _received(self, identity: bytes, message: Message) -> None:
        if isinstance(message, Join):
            self._on_join(identity, message)
            return
        if identity in self._refused:
            self._counters.drop(Reason.WRONG_VERSION)
            return
        handler = self._handlers.get(type(message))
        if handler is None or not handler(identity, message):
            self._counters.drop(Reason.MALFORMED_FRAME)
            _log.debug("ignored: %s", type(message).__name__)

    def _on_join(self, identity: bytes, join: Join) -> None:
        if join.version == VERSION:
            self._refused.pop(identity, None)
        else:
            self._counters.drop(Reason.WRONG_VERSION)
            if identity not in self._refused:
                _log.error(
                    "%r %r speaks version %d, this tracker %d: refused; start all processes from one installation",
                    *(join.stage[:32], join.worker[:64], join.version, VERSION),
                )
            self._refused[identity] = None
            if len(self._refused) > _MAX_REFUSED:
                del self._refused[next(iter(self._refused))]
        self._send(identity, Joined(VERSION, self._instance))

    def _on_learn(self, identity: bytes, learn: Learn) -> bool:
        name = normalize(learn.name)
        if learn.ttl < 0 or len(learn.addresses) > MAX_SIBLINGS or len(learn.name) > _MAX_NAME:
            return False
        if self._work >= _MAX_WORK:
            self._counters.drop(Reason.QUEUE_FULL)
            self._send(identity, Learned(learn.request, ok=False, reason=Reason.QUEUE_FULL.value, max_ttl=0))
            return True
        self._begin(self._learn(identity, learn, name, self._clock()))
        return True

    async def _learn(self, identity: bytes, learn: Learn, name: str, at: float) -> None:
        grant = self._policy.grant(name, learn.addresses)
        seconds = lease_seconds(learn.ttl, self._config.ttl, self._config.grace)
        if grant.refused:
            self._counters.drop(Reason.REBIND, grant.refused)
        if grant.withheld:
            self._withhold(name, grant.withheld, seconds)
        reason = ""
        try:
            if grant.leased:
                async with asyncio.timeout(ANSWER_WITHIN):
                    await self._store.learn(name, grant.leased, seconds, grant.rule)
        except (StoreDownError, TimeoutError):
            reason = Reason.TRACKER_DOWN.value
        except LeasesFullError:
            reason = Reason.WHITELIST_FULL.value
        if reason:
            self._counters.drop(Reason(reason))
        else:
            self._learned += 1
            self._publish(dict.fromkeys(grant.leased, (name,)), seconds)
        self._send(identity, Learned(learn.request, not reason, reason, max_client_ttl(seconds, self._config.grace)))
        if learn.trace_id:
            outcome = reason or f"{len(grant.leased)} addresses"
            self._runtime.trace.hop(learn.trace_id, "learned", at=at, detail=f"{name} {outcome}")

    def _on_check(self, identity: bytes, check: Check) -> bool:
        self._asked += 1
        now = self._clock()
        endpoint = Endpoint(check.address, check.port, check.protocol)
        lease = self._store.live(check.address)
        ruling = self._policy.without_lease(endpoint)
        if ruling is not None:
            if ruling.allowed and lease is not None:
                ruling = ruling._replace(names=lease.names)
        elif lease is not None or self._store.complete:
            ruling = self._policy.with_lease(endpoint, self._known(check.address, lease, now))
        elif self._work >= _MAX_WORK:
            ruling = refusal(Reason.TRACKER_DOWN)
        else:
            self._begin(self._find(identity, check, endpoint, now))
            return True
        self._answer(identity, check, ruling, now)
        return True

    async def _find(self, identity: bytes, check: Check, endpoint: Endpoint, at: float) -> None:
        try:
            async with asyncio.timeout(ANSWER_WITHIN):
                lease = await self._store.find(check.address)
        except (StoreDownError, TimeoutError):
            ruling = self._policy.with_lease(endpoint, self._known(check.address, None, at))
            # Encrypted DNS is refused for what it is; of anything else, nobody knows.
            if ruling.reason == Reason.NOT_WHITELISTED:
                ruling = refusal(Reason.TRACKER_DOWN)
        else:
            ruling = self._policy.with_lease(endpoint, self._known(check.address, lease, self._clock()))
        self._answer(identity, check, ruling, at)

    def _answer(self, identity: bytes, check: Check, ruling: Ruling, at: float) -> None:
        detail = " ".join(ruling.names[:1]) if ruling.allowed else ruling.reason
        if not ruling.allowed:
            if self._policy.audits:
                self._audited += 1
                _log.info("would be refused: %s", ruling.reason)
                _log.debug("would be refused: %s port %d", ip_address(check.address), check.port)
                ruling = audited(ruling)
            else:
                self._counters.drop(Reason(ruling.reason))
        verdict = Verdict(check.request, ruling.allowed, ruling.reason, list(ruling.names), ruling.expires_in)
        self._send(identity, verdict)
        if check.trace_id:
            said = "allowed" if ruling.allowed else "refused"
            self._runtime.trace.hop(check.trace_id, "checked", at=at, detail=f"{said} {detail}".rstrip())

    def _on_touch(self, _: bytes, touch: Touch) -> bool:
        if len(touch.addresses) > _MAX_TOUCHED:
            return False
        if self._work >= _MAX_WORK:
            self._counters.drop(Reason.QUEUE_FULL)
            return True
        self._begin(self._touch(touch.addresses))
        return True

    async def _touch(self, addresses: Sequence[bytes]) -> None:
        seconds = self._config.ttl
        for at in range(0, len(addresses), _TOUCHED_AT_ONCE):
            try:
                async with asyncio.timeout(ANSWER_WITHIN):
                    extended = await self._store.touch(addresses[at : at + _TOUCHED_AT_ONCE], seconds)
            except (StoreDownError, TimeoutError):
                return  # they are touched again while they are used
            self._publish({address: self._names(address) for address in extended}, seconds)

    def _names(self, address: bytes) -> tuple[str, ...]:
        lease = self._store.live(address)
        return lease.names if lease is not None else ()

    def _on_revoke(self, identity: bytes, revoke: Revoke) -> bool:
        if not revoke.target or len(revoke.target) > _MAX_NAME:
            return False
        try:
            target: str | bytes = ip_address(revoke.target.strip("[]")).packed
        except ValueError:
            target = normalize(revoke.target)
        self._begin(self._revoke(identity, revoke.request, target))
        return True

    async def _revoke(self, identity: bytes, request: int, target: str | bytes) -> None:
        ended = await self._store.revoke(target)
        # A flow may outlive its lease: where an address was named, flows to it are cut in any case.
        addresses = list(dict.fromkeys([*ended, target] if isinstance(target, bytes) else ended))
        if addresses:
            self._changes.publish(LEASE_TOPIC, LeaseChange(addresses, [], 0.0))
        _log.info("%d leases revoked", len(ended))
        self._send(identity, Revoked(request, len(ended)))

    def _withhold(self, name: str, addresses: Sequence[bytes], seconds: float) -> None:
        try:
            self._withheld.learn(name, addresses, seconds, self._clock())
        except LeasesFullError:
            self._counters.drop(Reason.WHITELIST_FULL)  # refused all the same, as not whitelisted

    def _known(self, address: bytes, lease: Lease | None, now: float) -> Known:
        withheld = self._withheld.live(address, now) is not None
        if lease is None:
            return Known(answers_dns=withheld)
        return Known(lease.names, lease.until - now, withheld)

    def _publish(self, leased: Mapping[bytes, tuple[str, ...]], seconds: float) -> None:
        """Tell the forwarders of leases on which they may decide by themselves."""
        published = [address for address, names in leased.items() if self._policy.lease_suffices(address, names)]
        if published:
            names = dict.fromkeys(name for address in published for name in leased[address])
            self._changes.publish(LEASE_TOPIC, LeaseChange(published, list(names), float(seconds)))

    def _send(self, identity: bytes, message: Message) -> None:
        if not self._hub.send(identity, message):
            self._counters.drop(Reason.QUEUE_FULL)

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        self._work += 1
        self._runtime.spawn(work).add_done_callback(self._ended)

    def _ended(self, _: asyncio.Task[None]) -> None:
        self._work -= 1

    def _sweep(self) -> None:
        now = self._clock()
        self._store.leases.expire(now, _SWEPT)
        self._withheld.expire(now, _SWEPT)

    def _gauge(self) -> None:
        self._counters.queue = self._work
        gauges = self._counters.gauges
        gauges["leases"] = len(self._store.leases)
        gauges["names"] = self._store.leases.name_count
        gauges["asked"] = self._asked
        gauges["learned"] = self._learned
        if self._policy.audits:
            gauges["audit"] = self._audited


def _policy(config: Config) -> Policy:
    parsed = map(parse_allowed_network, config.allow.networks)
    rules = [Rule(allowed.network, allowed.port, allowed.protocol) for allowed in parsed]
    dns = config.dns
    return Policy(config.whitelist.mode, rules, config.allow.names, dns.private_names, dns.encrypted_names)


def _store(runtime: Runtime) -> Store:
    url = runtime.config.whitelist.store
    if url.startswith("memory:"):
        return MemoryStore(runtime.loop.time)
    # Only here: importing redis takes longer than everything else that a start does.
    from services.tracker.redis_store import RedisStore  # noqa: PLC0415

    return RedisStore(url, runtime.loop.time, _Reporter(runtime.counters.notes))


class _Reporter:
    """Says once, in the log and for `netstack status`, what does not work, and once that it works again."""

    def __init__(self, notes: dict[str, str]) -> None:
        self._notes = notes

    def __call__(self, subject: str, trouble: str | None) -> None:
        known = subject in self._notes
        if trouble is not None:
            self._notes[subject] = trouble
            if not known:
                _log.error("%s; nothing new is allowed until it works", trouble)
        elif known:
            del self._notes[subject]
            _log.info("the store works again")
