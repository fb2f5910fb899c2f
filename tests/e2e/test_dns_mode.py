"""`mode = "dns"`: the filtering resolver alone, for this machine and whoever asks it, without a TUN."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.internet import Internet, wait_until
from tests.internet.machine import Running
from tests.internet.world import NETSTACK, UPSTREAM
from tests.internet.zones import HOST_V4, HOST_V6

AS_NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
DIG = ["dig", "+tries=1", "+time=5"]


@contextmanager
def resolver(
    internet: Internet, run_dir: str, *settings: str, user: tuple[str, ...] = (), upstream: str = UPSTREAM
) -> Iterator[Running]:
    words = [word for setting in (f'dns.upstreams=["{upstream}"]', *settings) for word in ("-s", setting)]
    running = internet.host.start([*user, NETSTACK, "up", "--run-dir", run_dir, "-s", "mode=dns", *words])
    status = [*user, NETSTACK, "status", "--run-dir", run_dir]
    try:
        wait_until(lambda: running.ended or internet.host.run(status).code == 0, 10, "both processes are ready")
        yield running
    finally:
        if not running.ended:
            running.send(signal.SIGTERM)
            running.wait(10)


@pytest.fixture(scope="module")
def everywhere(internet: Internet) -> Iterator[Running]:
    """On port 53 of every address of the user's machine."""
    with resolver(internet, "/run/dns", 'dns.listen=["0.0.0.0:53", "[::]:53"]', "workers.dns_filter=2") as running:
        yield running


@pytest.mark.parametrize(
    "server",
    ["127.0.0.1", "127.1.2.3", "::1", HOST_V4, HOST_V6],
    ids=["loopback", "all of it", "v6", "link", "link v6"],
)
@pytest.mark.parametrize("transport", ["+notcp", "+tcp"])
def test_every_address_answers(internet: Internet, everywhere: Running, server: str, transport: str) -> None:
    asked = internet.host_run([*DIG, "+short", f"@{server}", transport, "www.test", "A"]).ok()
    assert asked.text == "198.18.1.10\n"


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (["kdig", "@127.0.0.1", "+keepopen", "+tcp", "www.test", "v4.test", "alias.test"], "198.18.1.11"),
        (["drill", "@127.0.0.1", "alias.test"], "198.18.1.10"),
        (["drill", "-t", "@::1", "www.test", "AAAA"], "2001:2:0:2::10"),
        (["kdig", "@127.0.0.1", "+ignore", "+bufsize=512", "big.test"], "Flags: qr aa tc rd ra"),
        (["kdig", "@127.0.0.1", "+ignore", "+bufsize=512", "+tcp", "big.test"], "ANSWER: 100"),
        (["kdig", "@127.0.0.1", "+cookie", "+nsid", "+padding", "www.test"], "198.18.1.10"),
        (["kdig", "@127.0.0.1", "TYPE65280", "www.test"], "status: NOERROR"),
        (["kdig", "@127.0.0.1", "nothing.test"], "status: NXDOMAIN"),
    ],
    ids=["many on a connection", "drill", "drill over TCP", "truncated", "whole", "options", "unknown type", "no name"],
)
def test_other_resolvers_tools(internet: Internet, everywhere: Running, command: list[str], says: str) -> None:
    assert says in internet.host_run(command).ok().text


def test_machine_resolves_with_it(internet: Internet, everywhere: Running) -> None:
    internet.host_run(["sh", "-c", "cp /run/resolv.conf /run/resolv.before"]).ok()
    try:
        # In place: it is mounted over /etc/resolv.conf.
        internet.host_run(["sh", "-c", "echo nameserver 127.0.0.1 > /run/resolv.conf"]).ok()
        got = internet.host_run(["getent", "ahosts", "www.test"]).ok().text
        assert {"198.18.1.10", "2001:2:0:2::10"} <= set(got.split())
        assert (
            internet.host_run(["curl", "-sS", "http://www.test/hello"]).ok().text == "hello from the small internet\n"
        )
        assert internet.host_run(["getent", "hosts", "nothing.test"]).code == 2
    finally:
        internet.host_run(["sh", "-c", "cat /run/resolv.before > /run/resolv.conf"]).ok()


def ours(internet: Internet) -> dict[int, str]:
    """The processes of `everywhere`, by their run directory: other instances may run beside it."""
    return {pid: args for pid, args in internet.host.processes().items() if "/run/dns" in args}


def test_what_is_asked_while_it_is_started_anew_waits(internet: Internet, everywhere: Running) -> None:
    workers = [pid for pid, args in ours(internet).items() if "services.dns_filter" in args]
    assert len(workers) == 2
    internet.host_run(["kill", "-KILL", *map(str, workers)]).ok()
    asked = internet.host_run([*DIG, "+short", "@127.0.0.1", "www.test", "A"]).ok()
    assert asked.text == "198.18.1.10\n"


def test_nothing_is_captured(internet: Internet, everywhere: Running) -> None:
    assert "tun0" not in internet.host_run(["ip", "link"]).ok().text
    names = ours(internet).values()
    assert names
    assert not any(f"services.{stage}" in args for args in names for stage in ("tun_io", "tcp_fwd", "udp_fwd"))


def test_no_privilege_is_needed_above_1023(internet: Internet) -> None:
    listen = 'dns.listen=["127.0.0.1:5354"]'
    with resolver(internet, "/tmp/dns", listen, user=tuple(AS_NOBODY)) as running:
        asked = internet.host_run([*DIG, "+short", "@127.0.0.1", "-p", "5354", "www.test", "A"]).ok()
        assert asked.text == "198.18.1.10\n"
        running.send(signal.SIGINT)
        ended = running.wait(10)
    assert (ended.code, ended.text) == (0, "")
    assert "dig @127.0.0.1 -p 5354" in ended.messages


@pytest.mark.parametrize(
    ("listen", "says"),
    [
        ("127.0.0.1:53", "Permission denied: a port below 1024 needs root"),
        ("198.18.0.99:5354", "`ip address` shows"),
    ],
    ids=["a port for root", "somebody else's address"],
)
def test_where_it_cannot_listen(internet: Internet, listen: str, says: str) -> None:
    words = [*AS_NOBODY, NETSTACK, "up", "--run-dir", "/tmp/dns2", "-s", "mode=dns", "-s", f'dns.listen=["{listen}"]']
    ended = internet.host_run(words)
    assert ended.code == 1
    assert says in ended.messages
    assert "Traceback" not in ended.messages
