"""The tracker's shell: links in and out, the store, and the answers."""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from ipaddress import ip_address
from typing import Any, Final

from netstack.packet.reason import Reason
from netstack.runtime.config import Config
from netstack.runtime.service import Runtime
from netstack.runtime.values import parse_allowed_network
from netstack.wire.messages import (
    VERSION,
    Check,
    Confirm,
    Explain,
    Forbid,
    Join,
    Joined,
    Learn,
    ListLeases,
    Message,
    NameRefused,
    Pause,
    Permit,
    Revoke,
    Several,
    Touch,
    Verdict,
)
from netstack.wire.proxy import EventsProxy
from services.tracker.announce import Announcer
from services.tracker.commands import Commands
from services.tracker.endpoints import Endpoint, Rule, endpoint_text, parse_rule
from services.tracker.explain import Explainer, Quic
from services.tracker.journal import Journal
from services.tracker.learning import MAX_NAME, Learner
from services.tracker.leases import Lease, Leases, LeasesFullError
from services.tracker.memory import MemoryStore
from services.tracker.names import normalize
from services.tracker.policy import Known, Policy, Ruling, audited, refusal
from services.tracker.refused import Refused, RefusedTable
from services.tracker.rules import Rules, Said
from services.tracker.rules_file import read_rules, write_rules
from services.tracker.store import ANSWER_WITHIN, Store, StoreDownError, Watcher

_HIGH_WATER: Final = 65536  # messages per peer: as many questions as a forwarder has open at most
_MAX_WORK: Final = 16384  # operations that wait for the store
_MAX_TOUCHED: Final = 65536  # addresses in one Touch
_TOUCHED_AT_ONCE: Final = 1024  # of these, so that others get their turn between
_MAX_REFUSED: Final = 1024  # peers of another version that are remembered
_MAX_WITHHELD: Final = 65536  # addresses of resolvers that are remembered
_SWEEP: Final = 0.25  # seconds between looks at leases that have ended
_SWEPT: Final = 4096  # leases looked at each time; 1 ms or so
_USED_FOR: Final = 90.0
"""Seconds for which a lease in use is extended at least, whatever whitelist.ttl: forwarders say it each 30 s."""

_log = logging.getLogger(__name__)


async def start(runtime: Runtime) -> None:
    """Bind the events proxy, open the store, then bind the links and be ready, whether the store answers or not."""
    topology = runtime.topology
    proxy = EventsProxy(topology.bound(topology.events_in), topology.bound(topology.events_out), runtime.curve)
    runtime.on_stop.append(proxy.stop)
    store = _store(runtime)
    runtime.on_stop.append(store.close)
    rules_path = runtime.topology.directory / "rules.json"
    tracker = Tracker(runtime, store, _policy(runtime.config, read_rules(rules_path)), partial(write_rules, rules_path))
    await store.open(tracker.said())
    tracker.listen()
    runtime.ready()


