"""What is refused, how, and how soon; and that what is allowed fails exactly as behind a router."""

import pytest

from tests.e2e.calls import Client, client_command, reports
from tests.internet import Sandbox
from tests.internet.zones import UNNAMED_V4, UNNAMED_V6

AT_ONCE = 0.05  # seconds
SOON = 1.0  # seconds; for what depends on more than ourselves


def test_tcp_to_an_address_without_a_name_is_refused_at_once(client: Client) -> None:
    for address in (UNNAMED_V4, UNNAMED_V6):
        _, again = client("connect", address, "80", "--", "connect", address, "80")
        assert again["error"] == "ECONNREFUSED"
        assert again["seconds"] < AT_ONCE


@pytest.mark.parametrize(
    ("address", "expected"),
    # Linux maps ICMP administratively prohibited (type 3 code 13, type 1 code 1) to these (ip(7), net/ipv6/icmp.c).
    [(UNNAMED_V4, "EHOSTUNREACH"), (UNNAMED_V6, "EACCES")],
    ids=["IPv4", "IPv6"],
)
def test_udp_to_an_address_without_a_name_is_prohibited_at_once(client: Client, address: str, expected: str) -> None:
    _, again = client("datagram", address, "7", "--", "datagram", address, "7")
    assert again["error"] == expected
    assert again["seconds"] < AT_ONCE


@pytest.mark.parametrize(
    ("options", "address", "says"),
    [([], UNNAMED_V4, "Packet filtered"), (["-6"], UNNAMED_V6, "Administratively prohibited")],
    ids=["IPv4", "IPv6"],
)
def test_ping_of_an_address_without_a_name_is_prohibited(
    sandbox: Sandbox, options: list[str], address: str, says: str
) -> None:
    done = sandbox.run(["ping", *options, "-n", "-c", "1", "-W", "2", address])
    assert done.code == 1, done
    assert says in done.text


@pytest.mark.parametrize("family", ["-4", "-6"], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize("size", ["0", "56", "1400", "4000"])
def test_ping_by_name_is_answered(sandbox: Sandbox, family: str, size: str) -> None:
    done = sandbox.run(["ping", family, "-c", "2", "-i", "0.2", "-W", "2", "-s", size, "www.test"]).ok()
    assert " 0% packet loss" in done.text


@pytest.mark.parametrize("name", ["v4.test", "v6.test"])
def test_closed_port_is_refused_by_the_far_end(client: Client, name: str) -> None:
    tcp, udp = client("connect", name, "2999", "--", "datagram", name, "2999")
    assert (tcp["error"], udp["error"]) == ("ECONNREFUSED", "ECONNREFUSED")
    assert max(tcp["seconds"], udp["seconds"]) < SOON


def test_address_that_never_answers_gives_no_connection(sandbox: Sandbox) -> None:
    sandbox.run(["dig", "+short", "silent.test", "A", "silent.test", "AAAA"]).ok()
    # Over both families at the same time.
    addresses = ("198.18.2.1", "2001:2:0:3::1")
    both = [sandbox.start(client_command("connect", address, "80", "2.5")) for address in addresses]
    outcomes = [report["error"] for running in both for report in reports(running.wait(10))]
    assert outcomes == ["timeout", "timeout"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("unreachable.test", "EHOSTUNREACH"),
        ("nowhere.test", "ENETUNREACH"),
        ("prohibited.test", "EHOSTUNREACH"),
        ("unreachable6.test", "EHOSTUNREACH"),
        ("nowhere6.test", "ENETUNREACH"),
        ("prohibited6.test", "EACCES"),
    ],
    ids=[f"{what}, {family}" for family in ("IPv4", "IPv6") for what in ("no host", "no network", "prohibited")],
)
def test_error_of_the_network_is_passed_on(client: Client, name: str, expected: str) -> None:
    tcp, udp = client("connect", name, "80", "--", "datagram", name, "7")
    assert (tcp["error"], udp["error"]) == (expected, expected)
    assert max(tcp["seconds"], udp["seconds"]) < SOON


@pytest.mark.parametrize("name", ["www.test", "v6.test"])
@pytest.mark.parametrize("port", ["443", "80"])
def test_quic_is_refused_at_once(client: Client, name: str, port: str) -> None:
    _, again = client("datagram", name, port, "--", "datagram", name, port)
    assert again["error"] == "ECONNREFUSED"
    assert again["seconds"] < AT_ONCE


@pytest.mark.parametrize("name", ["dns.test", "dns6.test"], ids=["IPv4", "IPv6"])
def test_dns_over_tls_is_refused_at_a_resolved_address(sandbox: Sandbox, client: Client, name: str) -> None:
    # The same address is reached on other ports, and the server does listen on this one.
    web, encrypted = client("connect", name, "80", "--", "connect", name, "853")
    assert (web["error"], encrypted["error"]) == (None, "ECONNREFUSED")
    assert sandbox.drops("encrypted-dns")


@pytest.mark.parametrize(
    ("address", "name"), [("198.18.1.21", "v4.test"), ("2001:2:0:2::21", "v6.test")], ids=["IPv4", "IPv6"]
)
def test_each_refusal_is_counted_under_its_slug(sandbox: Sandbox, client: Client, address: str, name: str) -> None:
    before = {reason: sandbox.drops(reason) for reason in ("not-whitelisted", "quic-blocked")}
    client("connect", address, "80", "--", "datagram", name, "443")
    assert sandbox.drops("not-whitelisted") > before["not-whitelisted"]
    assert sandbox.drops("quic-blocked") > before["quic-blocked"]


@pytest.mark.parametrize("address", ["198.18.1.22", "2001:2:0:2::22"], ids=["IPv4", "IPv6"])
def test_more_than_fifty_refusals_to_one_destination_end_in_silence(
    sandbox: Sandbox, client: Client, address: str
) -> None:
    (report,) = client("refuse_many", address, "80", "53")
    assert report == {"ECONNREFUSED": 50, "timeout": 3}
    assert sandbox.drops("refused-too-often")
