"""The event loop of a service: asyncio's, with readers that are called directly (netstack.runtime.selector)."""

import asyncio
import time
from collections.abc import Callable
from contextvars import Context
from functools import partial
from typing import TYPE_CHECKING

from netstack.runtime.selector import DirectSelector

if TYPE_CHECKING:
    from _typeshed import FileDescriptorLike


class Loop(asyncio.SelectorEventLoop):
    """asyncio's loop in all but this: what `add_reader` is given runs before what `call_soon` was given meanwhile."""

    time = staticmethod(time.monotonic)  # as asyncio's, without a call of Python

    def __init__(self) -> None:
        self.direct = DirectSelector()
        """Where descriptors may also be watched for more than reading."""
        super().__init__(self.direct)  # type: ignore[arg-type]
        self.direct.on_exception = self._reader_failed

    def add_reader(self, fd: "FileDescriptorLike", callback: Callable[..., object], *args: object) -> None:
        """As asyncio's."""
        self.direct.add_reader(_number(fd), partial(callback, *args) if args else callback)

    def remove_reader(self, fd: "FileDescriptorLike") -> bool:
        """As asyncio's."""
        return self.direct.remove_reader(_number(fd))

    def call_soon(
        self, callback: Callable[..., object], *args: object, context: Context | None = None
    ) -> asyncio.Handle:
        """As asyncio's."""
        self.direct.stirred = True
        return super().call_soon(callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[..., object], *args: object, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """As asyncio's; call_later uses it."""
        self.direct.stirred = True
        return super().call_at(when, callback, *args, context=context)

    def stop(self) -> None:
        """As asyncio's."""
        self.direct.stirred = True
        super().stop()

    def _reader_failed(self, descriptor: int, error: Exception) -> None:
        what = "an alarm" if descriptor < 0 else f"reading descriptor {descriptor}"
        self.call_exception_handler({"message": f"{what} failed", "exception": error})


def _number(fd: "FileDescriptorLike") -> int:
    return fd if isinstance(fd, int) else int(fd.fileno())
