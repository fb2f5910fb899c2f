"""One instance on two hosts: tun_io and tracker on the one, the workers of TCP on the other, CURVE in between.

The other host is a network namespace with a clock of its own (time_namespaces(7)). It alone can reach the server. Where
the family is not said, the link and what it carries are of IPv4.
"""

import hashlib
import json
import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from netstack.runtime import keys
from tests.internet import Internet, wait_until
from tests.internet.machine import Finished, Running
from tests.internet.world import NETSTACK, UPSTREAM

LISTEN, LISTEN_V6 = "tcp://198.18.7.1:5700", "tcp://[2001:2:0:7::1]:5700"
SERVER, SERVER_V6 = "198.18.7.9", "2001:2:0:7::9"  # addresses of the other host
SIZE = 20_000_000  # octets
AHEAD = 500_000  # seconds that the other host's CLOCK_MONOTONIC is ahead

NETWORK = f"""
ip netns add captured
ip netns add far
ip link add near0 type veth peer name far0 netns far
ip link set near0 addrgenmode none
ip address add 198.18.7.1/30 dev near0
ip address add 2001:2:0:7::1/126 dev near0 nodad
ip address add fe80::1/64 dev near0 nodad
ip link set near0 up
ip -n far link set far0 addrgenmode none
ip -n far address add 198.18.7.2/30 dev far0
ip -n far address add 2001:2:0:7::2/126 dev far0 nodad
ip -n far address add fe80::2/64 dev far0 nodad
ip -n far address add {SERVER}/32 dev lo
ip -n far address add {SERVER_V6}/128 dev lo
ip -n far link set far0 up
ip -n far link set lo up
install -d -o 65532 -g 65532 -m 700 /run/near /run/far
"""


class TwoHosts:
    """The gateway, with its clients, and the far host."""

    def __init__(self, internet: Internet, folder: Path) -> None:
        self.internet = internet
        self.folder = folder
        self.public = {name: keys.generate(folder / name).hex() for name in ("near", "far", "stranger")}
        self.log = folder / "near.log"
        self.listen = LISTEN

    def near(self, command: str, *words: str | Path) -> list[str | Path]:
        return [NETSTACK, command, "--run-dir", "/run/near", *words]

    def start_near(self, *settings: str) -> Running:
        stages = [word for stage in ("tracker", "tun_io", "dns_filter", "udp_fwd") for word in ("--stage", stage)]
        all_settings = (
            f'dns.upstreams=["{UPSTREAM}"]', "capture.kind=name", "capture.name=captured", *settings,
            f'allow.networks=["{SERVER}", "{SERVER_V6}"]', f"links.listen={self.listen}",
        )  # fmt: skip
        with self.log.open("wb") as log:
            return self.internet.host.start(
                self.near("up", *stages, *(word for one in all_settings for word in ("-s", one))), stderr=log
            )

    def with_keys(self, whose: str, server: str = "near") -> list[str]:
        return [f"links.key_file={self.folder / whose}", f"links.server_key={self.public[server]}"]

    @contextmanager
    def far(self, command: Sequence[str | Path], *, log: str) -> Iterator[None]:
        """A program runs on the far host; its messages go to a file."""
        enter = ["unshare", "--time", "--monotonic", str(AHEAD), "--fork", "--kill-child", "--", *command]
        with (self.folder / log).open("wb") as messages:
            unshare = self.internet.host.start(["ip", "netns", "exec", "far", *enter], stderr=messages)
        children = Path(f"/proc/{unshare.pid}/task/{unshare.pid}/children")
        child = int(wait_until(lambda: children.read_text().split(), 5, "the program has started")[0])
        try:
            yield
        finally:
            # unshare itself is deaf to signals while it waits for its child.
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGTERM)
            unshare.reap()

    def start_far(self, *settings: str, stage: str = "tcp_fwd", log: str = "far.log") -> AbstractContextManager[None]:
        """A stage runs on the far host."""
        words = [word for setting in (f"links.connect={self.listen}", *settings) for word in ("-s", setting)]
        return self.far([NETSTACK, "up", "--stage", stage, "--run-dir", "/run/far", *words], log=log)

    def said(self, log: str) -> str:
        return (self.folder / log).read_text()

    def until_said(self, log: str, text: str) -> None:
        try:
            wait_until(lambda: text in self.said(log), 20, f"{log} says {text!r}")
        except AssertionError as error:
            raise AssertionError(f"{error}:\n{self.said(log)}") from None

    def captured(self, *command: str, timeout: float = 20) -> Finished:
        return self.internet.host.run(["ip", "netns", "exec", "captured", *command], timeout=timeout)

    def fetched(self, server: str = SERVER) -> Finished:
        self.until_said("near.log", "tun_io-0 ready")
        return self.captured("curl", "-sS", "-m", "15", f"http://{server}:8000/data", timeout=20)


