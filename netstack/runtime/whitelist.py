"""A forwarder's side of the whitelist link: ask the replica, else the tracker, and never wait for long.

Verdicts and changes of leases come on two sockets, so either may overtake the other. Each revocation has a number, the
epoch, and each verdict that of the last revocation it knew: a yes that is older than a revocation of its address is
asked for again. A revocation that was lost (a full queue) leaves a gap; the tracker, told of it, says it again.
"""

import itertools
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

from netstack.packet.reason import Reason
from netstack.runtime.leased_names import LeasedNames
from netstack.runtime.replica import Question, Replica
from netstack.runtime.service import Runtime
from netstack.wire.messages import (
    VERSION,
    Check,
    Join,
    Joined,
    LeaseChange,
    Message,
    Touch,
    Verdict,
)

ANSWER_WITHIN: Final = 2.0
"""Seconds; a tracker killed is back within two, and a client's SYN is sent again after one."""

_MAX_ASKED: Final = 65536
_ANYBODY: Final = b""
"""The client of all questions where whitelist.scope is "all": what one asked need not be asked for another."""

_SWEEP: Final = 0.25  # seconds between looks at overdue questions and at what has ended
_SWEPT: Final = 4096  # entries looked at each time; 1 ms or so
_TOUCH: Final = 1.0  # seconds between reports of the addresses in use
_JOIN: Final = 1.0
_HOUSEKEEPING: Final = 30.0

_log = logging.getLogger(__name__)


class Decision(NamedTuple):
    """Whether a flow may go on; where it may not, why."""

    allowed: bool
    reason: str
    names: tuple[str, ...]


_YES: Final = Decision(allowed=True, reason="", names=())
_TRACKER_DOWN: Final = Decision(allowed=False, reason=Reason.TRACKER_DOWN.value, names=())


@dataclass(slots=True)
class _Asked:
    deadline: float
    client: bytes
    question: Question
    then: list[Callable[[Decision], None]]
    not_before: int = 0
    """A yes of an earlier epoch is void."""


