"""Many connections: idle at once, and opened and closed one after the other; what that costs in memory."""

import os
import subprocess
from collections.abc import Iterator

import pytest

from tests.e2e.ordering import ask, orders_served, report, words
from tests.internet import Internet, Sandbox, wait_until
from tests.internet.orders import ORDERS_PORT
from tests.internet.usage import Usage, usage
from tests.internet.zones import ECHO_PORT, ECHO_V4, ECHO_V6, WWW_V4, WWW_V6

ECHO, WWW = f"{ECHO_V4},{ECHO_V6}", f"{WWW_V4},{WWW_V6}"
"""Half of the connections are of either family."""
IDLE = int(os.environ.get("NETSTACK_E2E_IDLE", "1000"))
"""Idle connections; 10,000 is what a release is tested with."""
CHURN = float(os.environ.get("NETSTACK_E2E_CHURN", "2"))
"""Seconds of opening and closing; 30 is what a release is tested with."""
RATE = 1000.0
"""Connections a second, as far as this machine can: what is said is how many there were."""

PER_IDLE_FLOW = 8192  # octets, of all processes together
SLACK = 4 << 20  # octets; what an allocator keeps
TIME_WAIT = 1024  # octets that a connection may leave behind for its TIME-WAIT

pytestmark = pytest.mark.timeout(120 + 5 * CHURN + IDLE / 50)


@pytest.fixture(scope="module")
def captured(internet: Internet) -> Iterator[Sandbox]:
    """A captured network of its own, in which nothing else happens."""
    with orders_served(internet), internet.sandbox({"allow.networks": '["198.18.0.0/15", "2001:2::/48"]'}) as sandbox:
        yield sandbox


def uses(internet: Internet, sandbox: Sandbox) -> dict[str, Usage]:
    """What each process on the way of TCP uses."""
    pids = {one["stage"]: one["pid"] for one in sandbox.status()}
    return {stage: usage(internet.host, pids[stage]) for stage in ("tun_io", "tcp_fwd")}


def flows(sandbox: Sandbox) -> int:
    return sandbox.process("tcp_fwd")["gauges"]["flows"]  # type: ignore[no-any-return]


def test_idle_connections_stay_and_cost_little(internet: Internet, captured: Sandbox) -> None:
    ask(captured, "churn", WWW, ORDERS_PORT, rate=500, seconds=0.4)
    wait_until(lambda: flows(captured) == 0, 10, "the first ones are gone")
    before = uses(internet, captured)
    holding = captured.start(words("hold", ECHO, ECHO_PORT, count=IDLE), stdin=subprocess.PIPE)
    assert holding.stdout.readline().startswith(b"held %d after" % IDLE)
    wait_until(lambda: flows(captured) == IDLE, 10, f"{IDLE} flows are open")
    during = uses(internet, captured)
    # Others are served meanwhile.
    assert ask(captured, "churn", WWW, ORDERS_PORT, rate=100, seconds=0.5)["errors"] == {}
    assert report(holding) == {"errors": {}, "lost_at": []}
    wait_until(lambda: flows(captured) == 0, 10 + IDLE / 1000, "all flows are over")
    after = uses(internet, captured)
    cost = {stage: (during[stage].memory - before[stage].memory) / IDLE for stage in before}
    print(f"octets per idle flow: {cost}")
    assert sum(cost.values()) < PER_IDLE_FLOW, cost
    assert during["tcp_fwd"].descriptors - before["tcp_fwd"].descriptors == IDLE
    assert {stage: one.descriptors for stage, one in after.items()} == {
        stage: one.descriptors for stage, one in before.items()
    }


def test_opening_and_closing_leaves_nothing_behind(internet: Internet, captured: Sandbox) -> None:
    # What is only made once, and what is remembered for a while, is made in the first ones.
    ask(captured, "churn", WWW, ORDERS_PORT, rate=RATE, seconds=1)
    wait_until(lambda: flows(captured) == 0, 10, "the first ones are gone")
    before = uses(internet, captured)
    said = ask(captured, "churn", WWW, ORDERS_PORT, rate=RATE, seconds=CHURN, within=40 + CHURN)
    wait_until(lambda: flows(captured) == 0, 10, "all flows are over")
    after = uses(internet, captured)
    print(said, before, after, sep="\n")
    wait_until(lambda: captured.process("tun_io")["gauges"]["tcp_fwd_flows"] == 0, 5, "tun_io remembers none")
    assert said["errors"] == {}
    assert said["done"] > 50 * CHURN, "so few say nothing"
    allowed = SLACK + TIME_WAIT * captured.process("tcp_fwd")["gauges"]["time_wait"]
    for stage, one in after.items():
        assert one.descriptors == before[stage].descriptors, (stage, before, after)
        assert one.memory - before[stage].memory < allowed, (stage, before, after)