@contextmanager
def ended(running: Running) -> Iterator[Running]:
    try:
        yield running
    finally:
        running.stop(signal.SIGTERM)


@pytest.fixture(scope="module")
def two(internet: Internet) -> Iterator[TwoHosts]:
    """The network, the keys and the server."""
    with internet.folder() as folder, ExitStack() as stack:
        internet.host.run(["sh", "-ec", NETWORK]).ok()
        stack.callback(
            internet.host.run, ["sh", "-c", "ip netns delete far; ip netns delete captured; rm -rf /run/near /run/far"]
        )
        two = TwoHosts(internet, folder)
        (folder / "www").mkdir()
        (folder / "www" / "data").write_bytes(os.urandom(SIZE))
        serve = ["python3", "-m", "http.server", "--directory", folder / "www", "--bind", "::", "8000"]  # and 0.0.0.0
        stack.enter_context(two.far(serve, log="server.log"))
        wait_until(
            lambda: internet.host.run(["ip", "netns", "exec", "far", "ss", "-ltn"]).text.count(":8000"), 10, "it serves"
        )
        yield two


@pytest.fixture
def near(two: TwoHosts, request: pytest.FixtureRequest) -> Iterator[TwoHosts]:
    """With the gateway's processes running, and keys. A parameter is where it listens."""
    peers = f"links.peers.far={two.public['far']}"
    two.listen = getattr(request, "param", LISTEN)
    with ended(two.start_near(f"links.key_file={two.folder / 'near'}", peers)):
        two.until_said("near.log", "udp_fwd-0 is here")
        yield two
    two.listen = LISTEN


@pytest.mark.parametrize(
    ("near", "server", "unknown"),
    [(LISTEN, SERVER, "198.18.7.2"), (LISTEN_V6, f"[{SERVER_V6}]", "[2001:2:0:7::2]")],
    ids=["IPv4", "IPv6"],
    indirect=["near"],
)
def test_what_a_client_fetches_travels_through_the_worker_on_the_other_host(
    near: TwoHosts, server: str, unknown: str
) -> None:
    with near.start_far(*near.with_keys("far")):
        near.until_said("near.log", "tcp_fwd-0-localhost is here")
        direct = near.internet.host.run(["curl", "-sS", "-m", "2", f"http://{server}:8000/"])
        assert direct.code != 0, "only the other host can reach the server"
        fetched = near.fetched(server).ok()
        expected = (near.folder / "www" / "data").read_bytes()
        assert hashlib.sha256(fetched.out).digest() == hashlib.sha256(expected).digest()
        assert near.captured("curl", "-sS", "-m", "5", f"http://{unknown}/").code == 7, "not whitelisted: refused"
        status = near.internet.host.run(near.near("status", "--json")).text
        workers = {one["worker"]: one for one in json.loads(status)["processes"]}
        assert workers["tcp_fwd-0-localhost"]["octets_out"] > SIZE
        assert workers["tcp_fwd-0-localhost"]["state"] == "ready"


def test_a_traced_packet_keeps_its_order_although_the_hosts_clocks_differ(near: TwoHosts) -> None:
    with near.start_far(*near.with_keys("far")):
        near.until_said("near.log", "tcp_fwd-0-localhost is here")
        near.fetched().ok()
        tracing = near.internet.host.start(near.near("trace", "-n", "1", "--json"))
        wait_until(lambda: _ask_until_traced(near, tracing), 15, "a connection is traced")
        hops = [json.loads(line) for line in tracing.wait(10).ok().text.splitlines()]
    way = [f"{hop['stage']} {hop['event']}" for hop in hops]
    assert way[:2] == ["tun_io read", "tcp_fwd received"]
    assert way.index("tcp_fwd connected") < way.index("tun_io wrote")
    assert all(0 <= hop["queue_wait"] < 1 for hop in hops)
    assert hops[-1]["at"] - hops[0]["at"] < 5, "not the clocks' difference"
    assert "another host" in hops[1]["detail"]


