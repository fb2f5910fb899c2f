"""Keeps the lists in use up to date: files that change, URLs whose time has come, SIGHUP.

Files are looked at each second. A change counts once a file looks alike twice, so that one that is being written is not
read; then a child compiles all lists, and what it made takes the place of what was in use, at once and as a whole.
Where something does not work, what is in use stays in use.
"""

import asyncio
import contextlib
import logging
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from netstack.runtime.config import Config
from netstack.runtime.values import CACHE_DIRECTORY
from services.dns_filter.lists.files import Found, Source, Stamp, Work, generation, open_lists, stamp
from services.dns_filter.lists.lookup import Lists

if TYPE_CHECKING:
    from services.dns_filter.lists import fetch

_LOOK: Final = 1.0  # seconds
_COMPILE_WITHIN: Final = 120.0  # seconds
_FIRST_FETCH: Final = 4.0  # seconds for which a start waits for lists that were never fetched

_log = logging.getLogger(__name__)


class Watcher:
    """The configured lists."""

    def __init__(self, config: Config, directory: Path, resolve: "fetch.Resolve", use: Callable[[Lists], None]) -> None:
        """directory is where compiled lists go; `use` is called with what is to be looked up from then on.

        Raises OSError where nothing can be kept, or lists.tls_ca cannot be read.
        """
        self._use = use
        self._directory = directory
        self._urls = [text for text in (*config.allow.lists, *config.deny.lists) if not text.startswith("/")]
        self._fetcher: fetch.Fetcher | None = None
        if self._urls:
            # Importing httpx2 takes 0.1 s, for which a start without URLs is not to wait.
            from services.dns_filter.lists.fetch import Fetcher  # noqa: PLC0415

            cache = _cache(config.lists.cache, directory)
            self._fetcher = Fetcher(cache, config.lists.refresh, config.lists.tls_ca, resolve)
        self._sources = [
            *(self._source("allow.lists", text) for text in config.allow.lists),
            *(self._source("deny.lists", text) for text in config.deny.lists),
        ]
        self._loaded: Stamp = []
        self._missing: set[str] = set()
        self._read: set[str] = set()
        self._hurry = asyncio.Event()
        self._fetching: set[asyncio.Task[None]] = set()
        self._child: asyncio.subprocess.Process | None = None
        self.names = 0
        """In use."""
        self.note = ""
        """What does not work, in a line for `netstack status`."""

    async def start(self) -> None:
        """Use what there is, nothing if need be; waits a little for what was never fetched."""
        if not self._sources:
            return
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        new = [url for url in self._urls if self._fetcher and not self._fetcher.path(url).exists()]
        if new:
            await asyncio.wait(self._fetch(new, at_once=True), timeout=_FIRST_FETCH)
        await self._load(stamp(self._sources))
        if not self._read:
            self._use(Lists())

    async def watch(self) -> None:
        """Look for changes for as long as the process lives."""
        seen: Stamp = self._loaded
        while self._sources:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK):
                    await self._hurry.wait()
            at_once = self._hurry.is_set()
            self._hurry.clear()
            if not self._fetching or at_once:
                self._fetch(self._urls, at_once=at_once)
            now = stamp(self._sources)
            if now != self._loaded and (now == seen or at_once):
                await self._load(now)
            seen = now
            self._tell()

    def hurry(self) -> None:
        """Look now, and ask for all URLs again."""
        self._hurry.set()

    async def close(self) -> None:
        """End what is under way."""
        for task in self._fetching:
            task.cancel()
        if self._child is not None and self._child.returncode is None:
            self._child.kill()
            await self._child.wait()

    def _source(self, key: str, text: str) -> Source:
        local = self._fetcher is None or text.startswith("/")
        return Source(key, text, text if local or self._fetcher is None else str(self._fetcher.path(text)))

    def _fetch(self, urls: Sequence[str], *, at_once: bool) -> list[asyncio.Task[None]]:
        if self._fetcher is None:
            return []
        tasks = [asyncio.create_task(self._fetcher.update(url, at_once=at_once)) for url in urls]
        for task in tasks:
            self._fetching.add(task)
            task.add_done_callback(self._fetching.discard)
        return tasks

    async def _load(self, state: Stamp) -> None:
        """Compile and use the lists in this state; keeps what is in use where that fails or a file is gone."""
        gone = [source.text for source, found in zip(self._sources, state, strict=True) if found is None]
        self._say_missing(gone)
        if gone and self._loaded and any(self._was_there(source) for source in self._sources if source.text in gone):
            return
        name = generation(self._sources, state)
        began = time.monotonic()
        try:
            if not (self._directory / name).is_dir():
                await self._compile(name)
            lists, found = await asyncio.to_thread(open_lists, self._directory / name, self._sources)
        except (OSError, ValueError, msgspec.DecodeError) as error:
            _log.error("lists are not loaded: %s; what was in use stays in use", error)
            self._loaded = state  # tried again when something changes
            return
        self._loaded = state
        lost = [source.text for source, each in zip(self._sources, found, strict=True) if each.failure]
        if any(text in self._read for text in lost):
            _log.error("lists are not loaded: %s cannot be read; what was in use stays in use", ", ".join(lost))
            return
        self._read = {source.text for source in self._sources}.difference(lost)
        self.names = sum(each.entries for each in found)
        self._use(lists)
        _log.info("%d names of %d lists in use after %.1f s", self.names, len(found), time.monotonic() - began)
        for source, each in zip(self._sources, found, strict=True):
            _report(source, each)

    def _was_there(self, source: Source) -> bool:
        return self._loaded[self._sources.index(source)] is not None

    def _say_missing(self, gone: Sequence[str]) -> None:
        for text in gone:
            if text not in self._missing and text.startswith("/"):
                _log.warning(
                    "list %s is not there, or user %d may not look: what is in use stays in use until it is",
                    text, os.geteuid(),
                )  # fmt: skip
        self._missing = set(gone)

    async def _compile(self, name: str) -> None:
        work = msgspec.json.encode(Work(str(self._directory), name, self._sources)).decode()
        self._child = await asyncio.create_subprocess_exec(sys.executable, "-m", "services.dns_filter.lists", work)
        try:
            async with asyncio.timeout(_COMPILE_WITHIN):
                code = await self._child.wait()
        except TimeoutError:
            await self.close()
            raise OSError(f"not compiled within {_COMPILE_WITHIN:.0f} s") from None
        if code:
            raise OSError(f"compiling them ended with {code}")

    def _tell(self) -> None:
        troubles = self._fetcher.troubles if self._fetcher is not None else {}
        self.note = "; ".join(
            [*(f"list {text} is missing" for text in sorted(self._missing) if text.startswith("/")),
             *(f"list {url} cannot be fetched: {why}" for url, why in troubles.items())]
        )  # fmt: skip


