"""What all upstreams have in common."""

import asyncio
import os
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Protocol

from services.dns_filter.query import Query

OnMismatch = Callable[[], None]
"""Called for what came from the upstream's address but answers nothing that was asked: spoofed, late or garbage."""


class UpstreamError(Exception):
    """An upstream did not answer; the text says why."""

    def __init__(self, text: str, *, silent: bool = False) -> None:
        """silent: nothing came back at all in the time there was; otherwise it, or the network, refused."""
        super().__init__(text)
        self.silent = silent


class Transport(Protocol):
    """One upstream resolver."""

    label: str
    """Its URL, as configured."""

    async def ask(self, query: Query, patience: float) -> bytes:
        """The answer to a question, matched (query.answers), within `patience` seconds; raises UpstreamError."""

    async def prepare(self) -> None:
        """Do what would make the first question slow, without asking anything."""

    async def close(self) -> None:
        """Close its sockets."""


@asynccontextmanager
async def failing_as_upstream(patience: float) -> AsyncIterator[None]:
    """Turn what a socket raises, and running out of `patience` seconds, into UpstreamError."""
    try:
        async with asyncio.timeout(patience):
            yield
    except TimeoutError:  # an OSError too, so it must come first; ETIMEDOUT of a connect is the same thing
        raise UpstreamError(f"no answer within {patience:.1f} s", silent=True) from None
    except OSError as error:
        raise UpstreamError(reason_of(error)) from None


def reason_of(error: Exception) -> str:
    """An exception's message without what only a programmer reads."""
    if isinstance(error, ssl.SSLError) and error.reason:
        return f"TLS failed: {error.reason.replace('_', ' ').lower()}"
    if isinstance(error, OSError) and error.errno and not isinstance(error, ssl.SSLError):
        return os.strerror(error.errno)  # asyncio puts the endpoint into `strerror`
    return str(error) or type(error).__name__
