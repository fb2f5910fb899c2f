"""The supervisor with stand-ins for the services: real processes, killed for real."""

import asyncio
import logging
import os
import re
import signal
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from netstack.cli import roster
from netstack.cli.process import Launch, service_environment
from netstack.cli.roster import ProcessEntry
from netstack.cli.supervisor import NotReadyError, Supervisor, how_it_ended
from netstack.runtime.config import Config, Links, WorkerCounts

MakeLaunch = Callable[..., tuple[Launch, socket.socket]]
PATIENCE = 10.0  # seconds for what takes a fraction of one


def supervise(make_launch: MakeLaunch, act: Callable[[Supervisor, Path], Awaitable[None]], **ways: str) -> None:
    """Start everything, do it, stop everything; nothing may be left."""
    launch, notify = make_launch(**ways)

    async def session() -> None:
        supervisor = Supervisor("test", launch, notify)
        reading, writing = os.pipe()
        try:
            supervisor.start(Config(workers=WorkerCounts(tcp_fwd=2)))
            supervisor.give_tun((writing,))
            await act(supervisor, launch.roster.parent)
        finally:
            await supervisor.stop()
            os.close(reading)
            os.close(writing)

    asyncio.run(session())
    for entry in entries(launch.roster.parent).values():
        assert (entry.pid, entry.state) == (0, "stopped")


