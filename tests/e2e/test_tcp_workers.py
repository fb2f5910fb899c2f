"""Three tcp_fwd: flows are spread, stay where they are, and outlive whatever happens to other workers or tun_io."""

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from netstack.cli.tun import SPARE
from tests.e2e.ordering import ask, orders_served, report, words
from tests.e2e.test_leaks import check_goes_on, running_client
from tests.e2e.test_leaks import report as client_report
from tests.internet import Internet, Running, Sandbox, wait_until
from tests.internet.orders import ORDERS_PORT
from tests.internet.usage import of
from tests.internet.zones import ECHO_PORT, ECHO_V4, ECHO_V6, WWW_V4, WWW_V6

WORKERS = int(os.environ.get("NETSTACK_E2E_WORKERS", "3"))
"""18 are more than the TUN has spare queues: the rest goes through tun_io."""
LENT = min(WORKERS + 2, SPARE)  # udp_fwd and dns_filter have one too
EACH = 20  # connections a worker
ECHO, WWW = f"{ECHO_V4},{ECHO_V6}", f"{WWW_V4},{WWW_V6}"
"""Half of the connections are of either family."""

pytestmark = pytest.mark.timeout(150)  # processes are started anew again and again


@pytest.fixture(scope="module")
def captured(internet: Internet) -> Iterator[Sandbox]:
    """A captured network with three workers; each test leaves it with three and without flows."""
    settings = {"workers.tcp_fwd": str(WORKERS), "allow.networks": '["198.18.0.0/15", "2001:2::/48"]'}
    with orders_served(internet), internet.sandbox(settings) as sandbox:
        # For two seconds a new tun_io waits for workers that were there before it to claim their flows.
        started = wait_until(lambda: sandbox.process("tun_io"), 10, "tun_io is ready")["ready_since"]
        wait_until(lambda: time.time() > started + 2.2, 5, "tun_io resets what it does not know")
        yield sandbox


@pytest.fixture(autouse=True)
def all_at_rest(captured: Sandbox) -> None:
    """Every worker is there and has nothing to do."""
    wait_until(lambda: list(flows(captured).values()) == [0] * WORKERS, 15, f"all are at rest: {flows(captured)}")


def workers(sandbox: Sandbox) -> dict[str, dict[str, Any]]:
    """What is said of each worker that is ready."""
    return {one["worker"]: one for one in sandbox.status() if one["stage"] == "tcp_fwd" and one["ready_since"]}


def flows(sandbox: Sandbox) -> dict[str, int]:
    return {name: one["gauges"]["flows"] for name, one in workers(sandbox).items()}


@contextmanager
def held(sandbox: Sandbox, count: int, hosts: str = ECHO) -> Iterator[Running]:
    """So many open connections."""
    running = sandbox.start(words("hold", hosts, ECHO_PORT, count=count), stdin=subprocess.PIPE)
    try:
        assert running.stdout.readline().startswith(b"held %d after" % count)
        yield running
    finally:
        running.stop()


def pids(sandbox: Sandbox) -> dict[str, int]:
    return {name: one["pid"] for name, one in workers(sandbox).items()}


def signal_to(internet: Internet, pid: int, which: str) -> None:
    """Send a signal to a process."""
    internet.host.run(["kill", f"-{which}", str(pid)]).ok()


def wait_for_successor(internet: Internet, sandbox: Sandbox, name: str, pid: int) -> None:
    """Return when another process is in its place."""
    # `netstack status` is a whole program: it is not asked before there is something to see.
    wait_until(lambda: not of(internet.host, pid).exists(), 20, f"{name} has ended")
    wait_until(lambda: pids(sandbox).get(name, pid) != pid, 15, f"another {name} is there")


def lent(sandbox: Sandbox) -> int:
    """How many workers have a queue of their own."""
    return sandbox.process("tun_io").get("gauges", {}).get("queues_lent", 0)  # type: ignore[no-any-return]


def spread(sandbox: Sandbox, total: int) -> dict[str, int]:
    """The flows of each worker, once there are that many: the kernel gives each a share by chance."""
    return wait_until(lambda: (now := flows(sandbox)) and sum(now.values()) == total and now, 5, f"{total} flows")  # type: ignore[no-any-return]


@pytest.mark.parametrize("host", [ECHO_V4, ECHO_V6], ids=["IPv4", "IPv6"])
def test_flows_are_spread(captured: Sandbox, host: str) -> None:
    with held(captured, WORKERS * EACH, host) as holding:
        assert min(spread(captured, WORKERS * EACH).values()) > EACH // 10
        assert report(holding) == {"errors": {}, "lost_at": []}


@pytest.mark.parametrize("host", [WWW_V4, WWW_V6], ids=["IPv4", "IPv6"])
def test_packets_of_established_flows_do_not_cross_tun_io(captured: Sandbox, host: str) -> None:
    def packets() -> dict[str, int]:
        counts = {"tun_io": 0, "tcp_fwd": 0}
        for one in captured.status():
            if one["stage"] in counts:
                counts[one["stage"]] += one["packets_in"] + one["packets_out"]
        return counts

    wait_until(lambda: lent(captured) == LENT, 10, "every worker has a queue of its own")
    before = packets()
    ask(captured, "transfer", host, ORDERS_PORT, order={"send": 8 << 20}, send=8 << 20)
    after = packets()
    assert after["tcp_fwd"] - before["tcp_fwd"] > 100
    assert after["tun_io"] - before["tun_io"] < 10


