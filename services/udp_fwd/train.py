"""Datagrams of one batch that can leave in one call: equal ones, one after the other, to one destination. No I/O.

UDP_SEGMENT hands a train of datagrams to the kernel at once (udp(7)): all of one size, except that the last may be
shorter. What leaves the host is the same datagrams in the same order.
"""

from collections.abc import Iterator
from typing import Generic

from services.udp_fwd.flows import Destination, Socket
from services.udp_fwd.lane import MAX_OCTETS, MAX_SEGMENTS
from services.udp_fwd.outgoing import Header, Outgoing


class Train(Generic[Socket]):
    """What has been collected to go to one destination."""

    __slots__ = ("_open", "_size", "destination", "header", "octets", "payloads")

    def __init__(self, destination: Destination[Socket], outgoing: Outgoing) -> None:
        self.destination = destination
        self.header: Header = outgoing.header
        self.payloads = list(outgoing.payloads)
        self.octets = sum(map(len, self.payloads))
        self._size = len(self.payloads[0])
        self._open = self._size == len(self.payloads[-1]) > 0

    def couple(self, destination: Destination[Socket], outgoing: Outgoing) -> bool:
        """Add one more packet; False where it does not fit, and then a train of its own is due."""
        if len(outgoing.payloads) > 1:  # the client's own trains are long enough
            return False
        octets = len(outgoing.payloads[0])
        if (
            not self._open
            or destination is not self.destination
            or outgoing.header != self.header
            or not 0 < octets <= self._size
            or len(self.payloads) >= MAX_SEGMENTS
            or self.octets + octets > MAX_OCTETS
        ):
            return False
        self.payloads.append(outgoing.payloads[0])
        self.octets += octets
        self._open = octets == self._size
        return True


def calls(payloads: list[bytes]) -> Iterator[list[bytes]]:
    """Split the payloads of a train, whatever its length, into what one call may carry."""
    size = len(payloads[0])
    most = max(1, min(MAX_SEGMENTS, MAX_OCTETS // size)) if size else 1
    for at in range(0, len(payloads), most):
        yield payloads[at : at + most]