def entries(directory: Path) -> dict[str, ProcessEntry]:
    """What the roster on disk says, by worker."""
    (found,) = roster.read(directory)
    return {entry.worker: entry for entry in found.processes}


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop turn until something holds."""
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.005)


def test_every_worker_is_started_and_ready(make_launch: MakeLaunch) -> None:
    async def act(supervisor: Supervisor, directory: Path) -> None:
        await supervisor.wait_until_ready(PATIENCE)
        found = entries(directory)
        assert list(found) == ["tracker-0", "tun_io-0", "dns_filter-0", "tcp_fwd-0", "tcp_fwd-1", "udp_fwd-0"]
        assert {entry.state for entry in found.values()} == {"ready"}
        for entry in found.values():
            assert os.getsid(entry.pid) == entry.pid, "a session of its own, which Ctrl-C does not reach"

    supervise(make_launch, act)


def test_workers_for_the_tun_of_another_host_are_named_after_this_one(make_launch: MakeLaunch) -> None:
    links = Links(connect="tcp://127.0.0.1:5700")
    launch, notify = make_launch()

    async def scenario() -> None:
        supervisor = Supervisor("test", launch, notify)
        try:
            supervisor.start(Config(links=links), ["tcp_fwd"])
            await supervisor.wait_until_ready()
        finally:
            await supervisor.stop()

    asyncio.run(scenario())
    ((name, entry),) = entries(launch.roster.parent).items()
    host = name.removeprefix("tcp_fwd-0-")
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,18}", host)
    assert host == re.sub(r"[^A-Za-z0-9_]", "-", socket.gethostname())[:18]
    assert entry.stage == "tcp_fwd"


def test_a_killed_process_is_back_at_once(make_launch: MakeLaunch, caplog: pytest.LogCaptureFixture) -> None:
    async def act(supervisor: Supervisor, directory: Path) -> None:
        await supervisor.wait_until_ready(PATIENCE)
        killed = entries(directory)["tracker-0"].pid
        os.kill(killed, signal.SIGKILL)
        await until(lambda: entries(directory)["tracker-0"].pid not in (killed, 0))
        await supervisor.wait_until_ready(PATIENCE)
        entry = entries(directory)["tracker-0"]
        assert (entry.restarts, entry.last_exit) == (1, "was killed by SIGKILL")
        assert entry.last_lines == ["starting tracker"]

    with caplog.at_level(logging.WARNING):
        supervise(make_launch, act)
    assert caplog.messages == ["tracker-0 was killed by SIGKILL; starting it again at once"]


def test_tun_io_gets_the_tun_anew_when_it_comes_back(make_launch: MakeLaunch) -> None:
    launch, notify = make_launch()

    async def session() -> None:
        supervisor = Supervisor("test", launch, notify)
        reading, writing = os.pipe()
        try:
            supervisor.start(Config(), ["tun_io"])
            with pytest.raises(NotReadyError):
                await supervisor.wait_until_ready(0.0)
            supervisor.give_tun((writing,))
            await supervisor.wait_until_ready(PATIENCE)
            os.kill(entries(launch.roster.parent)["tun_io-0"].pid, signal.SIGKILL)
            await until(lambda: entries(launch.roster.parent)["tun_io-0"].restarts == 1)
            await supervisor.wait_until_ready(PATIENCE)
            assert os.read(reading, 100) == 2 * b"tun_io-0 has the TUN\n"
        finally:
            await supervisor.stop()
            os.close(reading)
            os.close(writing)

    asyncio.run(session())


def test_a_process_that_keeps_dying_is_told_with_its_last_lines(
    make_launch: MakeLaunch, caplog: pytest.LogCaptureFixture
) -> None:
    async def act(supervisor: Supervisor, directory: Path) -> None:
        with pytest.raises(NotReadyError, match=r"(?s)not ready after .*: udp_fwd-0\n.*restarts: 5.*starting udp_fwd"):
            await supervisor.wait_until_ready(PATIENCE)
        assert entries(directory)["udp_fwd-0"].in_crash_loop

    supervise(make_launch, act, udp_fwd="die")
    assert "udp_fwd-0 keeps dying; its last lines:\n    starting udp_fwd" in caplog.messages


def test_a_process_that_is_never_ready_is_named(make_launch: MakeLaunch) -> None:
    async def act(supervisor: Supervisor, directory: Path) -> None:
        await until(lambda: [entry.state for entry in entries(directory).values()].count("ready") == 5)
        with pytest.raises(NotReadyError, match=r"not ready after 0\.0 s: dns_filter-0\n"):
            await supervisor.wait_until_ready(0.0)

    supervise(make_launch, act, dns_filter="mute")


def test_a_process_that_does_not_heed_sigterm_is_killed(
    make_launch: MakeLaunch, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("netstack.cli.supervisor.TERM_WITHIN", 0.3)

    async def act(supervisor: Supervisor, _directory: Path) -> None:
        await supervisor.wait_until_ready(PATIENCE)

    supervise(make_launch, act, tcp_fwd="deaf")
    assert caplog.messages == ["killing what did not stop within 0.3 s: tcp_fwd-0, tcp_fwd-1"]


def test_stopping_before_the_tun_is_there_takes_no_time(
    make_launch: MakeLaunch, caplog: pytest.LogCaptureFixture
) -> None:
    launch, notify = make_launch(tun_io="deaf")

    async def session() -> None:
        supervisor = Supervisor("test", launch, notify)
        supervisor.start(Config(), ["tun_io"])
        await supervisor.stop()

    asyncio.run(session())
    assert caplog.messages == []


def test_stderr_of_the_processes_is_passed_on(make_launch: MakeLaunch, capfd: pytest.CaptureFixture[str]) -> None:
    async def act(supervisor: Supervisor, _directory: Path) -> None:
        await supervisor.wait_until_ready(PATIENCE)

    supervise(make_launch, act)
    assert sorted(capfd.readouterr().err.splitlines()) == sorted(
        f"starting {stage}" for stage in ("tracker", "tun_io", "dns_filter", "tcp_fwd", "tcp_fwd", "udp_fwd")
    )


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (0, "ended with code 0"),
        (3, "ended with code 3"),
        (-9, "was killed by SIGKILL"),
        (-40, "was killed by signal 40"),
    ],
)
def test_an_end_in_words(code: int, words: str) -> None:
    assert how_it_ended(code) == words


def test_a_service_does_not_see_the_variables_whose_effect_is_in_the_file() -> None:
    ours = {"NETSTACK_MODE": "dns", "PATH": "/bin", "PYTHONPATH": "/x"}
    seen = service_environment(ours, Path("/run/notify"), Path("/code"))
    assert "NETSTACK_MODE" not in seen
    assert seen["NOTIFY_SOCKET"] == "/run/notify"
    path = seen["PYTHONPATH"].split(":")
    assert (path[0], path[-1]) == ("/code", "/x")
