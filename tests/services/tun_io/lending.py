"""Queues that are lent in this process, and workers that borrow them."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from netstack.runtime.queue import NEW
from services.tun_io.queues import Queues
from tests.inbox import Inbox

WORKERS = frozenset({b"w0", b"w1", b"w2"})
WITHIN = 10.0  # seconds


class Borrower:
    """A worker's end of a connection."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        self.number: int | None = None
        self.descriptors: list[int] = []

    async def connect(self) -> None:
        async with asyncio.timeout(WITHIN):
            while True:
                try:
                    self.socket.connect(str(self._path))
                except BlockingIOError:
                    await asyncio.sleep(0)
                else:
                    return

    async def ask(self, number: int, name: bytes) -> None:
        """Ask for a queue, and take the answer if there is one."""
        self.socket.send(bytes([number]) + name)
        async with asyncio.timeout(WITHIN):
            while True:
                try:
                    answer, self.descriptors, _, _ = socket.recv_fds(self.socket, 1, 1)
                except BlockingIOError:
                    await asyncio.sleep(0)
                    continue
                except ConnectionResetError:  # the other end had not read all of it
                    answer = b""
                self.number = answer[0] if answer else None
                return

    def has_ended(self) -> bool:
        """Whether the other end has closed."""
        try:
            return not self.socket.recv(1)
        except BlockingIOError:
            return False
        except ConnectionResetError:
            return True

    async def ended(self) -> bool:
        """The other end closes."""
        async with asyncio.timeout(WITHIN):
            while not self.has_ended():
                await asyncio.sleep(0)
        return True

    def close(self) -> None:
        self.socket.close()
        for descriptor in self.descriptors:
            os.close(descriptor)
        self.descriptors = []


class Lender:
    """Who has the queues, and those who borrow them."""

    def __init__(self, path: Path, descriptors: Sequence[int]) -> None:
        self._path = path
        self._changes = Inbox()
        self._borrowers: list[Borrower] = []
        self.queues = Queues(
            asyncio.get_running_loop(), path, [os.dup(each) for each in descriptors],
            is_worker=WORKERS.__contains__, on_change=lambda: self._changes("change"),
        )  # fmt: skip

    @property
    def changes(self) -> int:
        """How often flows may have moved."""
        return len(self._changes.items)

    async def connect(self) -> Borrower:
        one = Borrower(self._path)
        self._borrowers.append(one)
        await one.connect()
        return one

    async def ask(self, number: int = NEW, name: bytes = b"w0") -> Borrower:
        """A worker asks, and has been answered, or not."""
        one = await self.connect()
        await one.ask(number, name)
        return one

    async def until(self, lent: int) -> None:
        """So many are lent."""
        async with asyncio.timeout(WITHIN):
            while len(self.queues) != lent:
                await asyncio.sleep(0)

    def close(self) -> None:
        self.queues.close()
        for each in self._borrowers:
            each.close()


@asynccontextmanager
async def lending(path: Path, descriptors: Sequence[int]) -> AsyncIterator[Lender]:
    """Queues that are lent at path; the descriptors stay the caller's."""
    one = Lender(path, descriptors)
    try:
        yield one
    finally:
        one.close()
