"""The link to the tracker: addresses are leased before the answer that holds them is released."""

import itertools
import logging
import math
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from netstack.packet.reason import Reason
from netstack.runtime.namerulings import NameRulings
from netstack.runtime.service import Runtime
from netstack.wire.messages import (
    VERSION,
    Confirm,
    Confirmed,
    Join,
    Joined,
    Learn,
    Learned,
    Message,
    NameRefused,
    NameRules,
    Several,
)

ANSWER_WITHIN: Final = 2.0
"""Seconds; a tracker that was killed is back within two, and a stub resolver asks again after five (resolv.conf(5))."""

MAX_PENDING: Final = 8192
MAX_WAITING: Final = 4096
"""Requests without room in the link's queue; a tracker that comes back is still told them, which does no harm."""

_HIGH_WATER: Final = 1024  # messages on each side of the link
_SWEEP: Final = 0.1  # seconds between looks at overdue requests
_JOIN: Final = 1.0  # seconds
_CONFIRM: Final = 0.25  # seconds
_AT_ONCE: Final = 64  # answers in one message; the tracker has others to serve, too
CONFIRMED_FOR: Final = 1.0
"""Seconds after it was asked for which the tracker's word that no lease was ended holds; less than ANSWER_WITHIN, in
which an acknowledgement may be overtaken by an ending as well."""

_log = logging.getLogger(__name__)


class Confirmation(NamedTuple):
    """Whether the leases are stored. max_ttl is in seconds; reason says why not."""

    ok: bool
    max_ttl: int
    reason: str
    lease: float = 0.0
    """Seconds for which they were stored, where that may be remembered until on_ending."""


class Wanted(NamedTuple):
    """Addresses that are to be leased, and for what."""

    names: Sequence[str]
    """The one that was asked, and those that it is an alias of, in order."""
    addresses: Sequence[bytes]
    ttl: int
    client: bytes
    trace_id: int
    spare: int = 0
    """Seconds by which the leases are to last longer."""


class _Pending(NamedTuple):
    deadline: float
    then: Callable[[Confirmation], None]


class Leases:
    """Asks the tracker to lease addresses, and hears that it has."""

    def __init__(self, runtime: Runtime, on_joined: Callable[[], None]) -> None:
        """on_joined is called each time a tracker that we did not know greets us."""
        self._runtime = runtime
        self._clock = runtime.loop.time
        self._on_joined = on_joined
        self._numbers = itertools.count(1)
        self._pending: dict[int, _Pending] = {}
        self._unsaid: list[Learn] = []
        self._instance = ""
        self._ending = ("", 0)
        self._confirmed_at = -math.inf
        self.on_ending: Callable[[], None] = lambda: None
        """Called when some lease may have been ended before its time."""
        self.rulings = NameRulings()
        """What commands allowed and denied."""
        self.lenient = False
        """While it lasts nothing is refused or removed."""
        self.on_rules: Callable[[], None] = lambda: None
        self._peer = runtime.bus.peer(
            runtime.topology.whitelist, runtime.worker, self._received, high_water=_HIGH_WATER
        )
        runtime.every(_SWEEP, self._sweep)
        runtime.every(_JOIN, self._join)
        runtime.every(_CONFIRM, self._confirm)
        self._join()

    @property
    def pending(self) -> int:
        """How many requests wait for the tracker."""
        return len(self._pending)

    def stand(self, now: float) -> bool:
        """Whether the tracker has said lately that what it confirmed since the last on_ending still holds."""
        return now - self._confirmed_at < CONFIRMED_FOR

    def learn(self, wanted: Wanted, then: Callable[[Confirmation], None]) -> None:
        """Have addresses leased; `then` is called once, within ANSWER_WITHIN seconds, with what came of it."""
        if self._peer.waiting >= MAX_WAITING or len(self._pending) >= MAX_PENDING:
            then(Confirmation(ok=False, max_ttl=0, reason="the tracker is behind"))
            return
        number = next(self._numbers)
        self._pending[number] = _Pending(self._clock() + ANSWER_WITHIN, then)
        names, addresses, ttl, client, trace_id, spare = wanted
        if not self._unsaid:
            self._runtime.loop.call_soon(self._say)
        self._unsaid.append(Learn(number, names[0], list(addresses), ttl, client, trace_id, list(names[1:]), spare))

    def _say(self) -> None:
        """What this turn of the loop has to be leased, in one message, or in several where it is much."""
        unsaid, self._unsaid = self._unsaid, []
        for at in range(0, len(unsaid), _AT_ONCE):
            learns = unsaid[at : at + _AT_ONCE]
            self._peer.send(learns[0] if len(learns) == 1 else Several([*learns]))

    def refused(self, name: str, client: bytes, reason: Reason, detail: str) -> None:
        """A client was refused a name; best effort, for `netstack why`."""
        if not self._peer.congested:
            self._peer.send(NameRefused(name, client, reason.value, detail))

    def _join(self) -> None:
        # Said again each second: a tracker that restarted does not know us.
        if not self._peer.congested:
            self._peer.send(Join(VERSION, self._runtime.stage, self._runtime.worker, 0))

    def _confirm(self) -> None:
        if self._instance and not self._peer.congested:
            self._peer.send(Confirm(self._clock()))

    def _confirmed(self, message: Confirmed) -> None:
        ending = (message.instance, message.epoch)
        if ending != self._ending:
            self._ending = ending
            self.on_ending()
        self._confirmed_at = max(self._confirmed_at, message.asked)

    def _received(self, message: Message) -> None:
        if isinstance(message, Learned):
            pending = self._pending.pop(message.request, None)
            if pending is not None:  # else it came too late: that client was refused, and the leases do no harm
                pending.then(Confirmation(message.ok, message.max_ttl, message.reason, message.lease))
        elif isinstance(message, Several):
            for each in message.messages:
                self._received(each)
        elif isinstance(message, Confirmed):
            self._confirmed(message)
        elif isinstance(message, Joined):
            self._joined(message)
        elif isinstance(message, NameRules):
            self.rulings = NameRulings(message.allowed, message.denied)
            self.lenient = message.lenient
            self.on_rules()

    def _joined(self, joined: Joined) -> None:
        if joined.version != VERSION:
            _log.error("tracker speaks version %d, this process %d: not used", joined.version, VERSION)
            self._runtime.counters.drop(Reason.WRONG_VERSION)
        elif joined.instance != self._instance:
            self._instance = joined.instance
            self._on_joined()

    def _sweep(self) -> None:
        now = self._clock()
        for number, pending in list(self._pending.items()):
            if pending.deadline > now:
                break  # they are in the order in which they were asked
            del self._pending[number]
            pending.then(Confirmation(ok=False, max_ttl=0, reason=f"no answer within {ANSWER_WITHIN:.0f} s"))