def _ask_until_traced(near: TwoHosts, tracing: Running) -> bool:
    near.captured("curl", "-sS", "-m", "1", "-o", "/dev/null", f"http://{SERVER}:8000/")
    return tracing.ended


def test_status_on_the_other_host_sees_the_whole_instance_and_trace_says_where_to_go(near: TwoHosts) -> None:
    with near.start_far(*near.with_keys("far")):
        near.until_said("far.log", "ready")
        status = near.internet.host.run(
            ["ip", "netns", "exec", "far", NETSTACK, "status", "--run-dir", "/run/far", "--json"]
        )
        processes = json.loads(status.text)["processes"]
        assert {one["worker"] for one in processes} >= {"tracker-0", "tun_io-0", "tcp_fwd-0-localhost"}
        trace = near.internet.host.run([NETSTACK, "trace", "--run-dir", "/run/far"])
        assert trace.code == 2
        assert LISTEN in trace.messages


def test_a_worker_without_a_dns_filter_beside_it_says_so(near: TwoHosts) -> None:
    with near.start_far(*near.with_keys("far")):
        near.until_said("far.log", "no dns_filter runs on this host")
        status = near.internet.host.run(near.near("status"))
        assert status.code == 4
        assert "netstack up --stage dns_filter" in status.text
        with near.start_far(*near.with_keys("far"), stage="dns_filter", log="far-dns.log"):
            near.until_said("far.log", "DNS over TCP works")
            near.until_said("near.log", "dns_filter-0-localhost is here")
            assert near.internet.host.run(near.near("status")).code == 0


@pytest.mark.parametrize(
    ("settings", "worker_says", "gateway_says"),
    [
        pytest.param(
            lambda two: two.with_keys("stranger"), "it does not know our key", "is not in links.peers",
            id="an unknown key",
        ),
        pytest.param(lambda two: ["links.insecure=true"], "it wants a key", "shows no key", id="no key"),
        pytest.param(
            lambda two: two.with_keys("far", server="stranger"), "links.server_key is not its public key",
            "takes us for another host", id="another server's key",
        ),
    ],
)  # fmt: skip
def test_who_has_not_the_right_keys_does_not_join(
    near: TwoHosts, settings, worker_says: str, gateway_says: str
) -> None:
    with near.start_far(*settings(near)):
        near.until_said("far.log", worker_says)
        near.until_said("near.log", gateway_says)
        assert "tcp_fwd-0-localhost is here" not in near.said("near.log")
    for log in ("far.log", "near.log"):
        for whose in ("near", "far", "stranger"):
            assert keys.read(near.folder / whose).hex() not in near.said(log)


def test_a_worker_that_was_refused_joins_once_its_key_is_known(two: TwoHosts) -> None:
    own = f"links.key_file={two.folder / 'near'}"
    with two.start_far(*two.with_keys("far")):
        two.until_said("far.log", "nobody answers there")
        with ended(two.start_near(own, f"links.peers.other={two.public['stranger']}")):
            two.until_said("near.log", f"its public key {two.public['far']} is not in links.peers")
        with ended(two.start_near(own, f"links.peers.far={two.public['far']}")):
            two.until_said("far.log", "joined")
            two.until_said("near.log", "tcp_fwd-0-localhost is here")
            two.until_said("near.log", "udp_fwd-0 is here")
            two.fetched().ok()


def test_a_network_of_ones_own_needs_no_keys_where_that_is_said(two: TwoHosts) -> None:
    refused = two.start_near().wait(10)
    assert refused.code == 2
    assert "links.listen" in two.said("near.log")
    with ended(two.start_near("links.insecure=true")), two.start_far("links.insecure=true"):
        two.until_said("near.log", "can read and forge")
        two.until_said("near.log", "tcp_fwd-0-localhost is here")
        two.until_said("near.log", "udp_fwd-0 is here")
        two.fetched().ok()
