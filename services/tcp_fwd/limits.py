"""How much one worker takes on: flows, half-open flows, octets that wait. No I/O, no clock.

Theory of operation. A SYN costs its sender nothing, and costs us a socket: half-open flows have a limit of their own,
and beyond it the oldest one of the client that has most of them gives way without a word, as if its SYN had been lost.
So who floods pushes out his own, and a client that is real asks again. A flow counts as half-open from its SYN until
the client has acknowledged ours, which is sent only when the far end has accepted. What is established is never pushed
out: beyond those limits a SYN is refused.

From a quarter of that limit on, SYNs wait before they are opened: to keep one costs a tenth of what a flow does, so
that a flood does not hold up the flows that there are. They are opened client by client in turn, of each the newest
first, since only that one is known to be waited for.

Octets wait here for a host socket that does not take them, for a client that does not acknowledge them, or for those
before them. Each flow may hold a sixteenth of what all of them leave free (Choudhury and Hahne, Dynamic Queue Length
Thresholds, 1998): far more than a flow's own limits as long as there is room, and an equal share when many are hungry.
So the sum never reaches the limit, but for windows that were offered before; what these let in beyond it is dropped,
and sent again. Octets out of order have a quarter of the room, shared alike: who sends only these keeps nobody else
from what is in order.
"""

from typing import Final

from netstack.packet.reason import Reason

SHARE: Final = 16
"""One part in so many of the free room is a flow's share: n hungry flows have the limit divided by n + 16 each."""

FLOOR: Final = 64 << 10
"""Octets that a flow may hold in any case: a segment of the largest size."""


AHEAD: Final = 4
"""One part in so many of the room for octets may be out of order."""

PRESSED: Final = 4
"""One part in so many of the half-open flows' limit: from there on SYNs wait for their turn."""


