"""Two more networks, there while a test wants them: one behind a kernel router, and one behind a link of a smaller MTU.

    routed (198.18.7.2) ---- host ---- net ---- far (198.18.8.2), MTU 1400

What is run in `routed` passes the kernel's router where a captured command passes ours: the yardstick. Both have IPv6
too.
"""

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from tests.internet import zones
from tests.internet.machine import Machine, Place
from tests.internet.world import Internet

ROUTED_V4, ROUTED_V6 = "198.18.7.2", "2001:2:0:7::2"
ROUTED_GATEWAY_V4, ROUTED_GATEWAY_V6 = "198.18.7.1", "2001:2:0:7::1"
ROUTED_NETWORK_V4, ROUTED_NETWORK_V6 = "198.18.7.0/24", "2001:2:0:7::/64"
FAR_GATEWAY_V4, FAR_GATEWAY_V6 = "198.18.8.1", "2001:2:0:8::1"
FAR_TOO_V4, FAR_TOO_V6 = "198.18.8.3", "2001:2:0:8::3"
"""The same host under other addresses, of which nobody has learned a path MTU."""
FAR_MTU = 1400  # octets

# A machine limits its ICMP errors to one a second and destination, which a table of checks would soon meet.
_ROUTER = "net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 net.ipv4.icmp_ratelimit=0 net.ipv6.icmp.ratelimit=0"

_HOST_AGAIN = (
    "net.ipv4.ip_forward=0 net.ipv6.conf.all.forwarding=0 net.ipv4.icmp_ratelimit=1000 net.ipv6.icmp.ratelimit=1000"
)


class Namespace(Place):
    """A network namespace of a machine, with the machine's files and processes."""

    namespaces = ("--net", "--mount", "--pid")


@contextmanager
def routed(internet: Internet) -> Iterator[Namespace]:
    """A network whose only way out is the user's machine, as a router."""
    with ExitStack() as stack:
        place = stack.enter_context(_namespace(internet.host))
        internet.host.run(["sysctl", "-qw", *_ROUTER.split()]).ok()
        stack.callback(internet.host.run, ["sysctl", "-qw", *_HOST_AGAIN.split()])
        gateways, addresses = (ROUTED_GATEWAY_V4, ROUTED_GATEWAY_V6), (ROUTED_V4, ROUTED_V6)
        stack.enter_context(_linked(internet.host, place, "routed0", gateways, addresses, 1500))
        for prefix, via in ((ROUTED_NETWORK_V4, zones.HOST_V4), (ROUTED_NETWORK_V6, zones.HOST_V6)):
            internet.net.run(["ip", "route", "add", prefix, "via", via]).ok()
            stack.callback(internet.net.run, ["ip", "route", "delete", prefix, "via", via])
        yield place


@contextmanager
def far(internet: Internet) -> Iterator[Namespace]:
    """A host that is one hop farther than all servers, by a link of FAR_MTU octets; nothing listens there."""
    gateways, addresses = (FAR_GATEWAY_V4, FAR_GATEWAY_V6), (zones.FAR_V4, zones.FAR_V6)
    with _namespace(internet.net) as place, _linked(internet.net, place, "far0", gateways, addresses, FAR_MTU):
        _ip(place, f"address add {FAR_TOO_V4}/32 dev eth0\naddress add {FAR_TOO_V6}/128 dev eth0 nodad")
        yield place
    for family in ("-4", "-6"):  # so that the next one to come finds nobody who has learned a path MTU
        internet.host.run(["ip", family, "route", "flush", "cache"])


@contextmanager
def behind(place: Place, number: int = 9, mtu: int = 1500) -> Iterator[Place]:
    """A network whose only way out is `place`, as a router, by a link of that MTU; it has the files of this process.

    number tells networks apart that are there together.
    """
    script = "ip link set lo up; echo up; exec sleep infinity"
    holder = place.start(["unshare", "--net", "sh", "-c", script])
    try:
        assert holder.stdout.readline() == b"up\n"
        routed = _Net(holder.pid)
        place.run(["sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"]).ok()
        gateways, addresses = (
            (f"10.0.{number}.{host}", f"fd00:6e73:{number}::{host}") for host in (1, 2)
        )  # fmt: skip
        with _linked(place, routed, f"beyond{number}", gateways, addresses, mtu):
            yield routed
    finally:
        holder.stop()


@contextmanager
def narrow(place: Place, mtu: int) -> Iterator[Place]:
    """A network two hops behind `place`, the first of them a link of a smaller MTU, which neither end knows of."""
    with behind(place, 9, mtu) as middle, behind(middle, 10) as routed:
        _ip(place, "route add 10.0.10.0/24 via 10.0.9.2\nroute add fd00:6e73:10::/64 via fd00:6e73:9::2")
        yield routed


class _Net(Place):
    """A network namespace, and nothing else that is not ours."""

    namespaces = ("--net",)


@contextmanager
def _namespace(machine: Machine) -> Iterator[Namespace]:
    script = f"ip link set lo up; sysctl -qw {_ROUTER}; echo up; exec sleep infinity"
    holder = machine.start(["unshare", "--net", "sh", "-c", script])
    try:
        assert holder.stdout.readline() == b"up\n"
        yield Namespace(holder.pid)
    finally:
        holder.stop()


@contextmanager
def _linked(
    machine: Place, place: Place, name: str, gateways: tuple[str, str], addresses: tuple[str, str], mtu: int
) -> Iterator[None]:
    """A link between a machine and a namespace, whose default route leads there."""
    _ip(machine, f"""
        link add {name} mtu {mtu} type veth peer name eth0 mtu {mtu} netns {place.target}
        link set {name} addrgenmode none
        address add {gateways[0]}/24 dev {name}
        address add {gateways[1]}/64 dev {name} nodad
        address add fe80::1/64 dev {name} nodad
        link set {name} up
    """)  # fmt: skip
    _ip(place, f"""
        link set eth0 addrgenmode none
        address add {addresses[0]}/24 dev eth0
        address add {addresses[1]}/64 dev eth0 nodad
        address add fe80::2/64 dev eth0 nodad
        link set eth0 up
        route add default via {gateways[0]}
        route add default via {gateways[1]}
    """)  # fmt: skip
    try:
        yield
    finally:
        machine.run(["ip", "link", "delete", name])


def _ip(place: Place, lines: str) -> None:
    # From outside of the machines' PID namespaces, so that a namespace can be named by its holder.
    command = ["nsenter", f"--target={place.target}", "--net", "ip", "-batch", "-"]
    text = "\n".join(line.strip() for line in lines.strip().splitlines())
    done = subprocess.run(command, input=text, text=True, capture_output=True, timeout=10, check=False)
    if done.returncode:
        raise RuntimeError(f"ip -batch: {done.stderr}")
