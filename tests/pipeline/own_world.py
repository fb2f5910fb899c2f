"""A forwarder's process with a queue of its own, at whose other end the test is the client."""

import asyncio
import contextlib
import socket
from collections import deque
from pathlib import Path

from netstack.wire.messages import Astray, Fence, Message
from tests.pipeline.world import WITHIN, ForwarderWorld


class OwnQueue(ForwarderWorld):
    """A forwarder that has a queue of its own: what is not traced goes through that, both ways."""

    def __init__(self, run_dir: Path) -> None:
        super().__init__(run_dir)
        self._loop = asyncio.get_running_loop()
        # Like a device it keeps the boundaries of packets, and it holds a few of them.
        self._client, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._client.setblocking(False)
        self._unsent: deque[bytes] = deque()
        self._lender = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        self._lender.bind(str(self.topology.queues))
        self._lender.listen()
        self._lent: socket.socket | None = None
        self.own_packets = 0
        """What came through the queue."""
        self.fences = 0
        """Answered."""
        self.returns = True
        """tun_io gives back what was passed on to it, since nobody else is there."""

    async def start(self, *settings: str, prefix: tuple[str, ...] = ()) -> None:
        await super().start(*settings, prefix=prefix)
        self._lent, _ = await asyncio.wait_for(self._loop.sock_accept(self._lender), WITHIN)
        socket.send_fds(self._lent, [b"\0"], [self._theirs.fileno()])
        self._loop.add_reader(self._client.fileno(), self._written)
        self.send(b"probe")
        await self.until(lambda: self.astray)  # it has the queue
        self.said.clear()

    async def stop(self) -> None:
        try:
            await super().stop()
        finally:
            self._loop.remove_reader(self._client.fileno())
            self._loop.remove_writer(self._client.fileno())
            for each in (self._client, self._theirs, self._lender, self._lent):
                if each is not None:
                    each.close()

    @property
    def astray(self) -> list[bytes]:
        """What was passed on."""
        return [frame for message in self.said if isinstance(message, Astray) for frame in message.frames]

    def send(self, *frames: bytes, trace_id: int = 0) -> None:
        if trace_id:
            super().send(*frames, trace_id=trace_id)
        else:
            self._unsent += frames
            self._flush()

    def _tun_heard(self, identity: bytes, message: Message) -> None:
        super()._tun_heard(identity, message)
        if isinstance(message, Astray) and self.returns and self._lent is not None:
            self.send_through_tun_io(*(frame for frame in message.frames if frame != b"probe"))
        elif isinstance(message, Fence) and self.returns:
            self._tun.send(identity, message)
            self.fences += 1
            self.said.remove(message)

    def send_through_tun_io(self, *frames: bytes) -> None:
        """The kernel put them into tun_io's queue."""
        super().send(*frames)

    def _flush(self) -> None:
        fd = self._client.fileno()
        try:
            while self._unsent:
                self._client.send(self._unsent[0])
                self._unsent.popleft()
            self._loop.remove_writer(fd)
        except BlockingIOError:
            self._loop.add_writer(fd, self._flush)

    def _written(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                packet = self._client.recv(1 << 17)
                self.own_packets += 1
                self.deliver(packet, 0)
