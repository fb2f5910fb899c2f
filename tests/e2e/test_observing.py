"""`netstack status` and `netstack trace` show what the pipeline does."""

import itertools
import json
import signal
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.internet import Internet, Sandbox, wait_until
from tests.internet.sandbox import STAGES

HELLO = ["curl", "-sS", "--max-time", "5", "http://www.test/hello"]


def test_status_shows_five_processes_that_are_ready(sandbox: Sandbox) -> None:
    sandbox.run(HELLO).ok()
    processes = sandbox.status()
    assert sorted(process["stage"] for process in processes) == sorted(STAGES)
    assert all(0 < process["ready_since"] <= time.time() for process in processes)
    busy = ("tcp_fwd", "dns_filter")  # they read the device themselves
    assert all(process["packets_in"] for process in processes if process["stage"] in busy)
    text = sandbox.netstack("status").ok().text
    for process in processes:
        assert process["worker"] in text
        assert str(process["pid"]) in text


def test_status_without_an_instance_says_so(internet: Internet) -> None:
    done = internet.netstack(["status", "--run-dir", "/run/nothing-here"])
    assert done.code != 0
    assert done.messages


def _is_traced(text: str) -> bool:
    """A query and a connection, from the device through the processes and back, with what each took."""
    journeys = [line for line in text.splitlines() if " -> " in line]
    query = ("tun_io read DNS", "queue", "dns_filter", "tracker learned", "tun_io wrote")
    connection = ("tun_io read TCP", "queue", "tcp_fwd allowed", "tcp_fwd connected", "tun_io wrote")
    return all(any(all(word in line for word in words) for line in journeys) for words in (query, connection))


def _is_traced_json(text: str) -> bool:
    stages: dict[object, set[str]] = defaultdict(set)
    for line in text.splitlines():
        hop = json.loads(line)
        stages[hop["trace_id"]].add(hop["stage"])
    wanted = ({"tun_io", "dns_filter", "tracker"}, {"tun_io", "tcp_fwd"})
    return all(any(some <= seen for seen in stages.values()) for some in wanted)


@pytest.mark.parametrize(
    ("options", "is_traced"), [([], _is_traced), (["--json"], _is_traced_json)], ids=["for people", "for programs"]
)
@pytest.mark.parametrize("letter", ["n", "m"], ids=["IPv4", "IPv6"])
def test_trace_follows_a_query_and_a_connection_through_the_processes(
    internet: Internet, sandbox: Sandbox, folder: Path, letter: str, options: list[str],
    is_traced: Callable[[str], bool],
) -> None:  # fmt: skip
    said = folder / "trace"
    with said.open("wb") as file:
        tracing = internet.host.start(sandbox.command("trace", *options), stdout=file)
    names = (f"{letter}{index:03}.test" for index in itertools.count())

    def shown() -> bool:
        # Its subscription reaches every process in its own time, so each try is a new query and a new connection.
        sandbox.run(["curl", "-sS", "--max-time", "5", f"http://{next(names)}/hello"]).ok()
        text = said.read_text()
        return is_traced(text[: text.rfind("\n") + 1])

    try:
        wait_until(shown, 10, "a query and a connection are traced")
        tracing.send(signal.SIGINT)
        assert "Traceback" not in tracing.wait(10).messages
    finally:
        tracing.stop()
