"""What a connection tells its shell to do, in order. No I/O, no clock."""

from typing import Final, NamedTuple

from netstack.packet.errqueue import SocketError
from netstack.packet.reason import Reason


class Connect(NamedTuple):
    """Connect the host socket, without blocking."""


class Write:
    """Give these octets to the host socket, in order; report what it took with `socket_took`."""

    __slots__ = ("data",)

    def __init__(self, data: bytes | memoryview) -> None:
        self.data = data


class ShutdownWrite(NamedTuple):
    """Everything is written, and more may come: close the sending side of the host socket."""


class Abort(NamedTuple):
    """Close the host socket so that the far end sees a reset."""


class Drop(NamedTuple):
    """Count what was dropped, for this reason."""

    reason: Reason


class Emit:
    """Send the frame that these two make to the client."""

    __slots__ = ("head", "payload")

    def __init__(self, head: bytes, payload: bytes | memoryview = b"") -> None:
        self.head = head
        """The vnet, IP and TCP header."""
        self.payload = payload
        """Not joined to it: the shell may have it where it can put the head in front."""

    @property
    def frame(self) -> bytes:
        """Both in one piece, a copy."""
        return b"".join((self.head, self.payload))


class Unreachable(NamedTuple):
    """Answer the SYN with an ICMP error, as a router would."""

    reason: Reason
    error: SocketError | None
    """What the network said; None where this host alone found out."""


class Finish(NamedTuple):
    """The connection is over, for this reason if it did not end by itself: close the host socket, and forget it."""

    reason: Reason | None


CONNECT: Final = Connect()
SHUTDOWN_WRITE: Final = ShutdownWrite()
ABORT: Final = Abort()
FINISH: Final = Finish(None)
"""Of the connection that ended by itself."""

Command = Connect | Write | ShutdownWrite | Abort | Drop | Emit | Unreachable | Finish
