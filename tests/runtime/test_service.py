"""How a service runs: in this process where that shows it, else as the process it is."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from netstack.packet.reason import Reason
from netstack.runtime.config import Config
from netstack.runtime.service import Runtime
from netstack.wire.bus import Bus
from netstack.wire.messages import Sample
from netstack.wire.topology import Topology
from tests.inbox import Inbox


def run(run_dir: Path, start: Callable[[Runtime], Awaitable[None]]) -> int:
    """Run a service in this process; its exit code."""

    async def main() -> int:
        return await Runtime("udp_fwd", "udp_fwd-1", Config(), Topology(run_dir)).run(start)

    return asyncio.run(main())


@contextlib.contextmanager
def notified(address: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind("\0" + address[1:] if address.startswith("@") else address)
        receiver.settimeout(10)
        monkeypatch.setenv("NOTIFY_SOCKET", address)
        yield receiver


@pytest.mark.parametrize("abstract", [False, True], ids=["a path", "an abstract socket, written with @"])
def test_ready_is_said_once_to_whoever_started_us(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch, abstract: bool
) -> None:
    address = f"@netstack-test-{os.getpid()}" if abstract else f"{run_dir}/notify"
    with notified(address, monkeypatch) as receiver:

        async def start(runtime: Runtime) -> None:
            runtime.ready()
            runtime.ready()
            runtime.stop()

        assert run(run_dir, start) == 0
        assert receiver.recv(200) == b"READY=1\nX_NETSTACK_WORKER=udp_fwd-1\n"
        receiver.setblocking(False)
        with pytest.raises(BlockingIOError):
            receiver.recv(200)


def test_nobody_to_tell_is_no_failure(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def start(runtime: Runtime) -> None:
        runtime.ready()
        runtime.stop()

    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert run(run_dir, start) == 0


def test_a_notify_socket_that_is_gone_is_said_and_no_failure(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def start(runtime: Runtime) -> None:
        runtime.ready()
        runtime.stop()

    monkeypatch.setenv("NOTIFY_SOCKET", f"{run_dir}/gone")
    assert run(run_dir, start) == 0
    assert "cannot tell" in caplog.text


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_signal_ends_it_in_an_orderly_way(run_dir: Path, number: signal.Signals) -> None:
    log: list[str] = []

    async def start(runtime: Runtime) -> None:
        async def last() -> None:
            await asyncio.sleep(0)
            log.append("registered first")

        runtime.on_stop += [last, lambda: log.append("registered second")]
        os.kill(os.getpid(), number)

    assert run(run_dir, start) == 0
    assert log == ["registered second", "registered first"]


def test_a_signal_while_it_starts_ends_it_too(run_dir: Path) -> None:
    log: list[str] = []

    async def start(runtime: Runtime) -> None:
        runtime.on_stop.append(lambda: log.append("stopped"))
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.Event().wait()

    assert run(run_dir, start) == 0
    assert log == ["stopped"]


def test_told_to_drain_it_finishes_what_it_has(run_dir: Path) -> None:
    log: list[str] = []

    async def start(runtime: Runtime) -> None:
        def drain() -> None:
            log.append("draining")
            runtime.loop.call_soon(finished)

        def finished() -> None:
            log.append("finished")
            runtime.stop()

        runtime.on_drain = drain
        os.kill(os.getpid(), signal.SIGUSR1)

    assert run(run_dir, start) == 0
    assert log == ["draining", "finished"]


def fails_to_start(_: Runtime) -> None:
    raise PermissionError("no /dev/net/tun")


def has_a_bug(_: Runtime) -> None:
    raise KeyError("our bug")


def has_a_task_that_fails(runtime: Runtime) -> None:
    async def work() -> None:
        raise KeyError("our bug")

    runtime.spawn(work())


def has_a_callback_that_fails(runtime: Runtime) -> None:
    runtime.every(0.001, lambda: {}["our bug"])


def has_an_end_that_fails(runtime: Runtime) -> None:
    runtime.on_stop.append(lambda: {}["our bug"])
    runtime.stop()


@pytest.mark.parametrize(
    ("what", "said", "traceback"),
    [
        (fails_to_start, "cannot start: no /dev/net/tun", False),
        (has_a_bug, "cannot start", True),
        (has_a_task_that_fails, "a task failed", True),
        (has_a_callback_that_fails, "our bug", True),
        (has_an_end_that_fails, "stopping failed", True),
    ],
)
def test_a_failure_is_said_and_ends_it_with_1_and_what_must_be_done_at_the_end_is_done(
    run_dir: Path,
    caplog: pytest.LogCaptureFixture,
    what: Callable[[Runtime], None],
    said: str,
    traceback: bool,
) -> None:
    log: list[str] = []

    async def start(runtime: Runtime) -> None:
        runtime.on_stop.append(lambda: log.append("stopped"))
        what(runtime)

    assert run(run_dir, start) == 1
    assert log == ["stopped"]
    assert said in caplog.text
    assert ("Traceback" in caplog.text) is traceback


def test_what_runs_beside_is_cancelled_before_the_end(run_dir: Path) -> None:
    log: list[str] = []

    async def start(runtime: Runtime) -> None:
        async def work() -> None:
            try:
                runtime.loop.call_soon(runtime.stop)
                await asyncio.Event().wait()
            finally:
                log.append("cancelled")

        runtime.spawn(work())
        runtime.on_stop.append(lambda: log.append("stopped"))

    assert run(run_dir, start) == 0
    assert log == ["cancelled", "stopped"]


def test_what_is_done_periodically_is_done_again_and_not_after_the_stop(run_dir: Path) -> None:
    log: list[str] = []

    async def start(runtime: Runtime) -> None:
        def tick() -> None:
            log.append("tick")
            if len(log) == 3:
                runtime.stop()

        runtime.every(0.001, tick)
        runtime.on_stop.append(lambda: asyncio.sleep(0.01))

    assert run(run_dir, start) == 0
    assert log == ["tick"] * 3


def test_whoever_subscribes_to_a_sample_gets_one(run_dir: Path) -> None:
    samples = Inbox()

    async def start(runtime: Runtime) -> None:
        runtime.counters.drop(Reason.QUEUE_FULL, 2)
        runtime.before_sample = lambda: runtime.counters.gauges.update(flows=3)
        bus = Bus(runtime.loop)
        runtime.on_stop.append(lambda: bus.close(linger=0))
        hub = bus.subscriber(f"ipc://{run_dir}/unused", [b"sample.1"], samples)
        hub.socket.bind(runtime.topology.events_in)  # in the proxy's place
        runtime.ready()
        topic, sample = (await samples.until(1))[0]
        assert topic == b"sample.1"
        assert isinstance(sample, Sample)
        assert (sample.stage, sample.worker, sample.pid) == ("udp_fwd", "udp_fwd-1", os.getpid())
        assert sample.ready_since > 1.6e9
        assert (sample.drops, sample.gauges) == ({"queue-full": 2}, {"flows": 3})
        runtime.stop()

    assert run(run_dir, start) == 0


def test_a_frame_that_is_no_message_is_counted(run_dir: Path) -> None:
    async def start(runtime: Runtime) -> None:
        runtime.bus.on_malformed()
        assert runtime.counters.drops == {"malformed-frame": 1}
        runtime.stop()

    assert run(run_dir, start) == 0


SERVICE = """
from netstack.runtime.service import Runtime, run

