"""The states of a connection, and what they have in common. No I/O, no clock."""

from enum import Enum
from typing import Final


class State(Enum):
    """RFC 9293 section 3.3.2, and two before it: waiting for the tracker, and for the host socket."""

    # That of Enum is a function of Python that hashes the name; states are looked up several times a segment.
    __hash__ = object.__hash__

    VERDICT = "verdict"
    CONNECTING = "connecting"
    SYN_RECEIVED = "syn-received"
    ESTABLISHED = "established"
    FIN_WAIT_1 = "fin-wait-1"
    FIN_WAIT_2 = "fin-wait-2"
    CLOSE_WAIT = "close-wait"
    CLOSING = "closing"
    LAST_ACK = "last-ack"
    TIME_WAIT = "time-wait"
    CLOSED = "closed"


CLIENT_SENDS: Final = frozenset({State.ESTABLISHED, State.FIN_WAIT_1, State.FIN_WAIT_2})
HOST_SENDS: Final = frozenset({State.ESTABLISHED, State.CLOSE_WAIT})
ENDED: Final = frozenset({State.TIME_WAIT, State.CLOSED})
SILENT: Final = frozenset({State.VERDICT, State.CONNECTING, State.CLOSED})
NO_TIMEOUT: Final = frozenset({State.VERDICT, State.CONNECTING, State.TIME_WAIT, State.CLOSED})
AFTER_FIN: Final = {
    State.ESTABLISHED: State.CLOSE_WAIT,
    State.FIN_WAIT_1: State.CLOSING,
    State.FIN_WAIT_2: State.TIME_WAIT,
}
