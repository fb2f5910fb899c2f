"""Path MTUs of clients that are not on this very machine (RFC 1191, RFC 8201). No I/O, no clock.

A router between the TUN and such a client says that a segment was too big for the next link. It is believed where it
quotes a segment that is under way (RFC 5927 section 4.1), since only who saw that segment knows its number. Later
connections of the client begin with what was learned; none is made to find it out again by losing its first flight.
"""

from collections.abc import Collection
from typing import Final

from netstack.packet.icmp_error import IcmpError
from netstack.packet.seqnum import MASK
from services.tcp_fwd.sending import Sender

LASTS: Final = 600.0  # seconds; RFC 8201 section 5.4 recommends ten minutes until a larger size is tried
MOST: Final = 4096  # clients


class Paths:
    """What the paths to clients take."""

    def __init__(self, own: Collection[bytes]) -> None:
        """own: addresses of the TUN itself, of which nothing is kept; who is behind them by NAT has another path."""
        self._own = own
        self._known: dict[bytes, tuple[int, float]] = {}  # octets, and until when; the oldest first

    def learn(self, client: bytes, mtu: int, now: float) -> None:
        """The path to a client takes packets of mtu octets."""
        if client in self._own:
            return
        self._known.pop(client, None)
        if len(self._known) >= MOST:
            del self._known[next(iter(self._known))]
        self._known[client] = mtu, now + LASTS

    def mtu(self, client: bytes, now: float) -> int:
        """What is known of the path to a client, in octets; 0 where nothing is."""
        known = self._known.get(client)
        if known is None:
            return 0
        if now < known[1]:
            return known[0]
        del self._known[client]
        return 0


def is_under_way(error: IcmpError, sender: Sender) -> bool:
    """Whether the segment that an error quotes has been sent and is not acknowledged."""
    return (error.seq - sender.snd_una) & MASK < (sender.snd_nxt - sender.snd_una) & MASK