async def start(runtime: Runtime) -> None:
    runtime.ready()

run("udp_fwd", start, "A service that does nothing.")
"""


def command(run_dir: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-c", SERVICE, "--worker", "w", "--run-dir", str(run_dir), "--instance", "i", *arguments]


def test_as_a_process_it_is_ready_and_ends_with_0(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with notified(f"{run_dir}/notify", monkeypatch) as receiver:
        with subprocess.Popen(command(run_dir), stderr=subprocess.PIPE, text=True) as process:
            assert receiver.recv(200) == b"READY=1\nX_NETSTACK_WORKER=w\n"
            assert (run_dir / "i").stat().st_mode & 0o777 == 0o700
            process.send_signal(signal.SIGTERM)
            assert process.stderr is not None
            assert process.stderr.read().endswith("INFO    w ready\n")
        assert process.returncode == 0


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["-s", "no.such=1"], 2, "no"),
        (["-s", "tun.mtu=70000"], 2, "tun.mtu"),
        (["-c", "/no/such/file"], 2, "/no/such/file"),
        (["--instance", "x" * 90], 2, "too long"),
        (["--no-such-option"], 2, "usage"),
        (["--run-dir", "/dev/null/x"], 1, "--run-dir"),
    ],
    ids=[
        "an unknown key",
        "an impossible value",
        "no configuration file",
        "a run directory too long",
        "an unknown option",
        "a run directory that cannot be made",
    ],
)
def test_what_cannot_be_run_is_refused_with_the_reason(
    run_dir: Path, arguments: list[str], code: int, said: str
) -> None:
    outcome = subprocess.run(command(run_dir, *arguments), capture_output=True, text=True, check=False)
    assert outcome.returncode == code
    assert said in outcome.stderr
    assert "Traceback" not in outcome.stderr
    assert outcome.stdout == ""
