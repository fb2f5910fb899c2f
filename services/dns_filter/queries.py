"""The bridge between clients and upstreams: who waits for which question. No I/O, no clock.

Theory of operation. A question in flight is a Flight: equal questions of any clients join it and are asked once. A
client is told apart by its endpoint and the id of its query, so that the same query sent again while it is in flight is
answered once. A Flight ends in one of three ways: the upstream answered, every upstream failed, or its time ran out;
whoever waits for it is handed back to be answered, exactly once. What comes for a Flight that has ended is late and
changes nothing. Which answer belongs to which question that was sent to an upstream is decided there (query.answers):
by the id, drawn at random for each attempt, and by the question.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final, NamedTuple

from services.dns_filter.query import Key, Query

MAX_FLIGHTS: Final = 2048  # questions; more than 400 a second when every upstream is silent for 5 s
MAX_WAITING: Final = 8192  # clients, over all questions


class Client(NamedTuple):
    """Who asked, and how to answer."""

    address: bytes
    port: int
    udp: bool
    reply: Callable[[bytes], None]
    """Hands it a message."""
    trace_id: int = 0


class Asked(NamedTuple):
    """One query of one client."""

    query: Query
    client: Client


class Outcome(Enum):
    """What became of a query that was given to the bridge."""

    ASK = auto()
    """The question is new: ask an upstream."""
    JOINED = auto()
    """It is being asked already."""
    REPEATED = auto()
    """This client's same query is in flight already: say nothing."""
    FULL = auto()
    """No room: refuse."""


@dataclass(slots=True)
class Flight:
    """A question in flight."""

    number: int
    query: Query
    deadline: float
    waiting: list[Asked] = field(default_factory=list)
    clients: set[tuple[bytes, int, int]] = field(default_factory=set)
    """Address, port and id of those who wait and asked over UDP."""


class Bridge:
    """The questions in flight."""

    def __init__(self, timeout: float, max_flights: int = MAX_FLIGHTS, max_waiting: int = MAX_WAITING) -> None:
        """timeout is how many seconds a question may be in flight."""
        self._timeout = timeout
        self._max_flights = max_flights
        self._max_waiting = max_waiting
        self._number = 0
        self._flights: dict[int, Flight] = {}  # in the order of their deadlines
        self._by_key: dict[Key, Flight] = {}
        self._waiting = 0

    def __len__(self) -> int:
        return len(self._flights)

    def ask(self, asked: Asked, now: float) -> tuple[Outcome, Flight | None]:
        """A client asks. After ASK the caller asks an upstream and then calls `end` with the flight's number."""
        key = asked.query.key
        flight = self._by_key.get(key)
        client = (asked.client.address, asked.client.port, asked.query.id)
        # On a stream each query is answered, since the client would wait for each (RFC 7766 section 6.2.1.1).
        if flight is not None and asked.client.udp and client in flight.clients:
            return Outcome.REPEATED, flight
        if self._waiting >= self._max_waiting or (flight is None and len(self._flights) >= self._max_flights):
            return Outcome.FULL, None
        outcome = Outcome.JOINED
        if flight is None:
            outcome = Outcome.ASK
            flight = self._begin(asked.query, now)
        self._waiting += 1
        flight.waiting.append(asked)
        if asked.client.udp:
            flight.clients.add(client)
        return outcome, flight

    def refresh(self, query: Query, now: float) -> Flight | None:
        """Ask a question for which nobody waits; None where it is being asked already, or there is no room.

        Else the caller does as after ASK.
        """
        if query.key in self._by_key or len(self._flights) >= self._max_flights:
            return None
        return self._begin(query, now)

    def take_waiting(self, number: int) -> list[Asked]:
        """Who waits for a question: they are the caller's to answer now. The question stays in flight."""
        flight = self._flights.get(number)
        if flight is None:
            return []
        waiting, flight.waiting = flight.waiting, []
        flight.clients.clear()
        self._waiting -= len(waiting)
        return waiting

    def _begin(self, query: Query, now: float) -> Flight:
        self._number += 1
        flight = Flight(self._number, query, now + self._timeout)
        self._flights[flight.number] = self._by_key[query.key] = flight
        return flight

    def end(self, number: int) -> list[Asked]:
        """The question was answered, or cannot be: who waits for it. Nobody where its time has run out before."""
        flight = self._flights.pop(number, None)
        if flight is None:
            return []
        del self._by_key[flight.query.key]
        self._waiting -= len(flight.waiting)
        return flight.waiting

    def next_timeout(self) -> float | None:
        """When to call handle_timeout; None while nothing is in flight."""
        first = next(iter(self._flights.values()), None)
        return None if first is None else first.deadline

    def handle_timeout(self, now: float) -> list[Asked]:
        """Who has waited for too long, and gets SERVFAIL."""
        late: list[Asked] = []
        while self._flights:
            flight = next(iter(self._flights.values()))
            if flight.deadline > now:
                break
            late += self.end(flight.number)
        return late
