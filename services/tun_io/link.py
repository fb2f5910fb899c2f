"""What is under way between tun_io and one worker."""

from typing import Final

from netstack.runtime.tunnel import BATCH_OCTETS, BATCH_PACKETS
from netstack.wire.arena import Slot
from netstack.wire.lending import Lending
from netstack.wire.messages import Packets, Traced
from netstack.wire.partner import ArenaError, Partner

_LARGEST: Final = 10 + 65535  # octets of a frame
_SHARED_OCTETS: Final = 512 << 10
"""Octets in slots from which on a batch leaves: more would no longer be in the cache when they are read."""


class Link:
    """The packets collected for a worker, and what each side has of the other's arena."""

    __slots__ = ("_octets", "_shared", "_slots", "identity", "lending", "packets", "partner", "shares", "traced")

    def __init__(self, identity: bytes, partner: Partner | None, lending: Lending) -> None:
        self.identity = identity
        self.partner = partner
        """The worker's arena, where it has one that can be mapped."""
        self.shares = partner is not None
        """Whether packets may be lent to it."""
        self.lending = lending
        self.packets: Packets = []
        self.traced: Traced = []
        self._slots: list[Slot] = []
        self._octets = 0
        self._shared = 0

    def add(self, packet: bytes) -> None:
        """A packet that travels in the message."""
        self.packets.append(packet)
        self._octets += len(packet)

    def add_slot(self, slot: Slot, octets: int) -> None:
        """A packet that stays where it is; the link holds the slot from now on, in the place of the caller."""
        self.packets.append([slot.position, octets])
        self._slots.append(slot)
        self._shared += octets

    @property
    def is_full(self) -> bool:
        """Whether what was collected should leave before more is added."""
        return (
            len(self.packets) >= BATCH_PACKETS
            or self._octets > BATCH_OCTETS - _LARGEST
            or self._shared >= _SHARED_OCTETS
        )

    def take(self) -> tuple[Packets, Traced, list[Slot]]:
        """What was collected, for one message; the slots in it are the caller's now."""
        taken = self.packets, self.traced, self._slots
        self.packets, self.traced, self._slots = [], [], []
        self._octets = self._shared = 0
        return taken

    def packet(self, reference: list[int]) -> memoryview:
        """A packet that the worker lent; raises ArenaError."""
        if self.partner is None:
            raise ArenaError("a reference of a worker that shares nothing")
        return self.partner.packet(reference)