class ByClient:
    """Keys of flows that have to give way, by client."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._flows: dict[bytes, dict[bytes, None]] = {}  # by client, each the oldest first
        self._clients: dict[int, dict[bytes, None]] = {}  # by how many flows they have; who came to that first is first
        self._most = 0
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def full(self) -> bool:
        """Whether one has to give way before another is added."""
        return self._count >= self._limit

    def add(self, client: bytes, key: bytes) -> None:
        """A flow was opened."""
        flows = self._flows.setdefault(client, {})
        flows[key] = None
        self._count += 1
        self._move(client, len(flows) - 1, len(flows))

    def remove(self, client: bytes, key: bytes) -> bool:
        """A flow is established, or over; False where it was not half-open any more."""
        flows = self._flows.get(client)
        if flows is None or key not in flows:
            return False
        del flows[key]
        self._count -= 1
        self._move(client, len(flows) + 1, len(flows))
        if not flows:
            del self._flows[client]
        return True

    def newest(self, client: bytes) -> bytes:
        """The key that this client, which has one, added last."""
        return next(reversed(self._flows[client]))

    def has(self, client: bytes) -> bool:
        """Whether this client has any."""
        return client in self._flows

    def oldest_of_heaviest(self) -> bytes | None:
        """The key of the flow that is to give way: the oldest of the client that has most."""
        if not self._count:
            return None
        client = next(iter(self._clients[self._most]))
        return next(iter(self._flows[client]))

    def _move(self, client: bytes, before: int, after: int) -> None:
        groups = self._clients
        if before and after and after not in groups and len(groups[before]) == 1:
            groups[after] = groups.pop(before)
        else:
            if before:
                group = groups[before]
                del group[client]
                if not group:
                    del groups[before]
            if after:
                groups.setdefault(after, {})[client] = None
        if after > self._most or self._most not in self._clients:
            self._most = after


class Limits:
    """The flows of one worker, counted."""

    def __init__(self, max_flows: int, max_per_client: int, max_half_open: int) -> None:
        self._max_flows = max_flows
        self._max_per_client = max_per_client
        self.half_open = ByClient(min(max_half_open, max_flows))
        self._pressed = max(min(max_half_open, max_flows) // PRESSED, 1)
        self._flows: dict[bytes, int] = {}  # by client
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def pressed(self) -> bool:
        """Whether SYNs are to wait for their turn."""
        return len(self.half_open) >= self._pressed

    def gives_way(self) -> bytes | None:
        """The key of the half-open flow that is to end before another may be opened; None where there is room."""
        if self.half_open.full or (self._count >= self._max_flows and len(self.half_open)):
            return self.half_open.oldest_of_heaviest()
        return None

    def refusal(self, client: bytes) -> Reason | None:
        """Why this client may not open another flow; None where it may, though a half-open one may have to give way."""
        if self._flows.get(client, 0) >= self._max_per_client:
            return Reason.CLIENT_LIMIT
        if self._count >= self._max_flows and not len(self.half_open):
            return Reason.FLOW_TABLE_FULL
        return None

    def opened(self, client: bytes, key: bytes) -> None:
        """A SYN opened a flow."""
        self._count += 1
        self._flows[client] = self._flows.get(client, 0) + 1
        self.half_open.add(client, key)

    def established(self, client: bytes, key: bytes) -> None:
        """The client has acknowledged our SYN."""
        self.half_open.remove(client, key)

    def closed(self, client: bytes, key: bytes) -> None:
        """A flow is over, wherever it was."""
        self.half_open.remove(client, key)
        self._count -= 1
        left = self._flows[client] - 1
        if left:
            self._flows[client] = left
        else:
            del self._flows[client]


class Waiting:
    """The SYNs that wait for their turn, each with its frame and its trace id."""

    def __init__(self, limit: int) -> None:
        self._keys = ByClient(limit)
        self._syns: dict[bytes, tuple[bytes, bytes, int]] = {}
        self._turns: dict[bytes, None] = {}  # the clients that have some, in the order of their turns

    def __len__(self) -> int:
        return len(self._syns)

    def __contains__(self, key: bytes) -> bool:
        return key in self._syns

    def add(self, client: bytes, key: bytes, frame: bytes, trace_id: int) -> tuple[bytes, int] | None:
        """Let one wait; gives the key and the trace id of another that had to be dropped for it.

        One that comes again takes its own place.
        """
        self.discard(key)
        drop = self._keys.oldest_of_heaviest() if self._keys.full else None
        dropped = None
        if drop is not None:
            dropped = drop, self._syns[drop][2]
            self.discard(drop)
        self._keys.add(client, key)
        self._syns[key] = (client, frame, trace_id)
        self._turns.setdefault(client)
        return dropped

    def take(self) -> tuple[bytes, int]:
        """The frame whose turn it is, and its trace id. There must be one."""
        client = next(iter(self._turns))
        key = self._keys.newest(client)
        _, frame, trace_id = self._syns[key]
        self.discard(key)
        if client in self._turns:  # it has more, which come after those of all others
            del self._turns[client]
            self._turns[client] = None
        return frame, trace_id

    def discard(self, key: bytes) -> None:
        """It is not wanted any more, if it waits."""
        syn = self._syns.pop(key, None)
        if syn is None:
            return
        client = syn[0]
        self._keys.remove(client, key)
        if not self._keys.has(client):
            del self._turns[client]


class Buffers:
    """The octets that wait in one worker."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        """Octets."""
        self.used = 0
        """Octets; the owner adds and subtracts what each flow holds more or less."""
        self.ahead = 0
        """Those of them that came before their turn."""

    @property
    def full(self) -> bool:
        """Whether nothing more is to be taken in, and no flow opened."""
        return self.used >= self.limit

    def share(self) -> int:
        """Octets that one flow may hold in each direction."""
        return max((self.limit - self.used) // SHARE, FLOOR)

    def take_ahead(self, held: int, octets: int) -> bool:
        """Whether a flow that holds so many octets out of order may hold so many more; counts them if so."""
        if self.full or held + octets > (self.limit // AHEAD - self.ahead) // SHARE:
            return False
        self.ahead += octets
        self.used += octets
        return True

    def give_ahead(self, octets: int) -> None:
        """So many are in their turn, or no longer wanted."""
        self.ahead -= octets
        self.used -= octets