class Whitelist:
    """Answers "may this client reach that endpoint?" for one forwarder."""

    def __init__(
        self,
        runtime: Runtime,
        *,
        on_joined: Callable[[], None] = lambda: None,
        on_revoked: Callable[[list[bytes]], None] = lambda _: None,
    ) -> None:
        self._runtime = runtime
        self._clock = runtime.loop.time
        self._on_joined = on_joined
        self._on_revoked = on_revoked
        self.replica = Replica()
        self._by_client = runtime.config.whitelist.scope == "client"
        self.names: LeasedNames | None = None
        """Where the owner puts it: kept up to date with the names of the addresses."""
        self._numbers = itertools.count(1)
        self._asked: dict[int, _Asked] = {}
        self._open: dict[Question, int] = {}
        self._touched: set[bytes] = set()
        self._instance = ""
        self._epoch = 0
        self._understood = True
        self._peer = runtime.bus.peer(runtime.topology.whitelist, runtime.worker, self._received)
        self._changes = runtime.bus.subscriber(runtime.topology.changes, [b""], self._changed)
        runtime.every(_SWEEP, self._sweep)
        runtime.every(_HOUSEKEEPING, self._expire)
        runtime.every(_TOUCH, self._send_touched)
        runtime.every(_JOIN, self._join)
        self._join()

    def check(
        self,
        client: bytes,
        address: bytes,
        port: int,
        protocol: int,
        trace_id: int,
        then: Callable[[Decision], None],
    ) -> None:
        """Call `then` with the decision: at once on a hit, within ANSWER_WITHIN seconds otherwise."""
        question = (client if self._by_client else _ANYBODY, address, port, protocol)
        if self.replica.allows(question, self._clock()):
            then(_YES)
            return
        self.ask(client, address, port, protocol, trace_id, then)

    def ask(
        self,
        client: bytes,
        address: bytes,
        port: int,
        protocol: int,
        trace_id: int,
        then: Callable[[Decision], None],
    ) -> None:
        """Call `then` with the tracker's own decision, within ANSWER_WITHIN seconds: it has all names it knows."""
        question = (client if self._by_client else _ANYBODY, address, port, protocol)
        number = self._open.get(question)
        if number is not None:
            self._asked[number].then.append(then)
            return
        # A tracker that has been away for long leaves the link congested: nothing more is asked until it is back.
        if len(self._asked) >= _MAX_ASKED or self._peer.congested:
            then(_TRACKER_DOWN)
            return
        number = next(self._numbers)
        self._asked[number] = _Asked(self._clock() + ANSWER_WITHIN, client, question, [then])
        self._open[question] = number
        self._peer.send(Check(number, client, address, port, protocol, trace_id))

    def use(self, address: bytes) -> None:
        """A flow uses this address: its lease must go on. Cheap enough to be called for every batch."""
        if self.replica.use(address, self._clock()):
            self._touched.add(address)

    def _expire(self) -> None:
        if self.names is not None:
            self.names.expire(self._clock())

    def _send_touched(self) -> None:
        if self._touched and not self._peer.congested:
            self._peer.send(Touch(list(self._touched)))
            self._touched.clear()

    def _join(self) -> None:
        # Said again each second: a tracker that restarted knows us no more, and its answer shows that it is there.
        if not self._peer.congested:
            self._peer.send(Join(VERSION, self._runtime.stage, self._runtime.worker, self._epoch))

    def _received(self, message: Message) -> None:
        if isinstance(message, Joined):
            self._joined(message)
        elif not self._understood:
            return
        elif isinstance(message, Verdict):
            self._decided(message)
        elif isinstance(message, LeaseChange):
            # What we missed, said again; it is all there is to be told, so that no gap is left.
            self._end(message)
            self._epoch = max(self._epoch, message.epoch)

    def _joined(self, joined: Joined) -> None:
        if joined.instance == self._instance:
            return
        self._instance = joined.instance
        self._understood = joined.version == VERSION
        if self._understood:
            self._epoch = joined.epoch
            self._on_joined()
        else:
            _log.error("tracker speaks version %d, this process %d: not believed", joined.version, VERSION)
            self._runtime.counters.drop(Reason.WRONG_VERSION)

    def _decided(self, verdict: Verdict) -> None:
        asked = self._asked.get(verdict.request)
        if asked is None:
            return  # it came after its time, and the flow was refused
        if verdict.allowed and verdict.epoch < asked.not_before:
            self._peer.send(Check(verdict.request, asked.client, *asked.question[1:], 0))
            return
        del self._asked[verdict.request]
        del self._open[asked.question]
        if verdict.allowed:
            self.replica.allow_endpoint(asked.question, verdict.expires_in, self._clock())
            if self.names is not None:
                self.names.learn([asked.question[1]], verdict.names, verdict.expires_in, self._clock())
        decision = Decision(verdict.allowed, verdict.reason, tuple(verdict.names))
        for then in asked.then:
            then(decision)

    def _changed(self, _: bytes, message: Message) -> None:
        if not isinstance(message, LeaseChange) or not self._understood:
            return
        if message.expires_in > 0:
            self.replica.lease(message.addresses, message.expires_in, self._clock())
            if self.names is not None:
                self._named(self.names, message)
            return
        self._end(message)
        if message.epoch == self._epoch + 1:
            self._epoch = message.epoch  # else one was lost: the next Join says so

    def _end(self, change: LeaseChange) -> None:
        self.replica.revoke(change.addresses)
        if self.names is not None:
            self.names.revoke(change.addresses)
        gone = set(change.addresses)
        for asked in self._asked.values():
            if asked.question[1] in gone:
                asked.not_before = max(asked.not_before, change.epoch)
        if change.expires_in == 0:
            self._on_revoked(change.addresses)

    def _named(self, names: LeasedNames, change: LeaseChange) -> None:
        now = self._clock()
        for address, name in zip(change.addresses, change.names, strict=False):
            names.learn([address], [name], change.expires_in, now)

    def _sweep(self) -> None:
        now = self._clock()
        self.replica.expire(now, _SWEPT)
        for number, asked in list(self._asked.items()):
            if asked.deadline > now:
                break  # they are in the order in which they were asked
            del self._asked[number]
            del self._open[asked.question]
            for then in asked.then:
                then(_TRACKER_DOWN)
