"""Nothing leaves by another way, while traffic runs and each of the five processes is killed in turn."""

import ipaddress
import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from tests.e2e.calls import client_command
from tests.internet import Internet, Packet, Running, Sandbox, wait_until
from tests.internet.sandbox import Killed
from tests.internet.zones import DNS, ECHO_PORT, HOST_V4, HOST_V6, SERVERS_V4, SERVERS_V6, UNNAMED_V4, UNNAMED_V6

INSIDE = [ipaddress.ip_network(network) for network in ("10.0.0.0/24", "fd00:6e73::/64")]
OUTSIDE = [ipaddress.ip_network(network) for network in (SERVERS_V4, SERVERS_V6)]
TCP, UDP = 6, 17
BACK_WITHIN = 2.0  # seconds; the promise


@contextmanager
def running_client(sandbox: Sandbox, *words: str) -> Iterator[Running]:
    """client.py in the captured network, until its standard input is closed."""
    running = sandbox.start(client_command(*words), stdin=subprocess.PIPE)
    try:
        yield running
    finally:
        running.stop()


def report(running: Running) -> dict[str, Any]:
    """End a client and read what it says."""
    return json.loads(running.wait(10, b"").ok().text.splitlines()[-1])  # type: ignore[no-any-return]


def check_nothing_leaked(packets: list[Packet]) -> None:
    """Every packet is of our own sockets, to the configured resolver or an address that it had answered before."""
    ours = {HOST_V4, HOST_V6}
    asked = False
    for packet in packets:
        source, destination = ipaddress.ip_address(packet.source), ipaddress.ip_address(packet.destination)
        assert not any(address in network for network in INSIDE for address in (source, destination)), packet
        assert not {packet.source, packet.destination} & {UNNAMED_V4, UNNAMED_V6}, packet
        if any(destination in network for network in OUTSIDE):
            assert packet.source in ours, packet
            assert asked, f"before any name was resolved: {packet}"
        # Over TCP the kernel may still have a word to say about a connection of a test before this one.
        if packet.destination_port == 53 and (packet.protocol != TCP or packet.opens):
            assert (packet.source, packet.destination, packet.protocol) == (HOST_V4, DNS, UDP), packet
        asked = asked or (packet.source == DNS and packet.source_port == 53)
    assert asked


def check_goes_on(flow: Running, since: float) -> None:
    """The flow has had an answer after that time (Unix time)."""
    assert any(not said.startswith(b"{") and float(said) > since for said in iter(flow.stdout.readline, b"")), report(
        flow
    )


def test_nothing_leaks_and_flows_survive_while_each_process_is_killed(internet: Internet) -> None:
    echo = str(ECHO_PORT)
    kills: dict[str, Killed] = {}
    with internet.capture() as capture, internet.sandbox() as sandbox:
        with (
            running_client(sandbox, "restless", "v4.test,v6.test", UNNAMED_V4, UNNAMED_V6) as restless,
            running_client(sandbox, "flow", "echo4.test", echo) as tcp4,
            running_client(sandbox, "flow", "echo6.test", echo) as tcp6,
            running_client(sandbox, "flow", "echo4.test", echo, "udp") as udp4,
            running_client(sandbox, "flow", "echo6.test", echo, "udp") as udp6,
        ):
            for stage in ("tun_io", "dns_filter", "udp_fwd", "tracker"):
                kills[stage] = sandbox.kill(stage)
                for flow in (tcp4, tcp6, udp4, udp6):
                    check_goes_on(flow, kills[stage].at)
            kills["tcp_fwd"] = sandbox.kill("tcp_fwd")
            for flow in (udp4, udp6):
                check_goes_on(flow, kills["tcp_fwd"].at)
            # Nobody holds the lease any more that the cached answer once got.
            for name in ("v4.test", "v6.test"):
                sandbox.run(["curl", "-sS", "--max-time", "5", f"http://{name}/hello"]).ok()
            cuts, tried = [report(tcp4), report(tcp6)], report(restless)
        packets = capture.stop()
    print("\nback after SIGKILL:", ", ".join(f"{stage} {killed.back_after:.2f} s" for stage, killed in kills.items()))
    check_nothing_leaked(packets)
    assert all(killed.back_after < BACK_WITHIN for killed in kills.values()), kills
    for cut in cuts:
        assert cut["error"] == "ECONNRESET"
        assert cut["ended"] - kills["tcp_fwd"].at < 1, f"the reset came at once: {cuts}, {kills}"
    assert tried["reached"] == 0
    assert all(tried["fetched"].values()), tried


def test_flows_of_a_killed_tcp_fwd_are_reset_at_once_and_no_others(internet: Internet) -> None:
    with internet.sandbox({"workers.tcp_fwd": "2"}) as sandbox, ExitStack() as stack:
        clients = [stack.enter_context(running_client(sandbox, "flow", "echo.test", str(ECHO_PORT))) for _ in range(8)]
        for client in clients:
            check_goes_on(client, 0)
        # For two seconds a new tun_io waits for workers that were there before it to claim their flows.
        started = sandbox.process("tun_io")["ready_since"]
        wait_until(lambda: time.time() > started + 2.2, 5, "tun_io resets what it does not know")
        killed = sandbox.kill("tcp_fwd")
        outcomes = [report(client) for client in clients]
    assert {outcome["error"] for outcome in outcomes} == {None, "ECONNRESET"}, outcomes
    assert all(outcome["ended"] - killed.at < 1 for outcome in outcomes if outcome["error"]), outcomes
