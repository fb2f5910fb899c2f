"""A worker's own queue of the TUN: its packets come and go without a hop through tun_io.

The queue is lent by tun_io (services.tun_io.queues) over a Unix socket that stays open for as long as it is had. When
tun_io is started anew the queue stays, and its number is told to the new one. Without a queue everything goes through
tun_io: on another host, where the device has no more of them, or where it is no TUN.
"""

import contextlib
import logging
import os
import socket
from asyncio import AbstractEventLoop
from collections.abc import Callable
from pathlib import Path
from typing import Final

from netstack.wire.arena import HEADROOM, LARGE, Slot, private_slot

NEW: Final = 255
"""Asks for any queue; another number is that of the queue which the worker has."""

BURST: Final = 64  # packets in a row
_LARGE_AT_ONCE: Final = 8
"""Large packets in a row: beyond 512 KiB the first would no longer be in the cache when it is dealt with."""

_SPARSE: Final = 0.001
"""Seconds without a packet after which one is taken to come alone: a read that finds nothing costs an exception, which
is as much as the rest. Where others did come the loop calls at once again."""

_BURSTS: Final = 16
"""As many as a queue may hold at once (a TUN's txqueuelen is 500), and as many of large ones as is worth the time."""

_readv: Final = os.readv  # a name that never changes is not looked up

_log = logging.getLogger(__name__)


class Queue:
    """The queue, or that there is none."""

    def __init__(
        self, loop: AbstractEventLoop, path: Path, worker: str, on_packets: Callable[[list[bytes | memoryview]], None]
    ) -> None:
        """on_packets gets frames of the client, vnet header in front; large ones are views that hold until it returns.

        Nothing is asked for before `ask`.
        """
        self._loop = loop
        self._clock = loop.time
        self._path = path
        self._worker = worker.encode()
        self._on_packets = on_packets
        self._connection: socket.socket | None = None
        self._index = NEW
        self.descriptor = -1
        """To be written to, a frame a call; -1 without a queue."""
        self._paused = False
        self._last_read = 0.0
        self._slots = [private_slot() for _ in range(_LARGE_AT_ONCE)]
        self.packets = 0
        """Read so far, and their octets; the owner sets them back."""
        self.octets = 0

    def __bool__(self) -> bool:
        return self.descriptor >= 0

    def ask(self) -> None:
        """tun_io is there: ask it for a queue, or say which one this process has. Nothing happens if it knows."""
        if self._connection is not None:
            return
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            connection.connect(str(self._path))
            connection.send(bytes([self._index]) + self._worker)
        except OSError as error:
            connection.close()
            _log.debug("no queue of the TUN: %s: %s", self._path, error.strerror)
            return
        self._connection = connection
        self._loop.add_reader(connection.fileno(), self._answered, connection)

    def close(self) -> None:
        """Give the queue back."""
        self._disconnect()
        self._lose()

    def pause(self) -> None:
        """Leave what comes in the queue, in its order."""
        if not self._paused:
            self._paused = True
            if self.descriptor >= 0:
                self._loop.remove_reader(self.descriptor)

    def resume(self) -> None:
        """Read on."""
        if self._paused:
            self._paused = False
            if self.descriptor >= 0:
                self._loop.add_reader(self.descriptor, self._readable)

    def empty(self) -> None:
        """Read all that is in the queue at this moment."""
        for _ in range(_BURSTS):
            if self.descriptor < 0 or self._paused or not self._read(BURST):
                return

    def _answered(self, connection: socket.socket) -> None:
        try:
            answer, descriptors, _, _ = socket.recv_fds(connection, 1, 1)
        except BlockingIOError:
            return
        except OSError:
            answer, descriptors = b"", []
        if not answer:
            # tun_io is gone, or has no queue for us. The one that we have goes on.
            self._disconnect()
            return
        if descriptors:
            self._lose()
            self._index = answer[0]
            self.descriptor = descriptors[0]
            os.set_blocking(self.descriptor, False)
            if not self._paused:
                self._loop.add_reader(self.descriptor, self._readable)
        elif answer[0] != self._index:
            self._lose()  # somebody else may have it by now, and there is no other

    def _readable(self) -> None:
        now = self._clock()
        self._read(BURST if now - self._last_read < _SPARSE else 1)
        self._last_read = now

    def _read(self, most: int) -> bool:
        """Deal with a burst of at most so many; False where there was nothing."""
        descriptor = self.descriptor
        slots = self._slots
        packets: list[bytes | memoryview] = []
        used = octets = 0
        slot = slots[0]
        try:
            while len(packets) < most:
                length = _readv(descriptor, slot.buffers)
                octets += length
                if length < LARGE:
                    packets.append(slot.memory[:length])
                else:
                    packets.append(slot.view[:length])
                    used += 1
                    if used == _LARGE_AT_ONCE:
                        break
                    slot = slots[used]
        except BlockingIOError:
            pass
        except OSError as error:
            # The device is gone.
            _log.warning("the queue of the TUN is lost, from here on everything goes through tun_io: %s", error)
            self.close()
        self.packets += len(packets)
        self.octets += octets
        if packets:
            self._on_packets(packets)
        return bool(packets)

    def _lose(self) -> None:
        if self.descriptor >= 0:
            if not self._paused:
                self._loop.remove_reader(self.descriptor)
            os.close(self.descriptor)
            self.descriptor = -1
            self._index = NEW

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._loop.remove_reader(self._connection.fileno())
            with contextlib.suppress(OSError):
                self._connection.close()
            self._connection = None


def framed(slot: Slot, head: bytes, octets: int) -> memoryview:
    """The frame of a slot's payload, so many octets of it, with this head put in front of them."""
    start = HEADROOM - len(head)
    slot.view[start:HEADROOM] = head
    return slot.view[start : HEADROOM + octets]
