"""After `netstack exec` the machine is as it was, whatever ended it."""

import signal

import pytest

from tests.internet import Internet, wait_until
from tests.internet.machine import Machine

SHOWN = {
    "links": "ip -o link | grep -v out0",
    "addresses": "ip -o address | sed 's/valid_lft.*//'",
    "routes": "ip route show table all; ip -6 route show table all; ip rule; ip -6 rule",
    "firewall": "nft list ruleset 2>&1",
    "named namespaces": "ip netns list",
    # Of what a run could touch; the machine below has mounts of its own, which come and go.
    "mounts": "cut -d' ' -f4- /proc/1/mountinfo | grep -E '^[^ ]+ /(|run|tmp|dev|etc|proc|sys)[ /]' | grep -v nsfs",
    # Not those of UDP: the captured network that tests share has some, which end by themselves in their own time. None
    # outlives its process, and processes are compared.
    "sockets": "ss -Hlnx; ss -Hlnt",
    # An empty directory for run directories is no trace of an instance.
    "files": "find /run /tmp -mindepth 1 | grep -vx /run/netstack",
    "settings": "sysctl -a 2>/dev/null | grep -E '^net.ipv[46].(ip_|conf.(all|out0).(forwarding|rp_filter)|ping_)'",
}


def state(host: Machine) -> dict[str, object]:
    """All that a run could leave on a machine."""
    found: dict[str, object] = {what: host.run(["sh", "-c", script]).text for what, script in SHOWN.items()}
    # Others than ours do not live there.
    found["processes"] = sorted(host.processes().values())
    return found


@pytest.mark.parametrize(
    "number", [None, signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=["its end", "SIGINT", "SIGTERM", "SIGKILL"]
)
def test_nothing_is_left_after(internet: Internet, number: int | None) -> None:
    before = state(internet.host)
    script = "curl -sS http://www.test/hello; echo up; " + ("true" if number is None else "exec sleep 60")
    with internet.netstack_exec_running(["sh", "-c", script]) as running:
        wait_until(lambda: running.stdout.readline() == b"up\n", 10, "it runs")
        if number is not None:
            running.send(number)
        running.wait(10)
        if number == signal.SIGKILL:
            # Nobody is there any more who could wait for the others.
            wait_until(lambda: state(internet.host) == before, 10, f"nothing is left\n{_difference(internet, before)}")
        assert state(internet.host) == before


def test_nothing_is_left_of_a_background_process_of_the_command(internet: Internet) -> None:
    before = state(internet.host)
    # It lives in the network that ends with the command.
    internet.netstack_exec(["sh", "-c", "sleep 3600 >/dev/null 2>&1 & setsid sleep 3601 >/dev/null 2>&1 & true"]).ok()
    assert state(internet.host) == before


def test_nothing_is_left_of_a_start_that_was_interrupted(internet: Internet) -> None:
    before = state(internet.host)
    running = internet.host.start(internet.exec_command(["true"]))
    wait_until(lambda: len(internet.host.processes()) > len(before["processes"]) + 1, 5, "a service was started")  # type: ignore[arg-type]
    running.send(signal.SIGINT)
    running.wait(10)
    assert state(internet.host) == before


def _difference(internet: Internet, before: dict[str, object]) -> str:
    after = state(internet.host)
    return "\n".join(f"{what}: {before[what]} -> {after[what]}" for what in before if before[what] != after[what])