class Tracker:
    """Answers Join, Check and Touch; what Learn asks is done by Learner, what commands ask by Commands."""

    def __init__(
        self, runtime: Runtime, store: Store, policy: Policy, keep_rules: Callable[[Rules], str | None]
    ) -> None:
        self._runtime = runtime
        self._counters = runtime.counters
        self._clock = runtime.loop.time
        self._config = runtime.config.whitelist
        self._store = store
        self._policy = policy
        self._rules = policy.commanded
        self._keep_rules = keep_rules
        self._withheld = Leases(_MAX_WITHHELD)
        self._lately = RefusedTable()
        soon = runtime.loop.call_soon
        self._announce = Announcer(self._clock, soon, store, policy, shared=self._config.scope == "all")
        self._refused: dict[bytes, None] = {}
        self._work = 0
        self._asked = 0
        self._audited = 0
        self._learner = Learner(self, runtime, store, policy, self._announce)
        self._handlers: dict[type, Callable[[bytes, Any], bool]] = {
            Learn: self._learner.learn,
            Several: self._on_several,
            Check: self._on_check,
            Touch: self._on_touch,
            NameRefused: self._on_name_refused,
            Confirm: self._announce.confirm,
            **dict.fromkeys((Revoke, ListLeases, Explain, Forbid, Permit, Pause), self._on_command),
        }
        quic = Quic(runtime.config.quic.block, runtime.config.quic.ports)
        explainer = Explainer(policy, runtime.config.deny.names, quic)
        self._commands = Commands(self, store, self._rules, explainer, self._lately)
        store.watcher = Watcher(self._announce.leased, partial(self.end, cut=True), self._ruled)

    def listen(self) -> None:
        """Bind the links. Raises OSError."""
        runtime = self._runtime
        topology = runtime.topology
        self._announce.changes = runtime.bus.publisher(topology.bound(topology.changes), bind=True)
        self._hub = runtime.bus.hub(topology.bound(topology.whitelist), self._received, high_water=_HIGH_WATER)
        self._announce.hub = self._learner.hub = self._hub
        runtime.before_sample = self._gauge
        runtime.every(_SWEEP, self._sweep)
        self._note_pause()

    def said(self) -> list[Said]:
        """What commands said to this tracker, or the one before it."""
        return self._rules.said()

    # --- for Commands and Learner -------------------------------------------------------------------------------------

    def now(self) -> float:
        """In the clock of leases."""
        return self._clock()

    def end(self, addresses: Sequence[bytes], *, cut: bool) -> None:
        """Tell the forwarders that these leases are over, and whether to cut flows."""
        self._announce.ended(addresses, cut=cut)

    async def denied(self, pattern: str) -> None:
        """A name was answered that commands have denied meanwhile: what it has leased ends again."""
        await self._commands.denied([pattern])

    def begin(self, work: Coroutine[Any, Any, None]) -> bool:
        """Do something that waits for the store; False, and nothing done, where too much waits already."""
        if self._work >= _MAX_WORK:
            work.close()
            return False
        self._begin(work)
        return True

    def withhold(self, name: str, addresses: Sequence[bytes], seconds: float) -> None:
        """These were the answer for a resolver's name."""
        try:
            self._withheld.learn(name, addresses, seconds, self._clock())
        except LeasesFullError:
            self._counters.drop(Reason.WHITELIST_FULL)  # refused all the same, as not whitelisted

    def rules_changed(self) -> None:
        """Keep the rules, and tell dns_filter, `netstack status`, and other trackers on the same store."""
        self._store.rule(self._rules.said())
        if self._keep_rules(self._rules) is None:
            self._counters.notes.pop("rules", None)
        else:
            self._counters.notes["rules"] = "what commands allow and deny cannot be kept for a restart of the tracker"
        self._note_pause()
        self._announce.rules()

    def is_withheld(self, address: bytes) -> bool:
        """Whether it was the answer for a resolver's name."""
        return self._withheld.live(address, self._clock()) is not None

    def is_store_down(self) -> bool:
        """Whether the store does not answer."""
        return "store" in self._counters.notes

    # --- from the links -----------------------------------------------------------------------------------------------

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

    def _on_several(self, identity: bytes, several: Several) -> bool:
        for message in several.messages:
            self._received(identity, message)
        return True

    def _on_join(self, identity: bytes, join: Join) -> None:
        if join.version == VERSION:
            self._refused.pop(identity, None)
            self._announce.catch_up(identity, join)
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
        self._send(identity, Joined(VERSION, self._announce.instance, self._announce.epoch))

    def _on_check(self, identity: bytes, check: Check) -> bool:
        self._asked += 1
        now = self._clock()
        endpoint = Endpoint(check.address, check.port, check.protocol)
        lease = self._store.live(check.address)
        ruling = self._policy.without_lease(endpoint, now)
        if ruling is not None:
            if ruling.allowed and lease is not None:
                ruling = ruling._replace(names=lease.names)
        elif self._store.complete or (lease is not None and lease.until_for(check.client) > now):
            ruling = self._policy.with_lease(endpoint, self._known(check, lease, now))
        elif self._work >= _MAX_WORK:
            ruling = refusal(Reason.TRACKER_DOWN)
        else:
            self._begin(self._find(identity, check, endpoint, now))
            return True
        self._answer(identity, check, ruling, now)
        return True

    async def _find(self, identity: bytes, check: Check, endpoint: Endpoint, at: float) -> None:
        epoch = self._announce.epoch  # what is revoked while we ask makes the answer void
        try:
            async with asyncio.timeout(ANSWER_WITHIN):
                lease = await self._store.find(check.address)
        except (StoreDownError, TimeoutError):
            ruling = self._policy.with_lease(endpoint, self._known(check, None, at))
            # Encrypted DNS is refused for what it is; of anything else, nobody knows.
            if ruling.reason == Reason.NOT_WHITELISTED:
                ruling = refusal(Reason.TRACKER_DOWN)
        else:
            ruling = self._policy.with_lease(endpoint, self._known(check, lease, self._clock()))
        self._answer(identity, check, ruling, at, epoch)

    def _answer(self, identity: bytes, check: Check, ruling: Ruling, at: float, epoch: int | None = None) -> None:
        detail = " ".join(ruling.names[:1]) if ruling.allowed else ruling.reason
        if not ruling.allowed:
            endpoint = endpoint_text(Endpoint(check.address, check.port, check.protocol))
            self._lately.add(check.address, Refused(ruling.reason, endpoint, check.client, time.time()))
            if self._policy.audits:
                self._audited += 1
                _log.info("would be refused: %s", ruling.reason)
                _log.debug("would be refused: %s port %d", ip_address(check.address), check.port)
                ruling = audited(ruling)
            else:
                self._counters.drop(Reason(ruling.reason))
        names = list(ruling.names)
        epoch = self._announce.epoch if epoch is None else epoch
        self._send(identity, Verdict(check.request, ruling.allowed, ruling.reason, names, ruling.expires_in, epoch))
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
        seconds = max(self._config.ttl, _USED_FOR)
        for at in range(0, len(addresses), _TOUCHED_AT_ONCE):
            try:
                async with asyncio.timeout(ANSWER_WITHIN):
                    extended = await self._store.touch(addresses[at : at + _TOUCHED_AT_ONCE], seconds)
            except (StoreDownError, TimeoutError):
                return  # they are touched again while they are used
            self._announce.leased(extended, seconds)

    def _names(self, address: bytes) -> tuple[str, ...]:
        lease = self._store.live(address)
        return lease.names if lease is not None else ()

    def _on_name_refused(self, _: bytes, refused: NameRefused) -> bool:
        if len(refused.name) > MAX_NAME or len(refused.detail) > MAX_NAME:
            return False
        detail = Refused(refused.reason, refused.detail, refused.client, time.time())
        self._lately.add(normalize(refused.name), detail)
        return True

    def _on_command(self, identity: bytes, message: Message) -> bool:
        target = getattr(message, "target", "-")
        if len(target) > MAX_NAME or not (target or isinstance(message, ListLeases)):
            return False
        self._begin(self._commands.carry_out(message, partial(self._send, identity)))
        return True

    def _known(self, check: Check, lease: Lease | None, now: float) -> Known:
        withheld = self._withheld.live(check.address, now) is not None
        if lease is None:
            return Known(answers_dns=withheld)
        return Known(lease.names, lease.until_for(check.client) - now, withheld)

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
        self._store.tidy(_SWEPT)
        self._withheld.expire(now, _SWEPT)
        ended = self._rules.expire(now)
        if any(ended):
            self.rules_changed()
            self._begin(self._commands.over(ended))
        if ended.pause:
            _log.warning("the pause is over: what is not allowed is refused again")

    def _ruled(self, said: Sequence[Said]) -> None:
        """What commands said to all trackers on the same store."""
        heard = self._rules.hear(said, parse_rule, self._clock())
        if not heard.changed:
            self._store.rule(self._rules.said())  # the times, at least, may be others
            return
        self.rules_changed()
        for rule in heard.closed:
            self.end([rule.network.network_address.packed], cut=True)
        self._begin(self._end_denied(heard.denied))

    async def _end_denied(self, patterns: Sequence[str]) -> None:
        await self._commands.denied(patterns)

    def _note_pause(self) -> None:
        left = self._rules.paused_until - self._clock()
        if left > 0:
            until = time.strftime("%H:%M:%S", time.localtime(time.time() + left))
            self._counters.notes["pause"] = f"paused until {until}: nothing is refused; `netstack pause --end` ends it"
        else:
            self._counters.notes.pop("pause", None)

    def _gauge(self) -> None:
        self._counters.queue = self._work
        gauges = self._counters.gauges
        gauges["leases"] = len(self._store.leases)
        gauges["names"] = self._store.leases.name_count
        gauges["asked"] = self._asked
        gauges["learned"] = self._learner.learned
        if self._policy.audits:
            gauges["audit"] = self._audited


def _policy(config: Config, rules: Rules) -> Policy:
    parsed = map(parse_allowed_network, config.allow.networks)
    networks = [Rule(allowed.network, allowed.port, allowed.protocol) for allowed in parsed]
    dns = config.dns
    names = (config.allow.names, dns.private_names, dns.encrypted_names)
    return Policy(config.whitelist.mode, networks, *names, commanded=rules)


def _store(runtime: Runtime) -> Store:
    url = runtime.config.whitelist.store
    if url.startswith("memory:"):
        return MemoryStore(runtime.loop.time, Journal(runtime.topology.directory / "leases"))
    # Only here: importing redis takes longer than everything else that a start does.
    from services.tracker.redis_server import RedisServer  # noqa: PLC0415
    from services.tracker.redis_store import RedisStore  # noqa: PLC0415

    server = RedisServer(url, runtime.config.whitelist.prefix, runtime.config.whitelist.tls_ca)
    return RedisStore(server, runtime.loop.time, _Reporter(runtime.counters.notes))


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