def _report(source: Source, found: Found) -> None:
    where = f"{source.key} {source.text}"
    if found.failure and source.path != source.text:
        return  # why it was not fetched has been said
    if found.failure:
        _log.warning("%s says nothing: it cannot be read by user %d: %s", where, os.geteuid(), found.failure)
        return
    _log.info(
        "%s: %d names, %d rules ignored, %d with options that do not count, %d lines wrong",
        where, found.entries, found.ignored, found.options, found.errors,
    )  # fmt: skip
    for line, what in found.first_errors:
        _log.warning("%s:%d: %s", source.text, line, what)
    more = found.errors - len(found.first_errors)
    if more > 0:
        _log.warning("%s: %d more lines are wrong", source.text, more)


def _cache(configured: str, directory: Path) -> Path:
    """Where fetched lists are kept: as configured, or the first place that can be written to; raises OSError."""
    if configured:
        path = Path(configured)
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not os.access(path, os.W_OK):
            raise OSError(f"lists.cache = {configured!r} cannot be written to by user {os.geteuid()}")
        return path
    environment = os.environ
    home = Path(environment.get("XDG_CACHE_HOME") or f"{environment.get('HOME', '/nonexistent')}/.cache")
    for path in (Path(CACHE_DIRECTORY), home / "netstack"):
        with contextlib.suppress(OSError):
            path.mkdir(mode=0o700, exist_ok=True)
            if os.access(path, os.W_OK):
                return path
    _log.warning("fetched lists are not kept across restarts: set lists.cache to a folder of user %d", os.geteuid())
    fallback = directory.parent / "fetched"
    fallback.mkdir(mode=0o700, parents=True, exist_ok=True)
    return fallback