def test_a_worker_that_drains_keeps_what_it_has_and_gets_nothing_new(internet: Internet, captured: Sandbox) -> None:
    with held(captured, WORKERS * EACH) as old:
        before = spread(captured, WORKERS * EACH)
        pid = pids(captured)["tcp_fwd-1"]
        signal_to(internet, pid, "USR1")
        with held(captured, WORKERS * EACH) as new:
            now = spread(captured, 2 * WORKERS * EACH)
            assert now["tcp_fwd-1"] == before["tcp_fwd-1"], "the others have what is new"
            # The last flow of the one that drains ends: another process takes its place, and what is open stays.
            assert report(old) == {"errors": {}, "lost_at": []}
            wait_for_successor(internet, captured, "tcp_fwd-1", pid)
            with held(captured, EACH) as newest:
                wait_until(lambda: flows(captured)["tcp_fwd-1"] > 0, 5, "the new process gets flows")
                assert report(newest) == {"errors": {}, "lost_at": []}
            assert report(new) == {"errors": {}, "lost_at": []}
    wait_until(lambda: lent(captured) == LENT, 10, "the new process has a queue too")


def test_no_connection_is_lost_while_one_after_the_other_drains(internet: Internet, captured: Sandbox) -> None:
    making = words("churn", WWW, ORDERS_PORT, rate=100, seconds=90, until_told=True)
    running = captured.start(making, stdin=subprocess.PIPE)
    try:
        for name, pid in pids(captured).items():
            signal_to(internet, pid, "USR1")
            wait_for_successor(internet, captured, name, pid)
        outcome = report(running)
    finally:
        running.stop()
    print(outcome)
    assert outcome["errors"] == {}
    assert outcome["done"] > 100


def test_a_killed_worker_takes_its_own_flows_with_it_at_once_and_no_others(
    internet: Internet, captured: Sandbox
) -> None:
    with held(captured, WORKERS * EACH) as holding:
        share = spread(captured, WORKERS * EACH)["tcp_fwd-2"]
        pid = pids(captured)["tcp_fwd-2"]
        killed = time.time()
        signal_to(internet, pid, "KILL")
        # What is new works at once, before another process is there.
        assert ask(captured, "churn", WWW, ORDERS_PORT, rate=50, seconds=0.5)["errors"] == {}
        wait_for_successor(internet, captured, "tcp_fwd-2", pid)
        outcome = report(holding)
    assert outcome["errors"] == {"ECONNRESET": share}
    first, last = outcome["lost_at"]
    print(f"reset {first - killed:.2f} to {last - killed:.2f} s after the kill")
    assert last - killed < 3


def test_flows_go_on_without_tun_io_and_the_next_one_finds_the_queues_claimed(
    internet: Internet, captured: Sandbox
) -> None:
    wait_until(lambda: lent(captured) == LENT, 10, "every worker has a queue of its own")
    with ExitStack() as stack:
        hosts = [ECHO_V4, ECHO_V6] * 3
        going = [stack.enter_context(running_client(captured, "flow", host, str(ECHO_PORT))) for host in hosts]
        for one in going:
            check_goes_on(one, 0)
        pid = captured.process("tun_io")["pid"]
        signal_to(internet, pid, "STOP")
        stopped = time.time()
        for one in going:
            check_goes_on(one, stopped + 0.5)
        signal_to(internet, pid, "KILL")
        wait_until(lambda: captured.process("tun_io").get("pid", pid) != pid, 10, "another tun_io is there")
        wait_until(lambda: lent(captured) == LENT, 10, "each queue is claimed")
        back = time.time()
        for one in going:
            check_goes_on(one, back + 2.2)  # what nobody has claimed is taken back then
        assert lent(captured) == LENT
        assert [client_report(one)["error"] for one in going] == [None] * 6


def test_a_worker_that_hangs_takes_nothing_new_with_it(internet: Internet, captured: Sandbox) -> None:
    wait_until(lambda: lent(captured) == LENT, 10, "every worker has a queue of its own")
    with held(captured, WORKERS * EACH) as holding:
        pid = pids(captured)["tcp_fwd-0"]
        signal_to(internet, pid, "STOP")
        try:
            wait_until(
                lambda: lent(captured) == (LENT if WORKERS + 2 > SPARE else LENT - 1), 10, "its queue was taken back"
            )
            assert ask(captured, "churn", WWW, ORDERS_PORT, rate=50, seconds=0.5)["errors"] == {}
        finally:
            signal_to(internet, pid, "CONT")
        wait_until(lambda: lent(captured) == LENT, 10, "it has one again")
        assert ask(captured, "churn", WWW, ORDERS_PORT, rate=50, seconds=0.5)["errors"] == {}
        outcome = report(holding)
    assert set(outcome["errors"]) <= {"ECONNRESET"}
    assert sum(outcome["errors"].values()) < WORKERS * EACH
