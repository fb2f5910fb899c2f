"""List files that are fetched: over HTTP, from an address that our own upstream gave, kept on disk.

The system resolver is never asked, a proxy of the environment is not used, and a private address is fetched from only
where the configuration allows such an answer. What is kept is replaced by a whole and usable list only, so that a start
without a network, or an error page in place of a list, leaves the last good one.
"""

import asyncio
import contextlib
import fcntl
import filecmp
import hashlib
import logging
import os
import ssl
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, urljoin, urlsplit

import httpx2
import msgspec

from netstack.runtime.values import is_address, parse_list
from services.dns_filter.lists.builder import Builder
from services.dns_filter.lists.files import MAX_OCTETS

FETCH_WITHIN: Final = 120.0  # seconds for a list, redirects included
MAX_REDIRECTS: Final = 5
_CONNECT_WITHIN: Final = 10.0  # seconds; also the longest pause while a list comes
_RETRY: Final = 60.0  # seconds after the first failure; doubled by each further one, up to lists.refresh
_SAMPLE: Final = 1 << 20  # octets that tell a list from something else
_NOT_MODIFIED: Final = 304
_OK: Final = 200
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})

Resolve = Callable[[str], Awaitable[list[str]]]
"""The addresses of a host, by our own upstreams; raises FetchError."""

_log = logging.getLogger(__name__)


class FetchError(Exception):
    """A list could not be fetched; the text says why."""


class _Kept(msgspec.Struct):
    """What the server said of what is kept (RFC 9110 section 13)."""

    url: str
    etag: str = ""
    last_modified: str = ""


