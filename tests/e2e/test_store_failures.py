"""Redis in trouble of every kind, the tracker killed: what is known goes on, nothing new is allowed, and it heals."""

import json
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.calls import client_command
from tests.internet import Internet, Sandbox, wait_until
from tests.internet.machine import Running, started
from tests.internet.zones import ECHO_PORT, UNNAMED_V4, UNNAMED_V6, WWW_V4, WWW_V6

CURL = "curl -g -sS -o /dev/null --max-time 4"
DIG = ["dig", "+tries=1", "+time=4"]
SLOW = "2000"  # milliseconds, each way


class Store:
    """A Redis that the test has in its hand. `url` leads to it, directly or through a socket that can be made slow."""

    def __init__(self, internet: Internet, folder: Path) -> None:
        self._internet = internet
        self.path = folder / "redis.sock"
        self.url = f"unix://{self.path}"
        self._redis = internet.start_redis(self.path)
        self.socket: Running | None = None

    def ask(self, *words: str) -> str:
        """What redis-cli says."""
        return self._internet.host_run(["redis-cli", "-s", self.path, *words]).ok().text

    def start(self) -> None:
        """Empty, since nothing is on disk."""
        self._redis = self._internet.start_redis(self.path)

    def stop(self) -> None:
        """As by a crash."""
        self._redis.stop()

    def pause(self) -> None:
        """It is there, and says nothing."""
        self._redis.send(signal.SIGSTOP)

    def resume(self) -> None:
        self._redis.send(signal.SIGCONT)

    def fill(self) -> None:
        """There is no room for anything more."""
        self.ask("CONFIG", "SET", "maxmemory", "1")

    def empty(self) -> None:
        self.ask("CONFIG", "SET", "maxmemory", "0")

    def linger(self) -> None:
        self.socket.send(signal.SIGUSR2)

    def hurry(self) -> None:
        self.socket.send(signal.SIGUSR1)


@contextmanager
def stored(internet: Internet, folder: Path, *, slowly: bool) -> Iterator[Store]:
    store = Store(internet, folder)
    try:
        if not slowly:
            yield store
            return
        slow = folder / "slow.sock"
        command = ["tests.internet.slow_socket", slow, store.path, SLOW, SLOW]
        with started(internet.host, *command) as store.socket:
            store.url = f"unix://{slow}"
            store.hurry()
            yield store
    finally:
        store.stop()


@contextmanager
def conversation(sandbox: Sandbox) -> Iterator[Running]:
    """A connection that is used all the time; it must not have failed in the end."""
    running = sandbox.start(client_command("flow", "echo4.test", str(ECHO_PORT)), stdin=subprocess.PIPE)
    try:
        running.stdout.readline()
        yield running
        report = json.loads(running.wait(10, stdin=b"").ok().text.splitlines()[-1])
        assert report["error"] is None, report
    finally:
        running.stop()


def fetch(sandbox: Sandbox, *hosts: str) -> None:
    sandbox.run([*CURL.split(), "--fail-early", *(f"http://{host}/hello" for host in hosts)]).ok()


def answers(sandbox: Sandbox, name: str) -> bool:
    return "status: NOERROR" in sandbox.run([*DIG, name]).text


def known_goes_on_and_nothing_new_is_allowed(sandbox: Sandbox) -> None:
    """All at once, since each of what fails may take its time."""
    reached = [f"{CURL} http://{address}/hello && echo reached &" for address in (WWW_V4, f"[{WWW_V6}]")]
    asked = [f"{' '.join(DIG)} {name} &" for name in ("v4.test", "n001.test")]
    bare = (UNNAMED_V4, f"[{UNNAMED_V6}]")
    refused = [f"{CURL} http://{address}/hello || [ $? = 7 ] && echo refused &" for address in bare]
    said = sandbox.run(["sh", "-c", "\n".join([*reached, *asked, *refused, "wait"])]).ok().text
    assert said.count("reached\n") == 2, said
    assert said.count("status: SERVFAIL") == 2, said
    assert said.count("EDE: 23") == 2, said
    assert said.count("refused\n") == 2, said


@pytest.mark.parametrize(
    ("breaks", "heals", "reason", "said"),
    [
        (Store.stop, Store.start, "tracker-down", "cannot be reached"),
        (Store.pause, Store.resume, "tracker-down", "no answer within"),
        (Store.linger, Store.hurry, "tracker-down", "no answer within"),
        (Store.fill, Store.empty, "not-whitelisted", "maxmemory"),
    ],
    ids=["stopped, and restarted empty", "paused", "slow by two seconds each way", "full"],
)
def test_what_is_known_goes_on_nothing_new_is_allowed_and_it_heals(
    internet: Internet, folder: Path, breaks: Callable[[Store], None], heals: Callable[[Store], None],
    reason: str, said: str,
) -> None:  # fmt: skip
    with (
        stored(internet, folder, slowly=breaks is Store.linger) as store,
        internet.sandbox({"whitelist.store": store.url}) as sandbox,
        conversation(sandbox),
    ):
        fetch(sandbox, "www.test")
        breaks(store)
        known_goes_on_and_nothing_new_is_allowed(sandbox)
        status = sandbox.status()
        notes = [note for process in status for note in process["notes"]]
        assert any(said in note for note in notes), notes
        assert any(reason in process["drops"] for process in status), status
        heals(store)
        wait_until(lambda: answers(sandbox, "v4.test"), 4, "names are answered again")
        fetch(sandbox, "v4.test", WWW_V4)
        wait_until(lambda: not any(process["notes"] for process in sandbox.status()), 5, "all is well again")
        # Also what was known before it lost everything is there again.
        wait_until(lambda: f"netstack:lease:{WWW_V4}\n" in store.ask("--scan"), 5, "the lease is stored")


def test_tracker_that_is_killed_is_followed_by_one_that_knows_the_same(internet: Internet) -> None:
    with internet.sandbox() as sandbox, conversation(sandbox):
        fetch(sandbox, "www.test")
        pid = str(sandbox.process("tracker")["pid"])
        # While it is stopped it cannot answer, and has no successor before we have looked.
        internet.host_run(["kill", "-STOP", pid]).ok()
        known_goes_on_and_nothing_new_is_allowed(sandbox)
        internet.host_run(["kill", "-KILL", pid]).ok()
        killed = time.monotonic()
        wait_until(lambda: answers(sandbox, "v4.test"), 6, "the next tracker answers")
        assert time.monotonic() - killed < 4
        fetch(sandbox, "v4.test", WWW_V4)
        assert "www.test" in sandbox.netstack("leases").ok().text
        assert sandbox.run([*CURL.split(), f"http://{UNNAMED_V4}/hello"]).code == 7
