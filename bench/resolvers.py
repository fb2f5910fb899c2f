"""Who answers names in `bench.dns`: ours, and dnsmasq and unbound, all of which ask the same authoritative server.

In the internet's namespace nsd has the zone on port 53, dnsmasq and unbound listen on ports of their own. Behind the
TUN port 53 is ours, whatever the address; the other ports are forwarded by udp_fwd like any UDP.
"""

import itertools
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from bench.contenders import netstack
from bench.workloads import SERVER
from bench.world import World, WorldError, wait_until

ZONE: Final = "bench.example"
HITS: Final = 1000
"""Names that are asked again and again."""
MISSES: Final = 120_000
"""Names that are asked once; each has an address of its own, as far as these go round."""

_DNSMASQ_PORT: Final = 5301
_UNBOUND_PORT: Final = 5302
_ADDRESSES: Final = 1 << 16  # of 198.19.0.0/16
_NSD: Final = """
server:
    ip-address: {server}
    server-count: 1
    username: ""
    chroot: ""
    pidfile: ""
    zonesdir: {directory}
    database: ""
    xfrdfile: {directory}/xfrd.state
    zonelistfile: {directory}/zone.list
    xfrdir: {directory}
    rrl-ratelimit: 0
remote-control:
    control-enable: no
zone:
    name: {zone}
    zonefile: zone
"""
_UNBOUND: Final = """
server:
    interface: {server}
    port: {port}
    do-daemonize: no
    use-syslog: no
    chroot: ""
    username: ""
    pidfile: ""
    directory: {directory}
    num-threads: 1
    access-control: 0.0.0.0/0 allow
    do-not-query-localhost: no
    module-config: "iterator"
    outgoing-range: 4096
    num-queries-per-thread: 2048
remote-control:
    control-enable: no
forward-zone:
    name: "."
    forward-addr: {server}
"""


class Resolver(NamedTuple):
    """One that is asked."""

    namespace: Path
    """Where the load generator runs."""
    port: int
    forwarder: int | None
    """The process whose tree is ours; None where nothing of ours is in between."""


def resolvers(world: World) -> dict[str, Resolver]:
    """All of them, in the order of the table, in a world that has none yet."""
    _start_nsd(world)
    _start_dnsmasq(world)
    _start_unbound(world)
    upstream = f'dns.upstreams=["udp://{SERVER}"]'
    one = netstack(world, "one", ["-s", upstream])
    two = netstack(world, "two", ["-s", upstream, "-s", "workers.dns_filter=2"])
    return {
        "netstack": Resolver(one.namespace, 53, one.forwarder),
        "two workers": Resolver(two.namespace, 53, two.forwarder),
        "dnsmasq, TUN": Resolver(one.namespace, _DNSMASQ_PORT, one.forwarder),
        "unbound, TUN": Resolver(one.namespace, _UNBOUND_PORT, one.forwarder),
        "dnsmasq": Resolver(world.host, _DNSMASQ_PORT, None),
        "unbound": Resolver(world.host, _UNBOUND_PORT, None),
    }


def zone() -> Iterator[str]:
    """The lines of the zone."""
    yield f"$ORIGIN {ZONE}."
    yield "$TTL 3600"
    yield f"@ SOA ns.{ZONE}. host.{ZONE}. 1 3600 600 86400 60"
    yield f"@ NS ns.{ZONE}."
    yield f"ns A {SERVER}"
    addresses = (f"198.19.{number >> 8 & 255}.{number & 255}" for number in itertools.cycle(range(_ADDRESSES)))
    for number in range(HITS):
        yield f"hit{number} A {next(addresses)}"
        yield f"hit{number} A {next(addresses)}"
    for number in range(MISSES):
        yield f"miss{number} A {next(addresses)}"
    yield '*.text TXT "as long as an address"'


def _start_nsd(world: World) -> None:
    (world.directory / "zone").write_text("\n".join(zone()) + "\n")
    path = world.directory / "nsd.conf"
    path.write_text(_NSD.format(server=SERVER, directory=world.directory, zone=ZONE))
    _start(world, "nsd", ["nsd", "-d", "-c", str(path)], 53)


def _start_dnsmasq(world: World) -> None:
    command = [
        "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--user=root", "--pid-file=", "--no-hosts",
        "--no-resolv", f"--server={SERVER}", "--cache-size=10000", f"--port={_DNSMASQ_PORT}", "--dns-forward-max=2048",
        f"--listen-address={SERVER}", "--bind-interfaces", "--log-facility=-",
    ]  # fmt: skip
    _start(world, "dnsmasq", command, _DNSMASQ_PORT)


def _start_unbound(world: World) -> None:
    path = world.directory / "unbound.conf"
    path.write_text(_UNBOUND.format(server=SERVER, port=_UNBOUND_PORT, directory=world.directory))
    _start(world, "unbound", ["unbound", "-d", "-p", "-c", str(path)], _UNBOUND_PORT)


def _start(world: World, name: str, command: list[str], port: int) -> None:
    process = world.start(world.internet, command, log=f"{name}.log")

    def answers() -> bool:
        if process.poll() is not None:
            raise WorldError(f"{name} ended: {world.tail(f'{name}.log')}")
        ask = ["dig", "+short", "+tries=1", "+time=1", f"@{SERVER}", "-p", str(port), f"hit0.{ZONE}"]
        inside = ["nsenter", f"--net={world.internet}", *ask]
        return subprocess.run(inside, capture_output=True, text=True, check=False).stdout.startswith("198.")

    wait_until(answers, f"{name} answering")