class Fetcher:
    """Keeps the lists of some URLs on disk up to date."""

    def __init__(self, directory: Path, refresh: float, tls_ca: str, resolve: Resolve) -> None:
        """refresh is in seconds; tls_ca a file of CA certificates in place of the system's. Raises OSError."""
        self._directory = directory
        self._refresh = refresh
        self._resolve = resolve
        self._tls = ssl.create_default_context(cafile=tls_ca or None)
        self._failures: dict[str, int] = {}
        self._not_before: dict[str, float] = {}
        self.troubles: dict[str, str] = {}
        """By URL: why it could not be fetched the last time."""

    def path(self, url: str) -> Path:
        """Where the list of a URL is kept."""
        return self._directory / f"{hashlib.sha256(url.encode()).hexdigest()[:32]}.list"

    async def update(self, url: str, *, at_once: bool = False) -> None:
        """Fetch a list if it is time to; what does not work is logged, once, and tried again later."""
        now = time.time()
        if not at_once and now < max(self._not_before.get(url, 0.0), self._checked_at(url) + self._refresh):
            return
        try:
            async with asyncio.timeout(FETCH_WITHIN):
                await self._update(url)
        except TimeoutError:
            self._failed(url, f"not whole within {FETCH_WITHIN:.0f} s", now)
        except FetchError as error:
            self._failed(url, str(error), now)
        except (OSError, httpx2.HTTPError, httpx2.InvalidURL) as error:
            self._failed(url, _reason(error), now)
        else:
            if self.troubles.pop(url, None) is not None:
                _log.info("list %s is fetched again", url)
            self._failures.pop(url, None)
            self._not_before.pop(url, None)

    def _failed(self, url: str, why: str, now: float) -> None:
        failures = self._failures[url] = self._failures.get(url, 0) + 1
        self._not_before[url] = now + min(_RETRY * 2 ** min(failures - 1, 16), self._refresh)
        if url not in self.troubles:
            kept = "what is kept stays in use" if self.path(url).exists() else "none is kept, so it says nothing yet"
            _log.warning("list %s cannot be fetched: %s; %s", url, why, kept)
        self.troubles[url] = why

    def _checked_at(self, url: str) -> float:
        try:
            return self._meta(url).stat().st_mtime if self.path(url).exists() else 0.0
        except OSError:
            return 0.0

    def _meta(self, url: str) -> Path:
        return self.path(url).with_suffix(".json")

    async def _update(self, url: str) -> None:
        with self.path(url).with_suffix(".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return  # another process fetches it
            partial = self.path(url).with_suffix(".part")
            try:
                kept = await self._fetch(url, partial)
                if partial.exists():
                    await asyncio.to_thread(self._keep, url, partial)
                self._meta(url).write_bytes(msgspec.json.encode(kept))
            finally:
                partial.unlink(missing_ok=True)

    def _keep(self, url: str, partial: Path) -> None:
        with partial.open("rb") as file:
            tally = Builder().read([file.read(_SAMPLE)], 0, allows=False)
        if tally.errors >= tally.entries + tally.ignored:
            first = f"; line {tally.first_errors[0][0]}: {tally.first_errors[0][1]}" if tally.first_errors else ""
            raise FetchError(f"what came is no list: {tally.entries} names, {tally.errors} lines that are none{first}")
        path = self.path(url)
        # One that is the same keeps its time of change: nothing need be compiled anew.
        if not (path.exists() and filecmp.cmp(path, partial, shallow=False)):
            with partial.open("rb") as file:
                os.fsync(file.fileno())
            partial.replace(path)

    async def _fetch(self, url: str, partial: Path) -> _Kept:
        known = self._known(url)
        place = url
        for _ in range(MAX_REDIRECTS + 1):
            parts = urlsplit(place)
            host = parts.hostname or ""
            addresses = [host] if is_address(host) else await self._resolve(host)
            answer = await self._get_any(parts, addresses, known, partial)
            if isinstance(answer, _Kept):
                return answer
            place = _redirected(place, answer)
        raise FetchError(f"redirected more than {MAX_REDIRECTS} times")

    def _known(self, url: str) -> _Kept:
        with contextlib.suppress(OSError, msgspec.DecodeError):
            if self.path(url).exists():
                return msgspec.json.decode(self._meta(url).read_bytes(), type=_Kept)
        return _Kept(url)

    async def _get_any(self, parts: SplitResult, addresses: list[str], known: _Kept, partial: Path) -> "_Kept | str":
        failure: httpx2.HTTPError | None = None
        for address in addresses:
            try:
                return await self._get(parts, address, known, partial)
            except httpx2.ConnectError as error:
                failure = error
        raise failure or FetchError(f"{parts.hostname} has no address that may be used")

    async def _get(self, parts: SplitResult, address: str, known: _Kept, partial: Path) -> "_Kept | str":
        """What is kept now, or where to go instead."""
        target = f"{parts.path or '/'}{'?' + parts.query if parts.query else ''}"
        base = httpx2.URL(scheme=parts.scheme, host=address, port=parts.port)
        headers = {"host": parts.netloc, "accept-encoding": "identity", "user-agent": "netstack"}
        if known.etag:
            headers["if-none-match"] = known.etag
        if known.last_modified:
            headers["if-modified-since"] = known.last_modified
        async with (
            httpx2.AsyncClient(
                base_url=base, verify=self._tls, http2=True, trust_env=False, follow_redirects=False,
                timeout=_CONNECT_WITHIN,
            ) as client,
            client.stream("GET", target, headers=headers, extensions={"sni_hostname": parts.hostname}) as response,
        ):  # fmt: skip
            if response.status_code in _REDIRECTS and "location" in response.headers:
                return str(response.headers["location"])
            if response.status_code == _NOT_MODIFIED and (known.etag or known.last_modified):
                return known
            if response.status_code != _OK:
                raise FetchError(f"HTTP status {response.status_code}")
            if response.headers.get("content-encoding", "identity") != "identity":
                raise FetchError("it is compressed although that was not asked for")
            await _write(response, partial)
            return _Kept(known.url, response.headers.get("etag", ""), response.headers.get("last-modified", ""))


def _redirected(place: str, location: str) -> str:
    """Where to go on; never from https to what anybody on the way could change."""
    try:
        target = urljoin(place, location)
        parse_list(target)
        if target.startswith("https://") or (target.startswith("http://") and place.startswith("http://")):
            return target
    except ValueError:
        pass
    raise FetchError(f"redirected to {location[:100]!r}, which is no URL to go to from {place.partition(':')[0]}")


async def _write(response: httpx2.Response, partial: Path) -> None:
    size = 0
    with partial.open("wb") as file:
        async for piece in response.aiter_raw():
            size += len(piece)
            if size > MAX_OCTETS:
                raise FetchError(f"it has more than {MAX_OCTETS >> 20} MiB")
            file.write(piece)


def _reason(error: Exception) -> str:
    """What lies beneath httpx2's wrapping."""
    if isinstance(error, httpx2.TimeoutException):
        return f"no answer within {_CONNECT_WITHIN:.0f} s"
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"the server's certificate is not valid: {cause.verify_message}"
        if isinstance(cause, OSError) and cause.errno:
            return os.strerror(cause.errno)
        cause = cause.__cause__ or cause.__context__
    return str(error) or type(error).__name__
