"""Protocols that are not carried, and IPv6 extension headers that may not be ignored: told to the program, counted."""

from collections import Counter
from collections.abc import Iterator

import pytest
from scapy.layers.inet import UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrRouting

from tests.e2e.calls import reports, udp_client_command
from tests.internet import Internet, Sandbox, wait_until

DNS_PORT = 53
IPV6_DSTOPTS = "59"  # linux/in6.h
V4, V6 = "198.18.1.10", "2001:2:0:2::10"
# By protocol: the slug under which it is counted, and the error that a program sees over IPv4 and over IPv6.
NOT_CARRIED = {
    "132": ("protocol-sctp", "ENOPROTOOPT", "EPROTO"),
    "47": ("protocol-gre", "ENOPROTOOPT", "EPROTO"),
    "50": ("protocol-esp", "ENOPROTOOPT", "EPROTO"),
    # Of AH, which IPv6 has among its extension headers, Linux tells no program.
    "51": ("protocol-ah", "ENOPROTOOPT", "timeout"),
    "253": ("unknown-protocol", "ENOPROTOOPT", "EPROTO"),
    "1": ("protocol-icmp", "timeout", ""),
    "2": ("protocol-igmp", "timeout", ""),
}


@pytest.fixture(scope="module", autouse=True)
def nothing_leaves(internet: Internet, sandbox: Sandbox) -> Iterator[None]:
    """The addresses are allowed: it is not for the whitelist that none of this is seen outside."""
    sandbox.run(["dig", "+short", "www.test", "A", "www.test", "AAAA"]).ok()
    with internet.capture(f"not port {DNS_PORT} and not icmp6[0] >= 133 and not arp") as capture:
        yield
        assert capture.stop() == []


def drops(sandbox: Sandbox) -> Counter[str]:
    """How often something was dropped, by reason."""
    found: Counter[str] = Counter()
    for process in sandbox.status():
        found.update(process["drops"])
    return found


def errors(sandbox: Sandbox, *calls: tuple[str, ...]) -> list[object]:
    """What programs see that send such packets."""
    words = [word for call in calls for word in ("--", "raw", *call)][1:]
    return [report["error"] for report in reports(sandbox.run(udp_client_command(*words)))]


@pytest.mark.parametrize(("address", "at"), [(V4, 1), (V6, 2)], ids=["IPv4", "IPv6"])
def test_a_protocol_that_is_not_carried_is_told_and_counted(sandbox: Sandbox, address: str, at: int) -> None:
    wanted = {protocol: row for protocol, row in NOT_CARRIED.items() if row[at]}
    before = drops(sandbox)
    assert errors(sandbox, *((address, protocol) for protocol in wanted)) == [row[at] for row in wanted.values()]
    slugs = [row[0] for row in wanted.values()]
    wait_until(lambda: all(drops(sandbox)[slug] > before[slug] for slug in slugs), 5, "each is counted by its slug")


def test_an_extension_header_that_may_not_be_ignored_is_told_and_counted(sandbox: Sandbox) -> None:
    before = drops(sandbox)
    assert errors(sandbox, (V6, "17", IPV6_DSTOPTS, "11009e0400000000")) == ["EPROTO"]
    route = IPv6ExtHdrRouting(type=0, addresses=["2001:2:0:2::20"], segleft=1)
    packet = bytes(IPv6(src="fd00:6e73::2", dst=V6) / route / UDP(sport=5000, dport=7) / b"x")
    assert reports(sandbox.run(udp_client_command("frame", "tun0", packet.hex()))) == [{"sent": len(packet)}]
    slugs = ("unknown-option", "routing-header")
    wait_until(lambda: all(drops(sandbox)[slug] > before[slug] for slug in slugs), 5, "each is counted by its slug")
