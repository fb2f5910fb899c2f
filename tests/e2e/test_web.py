"""Real programs fetch by name, over IPv4 and IPv6, in bulk and by the hundred; every octet is checked."""

import os
from pathlib import Path

import pytest

from tests.internet import Internet, Sandbox
from tests.internet.files import sha256

pytestmark = pytest.mark.timeout(180)  # a gibibyte takes its time on a slow machine

BIG = {"-4": 1 << 30, "-6": int(os.environ.get("NETSTACK_E2E_BIG", str(1 << 28)))}
"""Octets of a large file for each family: who forwards them sees neither, so one whole gibibyte each way is enough."""

CURL = ["curl", "-sS", "--max-time", "5"]
HELLO = "hello from the small internet\n"


@pytest.mark.parametrize(
    ("options", "url", "seen_as"),
    [
        (["-4"], "http://www.test/whoami", "198.18.0.2\n"),
        (["-6"], "http://www.test/whoami", "2001:2:0:1::2\n"),
        (["-4"], "https://www.test/whoami", "198.18.0.2\n"),
        (["-6"], "https://www.test/whoami", "2001:2:0:1::2\n"),
        ([], "https://v4.test/whoami", "198.18.0.2\n"),
        ([], "https://v6.test/whoami", "2001:2:0:1::2\n"),
        ([], "https://alias.test/hello", HELLO),
        (["--http2"], "https://www.test/hello", HELLO),
    ],
    ids=[
        "HTTP over IPv4", "HTTP over IPv6", "HTTPS over IPv4", "HTTPS over IPv6", "a name with an A record only",
        "a name with an AAAA record only", "a name that is an alias of an alias", "HTTP/2",
    ],
)  # fmt: skip
def test_curl_by_name(internet: Internet, sandbox: Sandbox, options: list[str], url: str, seen_as: str) -> None:
    assert sandbox.run([*CURL, "--cacert", internet.ca, *options, url]).ok().text == seen_as


@pytest.mark.parametrize(
    ("address", "family"), [("198.18.1.10", "-4"), ("[2001:2:0:2::10]", "-6")], ids=["IPv4", "IPv6"]
)
def test_bare_address_is_refused_until_its_name_was_asked(internet: Internet, address: str, family: str) -> None:
    timed = ["-o", "/dev/null", "-w", "'%{http_code} %{time_total} %{exitcode}\\n'"]
    bare, by_name = (" ".join([*CURL, family, *timed, f"http://{host}/hello"]) for host in (address, "www.test"))
    done = internet.netstack_exec(["sh", "-c", f"{bare}; {bare}; {by_name}; {bare}; true"]).ok()
    rows = [line.split() for line in done.text.splitlines()]
    refused, fetched = ("000", "7"), ("200", "0")
    assert [(code, exit_code) for code, _, exit_code in rows] == [refused, refused, fetched, fetched], done
    # The first may pay for what is done once; the promise is for a refusal.
    assert float(rows[1][1]) < 0.05, done


@pytest.mark.parametrize("family", ["-4", "-6"], ids=["over IPv4", "over IPv6"])
def test_large_download_is_whole(internet: Internet, sandbox: Sandbox, family: str) -> None:
    path, expected = internet.file(f"big{BIG[family]}", BIG[family])
    done = sandbox.run(["sh", "-c", f"curl -sS {family} http://www.test{path} | sha256sum"], timeout=60).ok()
    assert done.text.split()[0] == expected, done


@pytest.mark.parametrize("family", ["-4", "-6"], ids=["over IPv4", "over IPv6"])
def test_large_upload_is_whole(internet: Internet, sandbox: Sandbox, family: str) -> None:
    path, expected = internet.file(f"big{BIG[family]}", BIG[family])
    source = internet.directory / "files" / path.lstrip("/")
    sandbox.run(["curl", "-sS", family, "-f", "-T", source, "http://www.test/upload/big"], timeout=60).ok()
    received = internet.uploaded("big")
    assert sha256(received) == expected
    received.unlink()


@pytest.mark.parametrize("family", ["-4", "-6"], ids=["over IPv4", "over IPv6"])
def test_two_hundred_parallel_downloads_are_all_correct(
    internet: Internet, sandbox: Sandbox, folder: Path, family: str
) -> None:
    expected = internet.parts()
    parallel = ["-Z", "--parallel-immediate", "--parallel-max", "200", "--no-progress-meter", "-f"]
    sandbox.run(["curl", family, *parallel, "http://www.test/part/[000-199]", "-o", f"{folder}/#1"], timeout=60).ok()
    assert [sha256(folder / f"{index:03}") for index in range(200)] == expected


@pytest.mark.parametrize("names", ["n[000-199].test", "m[000-199].test"], ids=["over IPv4", "over IPv6"])
def test_two_hundred_names_are_resolved_and_fetched_at_once(sandbox: Sandbox, folder: Path, names: str) -> None:
    parallel = ["-Z", "--parallel-immediate", "--parallel-max", "200", "--no-progress-meter", "-f"]
    sandbox.run(["curl", *parallel, f"http://{names}/hello", "-o", f"{folder}/#1"], timeout=60).ok()
    assert {(folder / f"{index:03}").read_text() for index in range(200)} == {HELLO}
