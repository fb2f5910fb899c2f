"""Lists that are fetched."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from services.dns_filter.lists import fetch
from services.dns_filter.lists.fetch import Fetcher, FetchError
from tests.services.dns_filter.lists.web import Answer, page, web

LIST = b"a.example\nb.example\n"
Story = Callable[[Fetcher, str, list[tuple[str, dict[str, str]]]], Awaitable[None]]


def play(folder: Path, answer: Answer, story: Story, addresses: tuple[str, ...] = ("127.0.0.1",)) -> list[str]:
    """Fetch from lists.example, which is our server; gives the hosts that were resolved."""
    resolved: list[str] = []

    async def resolve(host: str) -> list[str]:
        resolved.append(host)
        if not addresses:
            raise FetchError(f"{host} has no address that may be used")
        return list(addresses)

    async def run() -> None:
        async with web(answer) as (asked, port):
            await story(Fetcher(folder, 3600, "", resolve), f"http://lists.example:{port}/ads.txt", asked)

    asyncio.run(run())
    return resolved


def test_list_is_fetched_from_the_address_that_our_upstream_gave(tmp_path: Path) -> None:
    async def story(fetcher: Fetcher, url: str, asked: list[tuple[str, dict[str, str]]]) -> None:
        await fetcher.update(url)
        assert fetcher.path(url).read_bytes() == LIST
        ((path, fields),) = asked
        assert (path, fields["host"], fields["accept-encoding"]) == ("/ads.txt", url[7:-8], "identity")
        assert fetcher.troubles == {}

    assert play(tmp_path, lambda *_: page(LIST), story) == ["lists.example"]
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".json", ".list", ".lock"]


def test_proxy_of_the_environment_is_no_other_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("all_proxy", "http://127.0.0.1:1")

    async def story(fetcher: Fetcher, url: str, _: object) -> None:
        await fetcher.update(url)
        assert fetcher.path(url).exists()

    play(tmp_path, lambda *_: page(LIST), story)


def test_next_address_is_tried_where_one_refuses(tmp_path: Path) -> None:
    async def story(fetcher: Fetcher, url: str, _: object) -> None:
        await fetcher.update(url)
        assert fetcher.path(url).exists()

    play(tmp_path, lambda *_: page(LIST), story, ("127.9.9.9", "127.0.0.1"))


def test_it_is_asked_again_when_its_time_has_come_and_not_sent_if_it_is_the_same(tmp_path: Path) -> None:
    def answer(_: str, fields: dict[str, str]) -> bytes:
        if fields.get("if-none-match") == '"1"' and fields.get("if-modified-since") == "yesterday":
            return page(b"", "304 Not Modified")
        return page(LIST, etag='"1"', last_modified="yesterday")

    async def story(fetcher: Fetcher, url: str, asked: list[tuple[str, dict[str, str]]]) -> None:
        await fetcher.update(url)
        await fetcher.update(url)
        assert len(asked) == 1
        changed = fetcher.path(url).stat().st_mtime_ns
        hours_ago = time.time() - 7200
        os.utime(fetcher.path(url).with_suffix(".json"), (hours_ago, hours_ago))
        await fetcher.update(url)
        await fetcher.update(url)
        assert len(asked) == 2
        await fetcher.update(url, at_once=True)
        assert len(asked) == 3
        assert (fetcher.path(url).stat().st_mtime_ns, fetcher.troubles) == (changed, {})

    play(tmp_path, answer, story)


def test_same_list_sent_again_does_not_count_as_a_change(tmp_path: Path) -> None:
    async def story(fetcher: Fetcher, url: str, _: object) -> None:
        await fetcher.update(url)
        changed = fetcher.path(url).stat().st_mtime_ns
        await fetcher.update(url, at_once=True)
        assert fetcher.path(url).stat().st_mtime_ns == changed

    play(tmp_path, lambda *_: page(LIST), story)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (page(b"gone", "404 Not Found"), "HTTP status 404"),
        (page(b"<!doctype html>\n<html>\n<body>\nsorry\n"), "is no list"),
        (page(b""), "is no list"),
        (page(b"# nothing\n"), "is no list"),
        (page(b"\x1f\x8b", content_encoding="gzip"), "compressed"),
        (page(LIST)[:-5], "peer closed"),
        (b"rubbish\r\n\r\n", "illegal"),
        (page(b"", "302 Found", location="http://lists.example/ads.txt"), ""),
        (page(b"", "302 Found", location="ftp://lists.example/ads.txt"), "no URL to go to"),
        (page(b"", "302 Found", location="http://["), "no URL to go to"),
        (page(b"x" * 3000, "200 OK"), "MiB"),
    ],
    ids=[
        "an error", "a page", "nothing", "nothing but comments", "compressed", "cut off", "rubbish",
        "a redirection to where nobody listens", "to another protocol", "to what is no URL", "too much",
    ],
)  # fmt: skip
def test_what_is_kept_stays_where_something_else_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, answer: bytes, why: str
) -> None:
    monkeypatch.setattr(fetch, "MAX_OCTETS", 2000)
    answers = [page(LIST), answer, answer, page(LIST + b"c.example\n")]

    async def story(fetcher: Fetcher, url: str, _: object) -> None:
        for _ in range(3):
            await fetcher.update(url, at_once=True)
        assert fetcher.path(url).read_bytes() == LIST
        assert why in fetcher.troubles[url]
        assert len([record for record in caplog.records if record.levelname == "WARNING"]) == 1
        await fetcher.update(url)
        assert fetcher.path(url).read_bytes() == LIST, "not asked again at once"
        await fetcher.update(url, at_once=True)
        assert fetcher.path(url).read_bytes().endswith(b"c.example\n")
        assert fetcher.troubles == {}

    play(tmp_path, lambda *_: answers.pop(0), story)


def test_redirections_are_followed_and_resolved_alike(tmp_path: Path) -> None:
    def answer(path: str, fields: dict[str, str]) -> bytes:
        port = fields["host"].rpartition(":")[2]
        places = {"/ads.txt": "/b", "/b": f"http://mirror.example:{port}/c?d=e"}
        return page(b"", "301 Moved Permanently", location=places[path]) if path in places else page(LIST)

    async def story(fetcher: Fetcher, url: str, asked: list[tuple[str, dict[str, str]]]) -> None:
        await fetcher.update(url)
        assert fetcher.path(url).read_bytes() == LIST
        assert [path for path, _ in asked] == ["/ads.txt", "/b", "/c?d=e"]

    assert play(tmp_path, answer, story) == ["lists.example", "lists.example", "mirror.example"]


@pytest.mark.parametrize(
    ("place", "location", "expected"),
    [
        ("https://a.example/x", "/y", "https://a.example/y"),
        ("https://a.example/x", "https://b.example/y", "https://b.example/y"),
        ("https://a.example/x", "http://a.example/x", None),
        ("https://a.example/x", "//b.example/y", "https://b.example/y"),
        ("http://a.example/x", "https://a.example/x", "https://a.example/x"),
        ("http://a.example/x", "file:///etc/passwd", None),
        ("http://a.example/x", "http://user@b.example/", None),
        ("http://a.example/x", "http://b..example/", None),
    ],
    ids=str,
)
def test_redirections(place: str, location: str, expected: str | None) -> None:
    if expected is None:
        with pytest.raises(FetchError, match="no URL to go to"):
            fetch._redirected(place, location)
    else:
        assert fetch._redirected(place, location) == expected


def test_endless_redirections_end(tmp_path: Path) -> None:
    async def story(fetcher: Fetcher, url: str, asked: list[object]) -> None:
        await fetcher.update(url)
        assert "redirected more than 5 times" in fetcher.troubles[url]
        assert len(asked) == 6

    play(tmp_path, lambda *_: page(b"", "302 Found", location="/ads.txt"), story)


def test_name_without_an_address_is_not_fetched(tmp_path: Path) -> None:
    async def story(fetcher: Fetcher, url: str, asked: list[object]) -> None:
        await fetcher.update(url)
        assert "no address that may be used" in fetcher.troubles[url]
        assert asked == []

    play(tmp_path, lambda *_: page(LIST), story, ())


def test_address_needs_no_resolver(tmp_path: Path) -> None:
    async def story(fetcher: Fetcher, url: str, _: object) -> None:
        await fetcher.update(url.replace("lists.example", "127.0.0.1"))
        assert fetcher.troubles == {}

    assert play(tmp_path, lambda *_: page(LIST), story) == []


def test_server_that_never_ends_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "FETCH_WITHIN", 0.2)

    over = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\na.example\n")
        await reader.read(-1)  # until the other side gives up
        writer.close()
        over.set()

    async def run() -> None:
        async def resolve(_: str) -> list[str]:
            return ["127.0.0.1"]

        server = await asyncio.start_server(silent, "127.0.0.1", 0)
        url = f"http://lists.example:{server.sockets[0].getsockname()[1]}/"
        fetcher = Fetcher(tmp_path, 3600, "", resolve)
        await fetcher.update(url)
        assert "not whole within" in fetcher.troubles[url]
        assert not fetcher.path(url).exists()
        await over.wait()
        server.close()
        await asyncio.sleep(0)

    asyncio.run(run())
    assert not list(tmp_path.glob("*.part"))
