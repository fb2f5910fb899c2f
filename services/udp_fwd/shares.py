"""Who makes room when a table of mappings is full. No I/O, no clock.

Mappings are kept with the idlest first, those that nobody answered yet apart from the conversations; all of them, and
those of each client by itself. When the table is full, a client that has its share of it or more (the table divided by
the clients in it) loses its own idlest; so no client can take another's room, and a flood of new endpoints pushes out
other unanswered ones before any conversation.
"""

from collections import OrderedDict
from typing import Final, Generic, Protocol, TypeVar

from netstack.packet.reason import Reason

_LOOKED_AT: Final = 64  # conversations, in search of one whose client has more than its share


class Kept(Protocol):
    """What is kept here."""

    key: bytes
    client: bytes
    answered: bool


Item = TypeVar("Item", bound=Kept)


class _Order(Generic[Item]):
    """The idlest first."""

    __slots__ = ("conversations", "unanswered")

    def __init__(self) -> None:
        self.unanswered: OrderedDict[bytes, Item] = OrderedDict()
        self.conversations: OrderedDict[bytes, Item] = OrderedDict()

    def __len__(self) -> int:
        return len(self.unanswered) + len(self.conversations)

    def table(self, item: Item) -> OrderedDict[bytes, Item]:
        return self.conversations if item.answered else self.unanswered

    def idlest(self) -> Item:
        return next(iter((self.unanswered or self.conversations).values()))


class Shares(Generic[Item]):
    """Mappings by how long they have been idle."""

    def __init__(self) -> None:
        self._all: _Order[Item] = _Order()
        self._by_client: dict[bytes, _Order[Item]] = {}

    def __len__(self) -> int:
        return len(self._all)

    def add(self, item: Item) -> None:
        """One more, not yet answered, which is the least idle."""
        own = self._by_client.get(item.client)
        if own is None:
            own = self._by_client[item.client] = _Order()
        self._all.unanswered[item.key] = own.unanswered[item.key] = item

    def touch(self, item: Item) -> None:
        """It is in use: the least idle of its kind."""
        self._all.table(item).move_to_end(item.key)
        self._by_client[item.client].table(item).move_to_end(item.key)

    def answer(self, item: Item) -> None:
        """Somebody answered; sets item.answered."""
        item.answered = True
        for order in (self._all, self._by_client[item.client]):
            del order.unanswered[item.key]
            order.conversations[item.key] = item

    def remove(self, item: Item) -> None:
        """It has ended."""
        own = self._by_client[item.client]
        for order in (self._all, own):
            del order.table(item)[item.key]
        if not len(own):
            del self._by_client[item.client]

    def idlest(self, *, answered: bool) -> Item | None:
        """The idlest conversation, or the idlest that nobody answered."""
        table = self._all.conversations if answered else self._all.unanswered
        return next(iter(table.values()), None)

    def victim(self, client: bytes) -> tuple[Item, Reason]:
        """Which is to make room for one of this client, and why that one. The table is full, not empty."""
        own = self._by_client.get(client)
        clients = len(self._by_client) + (own is None)
        share = len(self._all) // clients
        if own is not None and len(own) >= share:
            return own.idlest(), Reason.FLOW_TABLE_FULL if clients == 1 else Reason.CLIENT_LIMIT
        if self._all.unanswered:
            return self._all.idlest(), Reason.FLOW_TABLE_FULL
        for _, item in zip(range(_LOOKED_AT), self._all.conversations.values(), strict=False):
            if len(self._by_client[item.client]) > share:
                return item, Reason.CLIENT_LIMIT
        return self._all.idlest(), Reason.FLOW_TABLE_FULL
