"""The table by which the kernel chooses the queue of the TUN for a packet. No I/O, no clock.

It lies in memory that the kernel's program (netstack.cli.steering) and tun_io share: three rows of queue numbers, for
TCP, for UDP and echo requests, and for DNS over UDP, in columns chosen by the client's endpoint; and, for the next
tun_io, which queues are attached. The kernel numbers the queues in the order in which they were attached; where one is
detached the last takes its number.
"""

from collections.abc import Sequence
from typing import Final
from zlib import crc32

COLUMNS: Final = 256
TCP_ROW: Final = 0
UDP_ROW: Final = COLUMNS
DNS_ROW: Final = 2 * COLUMNS
_ORDER: Final = 3 * COLUMNS
SIZE: Final = 4096
"""Octets: a page, the least that can be mapped."""

_MOST: Final = 64  # queues

STEERED: Final = ("tcp_fwd", "udp_fwd", "dns_filter")
"""The stages of the rows."""


class Steering:
    """The table, and the order of the queues."""

    def __init__(self, memory: bytearray | memoryview) -> None:
        """memory is of SIZE octets; those of a tun_io before this one say which queues are attached."""
        self._memory = memory
        count = min(memory[_ORDER], _MOST)
        self._order = list(memory[_ORDER + 1 : _ORDER + 1 + count])

    @property
    def order(self) -> Sequence[int]:
        """The spare queues that are attached; the first of them is the kernel's second queue."""
        return tuple(self._order)

    def attached(self, queue: int) -> None:
        """A spare queue was attached. Nothing is steered to it before `steer` says so."""
        self._order.append(queue)
        self._keep()

    def detached(self, queue: int) -> None:
        """A spare queue was detached; call `steer` next, since another one may have its number now."""
        if queue not in self._order:
            return
        at = self._order.index(queue)
        last = self._order.pop()
        if last != queue:
            self._order[at] = last
        self._keep()

    def steer(self, tcp: Sequence[int], udp: Sequence[int], dns: Sequence[int]) -> None:
        """Share the columns of each row among these spare queues, by name; without any they go to the first queue.

        Where one comes or goes, only the columns that it gets or had change (rendezvous hashing, Thaler and Ravishankar
        1998).
        """
        for row, queues in ((TCP_ROW, tcp), (UDP_ROW, udp), (DNS_ROW, dns)):
            able = [queue for queue in queues if queue in self._order]
            for column in range(COLUMNS):
                chosen = max(able, key=lambda queue: crc32(bytes((queue, column, row >> 8))), default=None)
                self._memory[row + column] = 0 if chosen is None else self._order.index(chosen) + 1

    def _keep(self) -> None:
        self._memory[_ORDER] = len(self._order)
        for at, queue in enumerate(self._order):
            self._memory[_ORDER + 1 + at] = queue
