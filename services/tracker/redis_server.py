"""Which Redis, and getting into it: URL, TLS, and what is said when it does not let us in.

Redis 6.2 and later, and Valkey. Not a cluster: the scripts compute their keys.
"""

import asyncio
import contextlib
import os
import pwd
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError, ResponseError

from services.tracker.redis_scripts import Script

ROUND_TRIP: Final = 0.7
"""Seconds that Redis has to answer one pipeline: an operation waits for the one before and for its own."""

CONNECT: Final = 1.0
"""Seconds that it has to let us in."""

_NO_ENTRY: Final = ("NOAUTH", "WRONGPASS", "username-password", "uthentication")

DOWN: Final = (RedisError, OSError, EOFError)
"""What is raised where it cannot be used."""


class UnusableError(RedisError):
    """It is there, but not of a kind that we can use."""


@dataclass(frozen=True, slots=True)
class RedisServer:
    """Where leases are kept."""

    url: str
    prefix: str = "netstack:"
    tls_ca: str = ""
    """A file of CA certificates; empty: the system's."""

    @property
    def place(self) -> str:
        """The URL as a log may show it."""
        return redacted(self.url)

    async def connect(
        self, scripts: Sequence[Script] = (), answers_within: float | None = ROUND_TRIP
    ) -> redis.asyncio.Redis:
        """Connect, see what it is, and give it the scripts; raises one of DOWN. None: no limit."""
        options: dict[str, Any] = (
            {"ssl_ca_certs": self.tls_ca} if self.tls_ca and self.url.startswith("rediss:") else {}
        )
        client = redis.asyncio.Redis.from_url(
            self.url,
            protocol=2,
            retry=Retry(NoBackoff(), 0),
            socket_timeout=answers_within,
            socket_connect_timeout=CONNECT,
            max_connections=1,
            **options,
        )
        try:
            async with asyncio.timeout(CONNECT):
                await _look(client)
                pipeline = client.pipeline(transaction=False)
                for script in scripts:
                    pipeline.script_load(script.text)
                await pipeline.execute()
        except BaseException:
            await close(client)
            raise
        return client

    def explain(self, error: BaseException) -> str:
        """Why it cannot be used, and what to do about it; empty where the error says nothing."""
        said = str(error).rstrip(".")
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, PermissionError):
                return f"{said}; {_who()} must be let in: {_remedy(self.url)}"
            if isinstance(cause, ssl.SSLCertVerificationError):
                return f"{said}; whitelist.tls_ca names the file of the CA that signed its certificate"
            cause = cause.__cause__ or cause.__context__
        if isinstance(error, redis.exceptions.TimeoutError) or said.startswith("Timeout "):
            return ""  # it says no more than that
        if isinstance(error, AuthenticationError) or any(word in said for word in _NO_ENTRY):
            return f"{said}; the user and password stand in whitelist.store: redis://USER:PASSWORD@HOST"
        if isinstance(error, NoPermissionError):
            rights = "+@read +@write +@scripting +@pubsub +ping +info"
            return f"{said}; its user needs: ~{self.prefix}* &{self.prefix}* {rights}"
        return said


def redacted(url: str) -> str:
    """The URL without user, password and parameters, fit for a log."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


async def close(client: redis.asyncio.Redis) -> None:
    """Let go of a connection, whatever its state."""
    with contextlib.suppress(*DOWN):
        await client.aclose()


async def _look(client: redis.asyncio.Redis) -> None:
    try:
        about = await client.info("server")
    except NoPermissionError:
        return  # a user who may not ask; what does not work is then said when it is tried
    except ResponseError as error:
        raise UnusableError(f"is no Redis that can be used: {error}") from None
    mode = about.get("redis_mode") or about.get("server_mode")  # the latter is Valkey's word
    if mode == "cluster":
        raise UnusableError("it is a Redis Cluster, which is not supported; name a single server")
    if mode == "sentinel":
        raise UnusableError("it is a Redis Sentinel, which is not supported; name the server that holds the data")


def _who() -> str:
    uid = os.geteuid()
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"
    return f"user {name}"


def _remedy(url: str) -> str:
    if url.startswith("unix:"):
        return "set unixsocketperm 777 in redis.conf with a directory that it may enter, or use redis://127.0.0.1"
    return "see the permissions of what it names"
