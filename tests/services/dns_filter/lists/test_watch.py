"""Lists in use, kept up to date. What compiles them is the real process."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Self

import pytest

from netstack.runtime.config import Allow, Config, Deny, Lists
from services.dns_filter.lists import lookup, watch
from services.dns_filter.lists.fetch import FetchError
from services.dns_filter.lists.watch import Watcher
from services.dns_filter.names import to_wire
from tests.services.dns_filter.lists.web import page, web


class World:
    """A watcher, and what it gave us to use."""

    def __init__(self, folder: Path, deny: list[str], allow: tuple[str, ...] = (), port: int = 0) -> None:
        self.used: list[lookup.Lists] = []
        config = Config(deny=Deny(lists=deny), allow=Allow(lists=list(allow)), lists=Lists(cache=str(folder / "cache")))
        self.watcher = Watcher(config, folder / "compiled", self.resolve, self.used.append)
        self.watching: asyncio.Task[None]

    async def resolve(self, host: str) -> list[str]:
        if host == "gone.example":
            raise FetchError("cannot be resolved")
        return ["127.0.0.1"]

    async def __aenter__(self) -> Self:
        await self.watcher.start()
        self.watching = asyncio.create_task(self.watcher.watch())
        return self

    async def __aexit__(self, *_: object) -> None:
        self.watching.cancel()
        await asyncio.wait([self.watching])
        await self.watcher.close()

    def denies(self, name: str) -> bool:
        return self.used[-1].denied_by(to_wire(name)) is not None

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition():
                self.watcher.hurry()
                await asyncio.sleep(0.05)


def play(story: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(story())


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "_LOOK", 0.05)


def test_lists_are_in_use_once_it_has_started_and_again_when_a_file_changes(tmp_path: Path) -> None:
    path = tmp_path / "ads.txt"
    path.write_text("a.example\n")

    async def story() -> None:
        async with World(tmp_path, [str(path)]) as world:
            assert world.denies("a.example")
            assert world.watcher.names == 1
            path.write_text("b.example\nc.example\n")
            async with asyncio.timeout(20):
                while len(world.used) < 2:
                    await asyncio.sleep(0.05)
            assert (world.denies("a.example"), world.denies("b.example")) == (False, True)
            assert world.watcher.names == 2

    play(story)


def test_without_lists_there_is_nothing_to_do(tmp_path: Path) -> None:
    async def story() -> None:
        async with World(tmp_path, []) as world:
            await asyncio.wait_for(world.watching, 1)
            assert world.used == []
        assert not (tmp_path / "compiled").exists()

    play(story)


def test_second_process_maps_what_the_first_compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "ads.txt"
    path.write_text("a.example\n")

    async def story() -> None:
        async with World(tmp_path, [str(path)]):
            monkeypatch.setattr("sys.executable", "/bin/false")  # it must not be needed
            async with World(tmp_path, [str(path)]) as second:
                assert second.denies("a.example")

    play(story)


def test_file_that_is_gone_stays_in_use_and_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "ads.txt"
    path.write_text("a.example\n")

    async def story() -> None:
        async with World(tmp_path, [str(path)]) as world:
            path.unlink()
            await world.until(lambda: bool(world.watcher.note))
            assert world.watcher.note == f"list {path} is missing"
            assert (len(world.used), world.denies("a.example")) == (1, True)
            path.write_text("b.example\n")
            await world.until(lambda: len(world.used) == 2)
            await world.until(lambda: not world.watcher.note)
            assert world.denies("b.example")

    play(story)
    assert len([record for record in caplog.records if "is not there" in record.message]) == 1


def test_file_that_is_missing_from_the_start_leaves_the_others(tmp_path: Path) -> None:
    path = tmp_path / "ads.txt"
    path.write_text("a.example\n")

    async def story() -> None:
        async with World(tmp_path, [str(tmp_path / "none"), str(path)]) as world:
            assert world.denies("a.example")
            (tmp_path / "none").write_text("b.example\n")
            await world.until(lambda: len(world.used) == 2)
            assert world.denies("b.example")

    play(story)


def test_compiling_that_fails_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "ads.txt"
    path.write_text("a.example\n")

    async def story() -> None:
        async with World(tmp_path, [str(path)]) as world:
            with monkeypatch.context() as broken:
                broken.setattr("sys.executable", "/bin/false")
                path.write_text("b.example\n")
                await world.until(lambda: "not loaded" in caplog.text)
                assert (len(world.used), world.denies("a.example")) == (1, True)
            path.write_text("c.example\n")
            await world.until(lambda: len(world.used) == 2)
            assert world.denies("c.example")

    play(story)


def test_list_that_can_no_longer_be_read_changes_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "ads.txt"
    path.write_text("a.example\n")

    async def story() -> None:
        async with World(tmp_path, [str(path)]) as world:
            path.unlink()
            path.mkdir()
            await world.until(lambda: "cannot be read" in caplog.text)
            assert (len(world.used), world.denies("a.example")) == (1, True)
            path.rmdir()
            path.write_text("b.example\n")
            await world.until(lambda: len(world.used) == 2)
            assert world.denies("b.example")

    play(story)


def test_what_is_wrong_is_named_by_file_and_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    path = tmp_path / "ads.txt"
    path.write_text("a.example\n" + "what is this\n" * 12 + "||b.example^$script\n")

    async def story() -> None:
        async with World(tmp_path, [str(path)]):
            pass

    play(story)
    said = [record.message for record in caplog.records]
    assert f"deny.lists {path}: 1 names, 1 rules ignored, 0 with options that do not count, 12 lines wrong" in said
    assert [line for line in said if line.startswith(f"{path}:")][:2] == [
        f'{path}:2: "what is this" is neither a name, nor a hosts line, nor an AdBlock rule',
        f'{path}:3: "what is this" is neither a name, nor a hosts line, nor an AdBlock rule',
    ]
    assert f"{path}: 2 more lines are wrong" in said


def test_url_is_fetched_before_the_start_is_over_and_its_list_is_there_without_a_network(tmp_path: Path) -> None:
    contents = [b"a.example\n"]

    async def story() -> None:
        async with web(lambda *_: page(contents[0])) as (_, port):
            url = f"http://lists.example:{port}/ads.txt"
            async with World(tmp_path, [url]) as world:
                assert world.denies("a.example")
                contents[0] = b"b.example\n"
                await world.until(lambda: len(world.used) == 2)  # each look hurries, as SIGHUP does
                assert world.denies("b.example")
        async with World(tmp_path, [url]) as world:
            assert world.denies("b.example")
            await world.until(lambda: "cannot be fetched" in world.watcher.note)
            assert world.denies("b.example")

    play(story)


def test_url_that_cannot_be_fetched_does_not_keep_the_others_back(tmp_path: Path) -> None:
    path = tmp_path / "ads.txt"
    path.write_text("a.example\n")

    async def story() -> None:
        async with World(tmp_path, ["http://gone.example/x", str(path)]) as world:
            assert world.denies("a.example")

    play(story)


def test_cache_that_cannot_be_written_to_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(OSError, match="cache"):
        World(tmp_path, ["http://lists.example/x"])


def test_allow_lists_come_first_but_both_are_used(tmp_path: Path) -> None:
    bad, good = tmp_path / "bad", tmp_path / "good"
    bad.write_text("a.example\n")
    good.write_text("b.a.example\n")

    async def story() -> None:
        async with World(tmp_path, [str(bad)], (str(good),)) as world:
            assert world.denies("a.example")
            assert world.used[-1].allowed(to_wire("b.a.example"))

    play(story)
