"""What the tracker tells without being asked: leases and their endings to the forwarders, rulings to dns_filter."""

import secrets
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from netstack.wire.bus import Hub, Publisher
from netstack.wire.messages import Confirm, Confirmed, Join, LeaseChange, NameRules
from services.tracker.policy import Policy
from services.tracker.store import Store

LEASE_TOPIC: Final = b"lease"

_MAX_ENDINGS: Final = 1024  # changes that are said again to a forwarder that missed them
_MISSED_AFTER: Final = 0.5  # seconds; what was published since may be on its way
_FORWARDERS: Final = ("tcp_fwd", "udp_fwd")


class Announcer:
    """Speaks on the links `hub` and `changes`, which are to be set before anything else."""

    hub: Hub
    changes: Publisher

    def __init__(
        self,
        clock: Callable[[], float],
        soon: Callable[[Callable[[], None]], object],
        store: Store,
        policy: Policy,
        *,
        shared: bool,
    ) -> None:
        """`soon` calls something when this turn of the loop is over.

        `shared`: a lease is open for every client, so that forwarders may decide by themselves.
        """
        self._clock = clock
        self._soon = soon
        self._store = store
        self._policy = policy
        self._shared = shared
        self.instance = secrets.token_hex(8)
        """Of this tracker, another one after each restart."""
        # Above every epoch of the tracker before this one, since CLOCK_MONOTONIC only grows.
        self.epoch = int(clock() * 1e6)
        """Of the last ending."""
        self._endings: deque[tuple[float, LeaseChange]] = deque(maxlen=_MAX_ENDINGS)
        self._filters: dict[bytes, None] = {}
        self._leased: dict[float, LeaseChange] = {}
        self.before_ending: Callable[[], None] = lambda: None
        """Called before an ending is told: what was true until then must not be heard behind it."""

    def leased(self, addresses: Sequence[bytes], seconds: float) -> None:
        """Tell the forwarders of leases on which they may decide by themselves, all of this turn of the loop at once.

        To be woken, and to read a message, costs each of them several times what the change does.
        """
        if not self._shared:
            return  # they do not know for whom: they ask
        if not self._leased:
            self._soon(self._publish)
        change = self._leased.get(seconds)
        if change is None:
            change = self._leased[seconds] = LeaseChange([], [], float(seconds), self.epoch)
        for address in addresses:
            lease = self._store.live(address)
            if lease is not None and self._policy.lease_suffices(address, lease.names):
                change.addresses.append(address)
                change.names.append(lease.names[-1])

    def _publish(self) -> None:
        changes, self._leased = self._leased, {}
        for change in changes.values():
            if change.addresses:
                self.changes.publish(LEASE_TOPIC, change)

    def ended(self, addresses: Sequence[bytes], *, cut: bool) -> None:
        """Tell the forwarders that these leases are over, and whether to cut flows."""
        self._publish()
        self.before_ending()
        self.epoch += 1
        change = LeaseChange(list(addresses), [], 0.0 if cut else -1.0, self.epoch)
        self._endings.append((self._clock(), change))
        self.changes.publish(LEASE_TOPIC, change)
        self._tell_filters(Confirmed(0.0, self.instance, self.epoch))

    def confirm(self, identity: bytes, message: Confirm) -> bool:
        """Tell a dns_filter whether the leases that it was told of still stand."""
        self.hub.send(identity, Confirmed(message.asked, self.instance, self.epoch))
        return True

    def rules(self) -> None:
        """Tell every dns_filter what commands said of names."""
        self._tell_filters(self._name_rules())

    def catch_up(self, identity: bytes, join: Join) -> None:
        """Say what whoever joins has to know before it is told that it has joined."""
        if join.stage == "dns_filter":
            if self.hub.send(identity, self._name_rules()):
                self._filters[identity] = None
        elif join.stage in _FORWARDERS and join.epoch and self._endings:
            missed = [(at, change) for at, change in self._endings if change.epoch > join.epoch]
            if missed and missed[0][0] < self._clock() - _MISSED_AFTER:
                for _, change in missed:
                    self.hub.send(identity, change)

    def _tell_filters(self, message: NameRules | Confirmed) -> None:
        for identity in list(self._filters):
            if not self.hub.send(identity, message):
                del self._filters[identity]  # it is told when it joins, or asks, again: within a second

    def _name_rules(self) -> NameRules:
        rules = self._policy.commanded
        paused = rules.paused_until > self._clock()
        return NameRules(rules.names.patterns(allowed=True), rules.names.patterns(allowed=False), paused)
