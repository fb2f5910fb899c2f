"""Real resolvers as upstreams: unbound, dnsdist, and one over QUIC; and what is said when they fail."""

import signal
import sys
from collections.abc import Iterator

import pytest

from tests.e2e.test_dns_mode import DIG, resolver
from tests.internet import Internet, wait_until
from tests.internet.machine import Running
from tests.internet.zones import DNS, DOH_PORT, ENCRYPTED_DNS_V4

DNSDIST_V4, QUIC_V4, MORTAL_V4 = "198.18.1.54", "198.18.1.55", "198.18.1.56"
LISTEN = 'dns.listen=["127.0.0.1:53"]'
BOTH = ["www.test", "A", "www.test", "AAAA"]
BOTH_ANSWERS = "198.18.1.10\n2001:2:0:2::10\n"


def start_dnsdist(internet: Internet, address: str = DNSDIST_V4) -> Running:
    """On the ports of plain DNS, TLS and, since nginx has 443, DOH_PORT."""
    directory = internet.directory
    pem = f'"{directory}/server.pem", "{directory}/server.key"'
    path = directory / f"dnsdist-{address}.conf"
    path.write_text(f"""
setLocal("{address}:53")
addTLSLocal("{address}:853", {pem})
addDOHLocal("{address}:{DOH_PORT}", {pem}, "/dns-query")
setACL("0.0.0.0/0")
newServer({{address="{DNS}:53"}}):setUp()
""")
    running = internet.net.start(["dnsdist", "--supervised", "--disable-syslog", "-C", path])
    listening = f"{address}:{DOH_PORT} "
    wait_until(lambda: listening in internet.net.run(["ss", "-Hlnt"]).text, 10, "dnsdist listens")
    return running


@pytest.fixture(scope="module")
def dnsdist(internet: Internet) -> Iterator[Running]:
    running = start_dnsdist(internet)
    yield running
    running.stop()


@pytest.fixture(scope="module")
def quic(internet: Internet) -> Iterator[Running]:
    pem = [internet.directory / "server.pem", internet.directory / "server.key"]
    running = internet.net.start([sys.executable, "-m", "tests.internet.quic_dns", QUIC_V4, *pem])
    assert running.stdout.readline() == b"up\n"
    yield running
    running.stop()


def trusting(internet: Internet, address: str, *names: str) -> list[str]:
    """The settings by which our authority is believed and a name of the certificate has an address."""
    bootstrap = ", ".join(f'"{name}" = ["{address}"]' for name in names or ("dns.test",))
    return [LISTEN, f"dns.tls_ca={internet.ca}", f"dns.bootstrap={{ {bootstrap} }}", "dns.timeout=3"]


@pytest.mark.parametrize(
    ("upstream", "address"),
    [
        (f"https://dns.test:{DOH_PORT}/dns-query", DNS),
        ("tls://dns.test", ENCRYPTED_DNS_V4),
        (f"tls://{ENCRYPTED_DNS_V4}", ENCRYPTED_DNS_V4),
        (f"tcp://{DNS}", DNS),
        (f"udp://{DNS}", DNS),
        (f"https://dns.test:{DOH_PORT}/dns-query", DNSDIST_V4),
        ("tls://dns.test", DNSDIST_V4),
        (f"udp://{DNSDIST_V4}", DNSDIST_V4),
        (f"tcp://{DNSDIST_V4}", DNSDIST_V4),
        ("quic://dns.test", QUIC_V4),
        ("h3://dns.test/dns-query", QUIC_V4),
    ],
    ids=[
        "unbound over HTTPS", "unbound over TLS", "by address", "unbound over TCP", "unbound over UDP",
        "dnsdist over HTTPS", "dnsdist over TLS", "dnsdist over UDP", "dnsdist over TCP", "QUIC", "HTTP/3",
    ],
)  # fmt: skip
def test_every_way_to_ask(internet: Internet, dnsdist: Running, quic: Running, upstream: str, address: str) -> None:
    with resolver(internet, "/run/upstreams", *trusting(internet, address), upstream=upstream) as running:
        assert internet.host_run([*DIG, "@127.0.0.1", "+short", *BOTH]).ok().text == BOTH_ANSWERS
        big = internet.host_run([*DIG, "@127.0.0.1", "+short", "big.test", "TXT"]).ok().text
        assert len(big.splitlines()) == 20, "more than a datagram holds"
        assert "NXDOMAIN" in internet.host_run([*DIG, "@127.0.0.1", "nothing.test"]).ok().text
        # All at once, on one connection where there is one.
        names = [f"n{index:03}.test" for index in range(150)]
        many = internet.host_run(["kdig", "@127.0.0.1", "+short", *names]).ok().text
        assert many.splitlines() == [f"198.18.6.{index}" for index in range(150)]
        running.send(signal.SIGTERM)
        assert "is down" not in running.wait(10).messages


@pytest.mark.parametrize("upstream", ["quic://dns.test", "h3://dns.test/dns-query"])
def test_quic_is_refused_to_the_command_but_not_to_us(internet: Internet, quic: Running, upstream: str) -> None:
    settings = {
        "dns.upstreams": f'["{upstream}"]',
        "dns.bootstrap": f'{{ "dns.test" = ["{QUIC_V4}"] }}',
        "dns.tls_ca": str(internet.ca),
    }
    got = internet.netstack_exec(["curl", "-sS", "http://www.test/hello"], settings).ok()
    assert got.text == "hello from the small internet\n"


@pytest.mark.parametrize(
    ("upstream", "says"),
    [
        ("tls://other.example", "its certificate is not valid"),
        ("quic://other.example", "its certificate is not valid: hostname 'other.example' doesn't match"),
        (f"https://other.example:{DOH_PORT}/dns-query", "its certificate is not valid"),
        ("h3://other.example/dns-query", "its certificate is not valid: hostname 'other.example' doesn't match"),
    ],
    ids=["TLS", "QUIC", "HTTPS", "HTTP/3"],
)
def test_certificate_for_another_name(
    internet: Internet, dnsdist: Running, quic: Running, upstream: str, says: str
) -> None:
    address = DNSDIST_V4 if upstream.startswith(("tls", "https")) else QUIC_V4
    settings = trusting(internet, address, "other.example")
    with resolver(internet, "/run/upstreams", *settings, upstream=upstream) as running:
        asked = internet.host_run([*DIG, "@127.0.0.1", "www.test"]).ok().text
        assert "SERVFAIL" in asked
        assert "EDE: 23 (Network Error)" in asked
        status = internet.host_run(["env", "NETSTACK_RUN_DIR=/run/upstreams", sys.executable, "-m", "netstack.cli.main",
                                    "status"])  # fmt: skip
        assert status.code == 4
        assert says in status.text
        running.send(signal.SIGTERM)
        ended = running.wait(10)
    assert ended.messages.count("is down") == 1
    assert says in ended.messages


def test_unknown_authority_names_the_key(internet: Internet, quic: Running) -> None:
    for upstream, address in ((f"tls://{ENCRYPTED_DNS_V4}", ENCRYPTED_DNS_V4), ("quic://dns.test", QUIC_V4)):
        settings = [LISTEN, f'dns.bootstrap={{ "dns.test" = ["{address}"] }}']
        with resolver(internet, "/run/upstreams", *settings, upstream=upstream) as running:
            asked = internet.host_run([*DIG, "@127.0.0.1", "www.test"]).ok().text
            assert "SERVFAIL" in asked
            running.send(signal.SIGTERM)
            assert "name the file of its authority's certificate: dns.tls_ca" in running.wait(10).messages


@pytest.mark.parametrize("upstream", [f"https://dns.test:{DOH_PORT}/dns-query", "tls://dns.test"])
def test_upstream_that_dies_and_comes_back(internet: Internet, upstream: str) -> None:
    dnsdist = start_dnsdist(internet, MORTAL_V4)
    try:
        settings = [*trusting(internet, MORTAL_V4), "dns.cache=false"]
        with resolver(internet, "/run/upstreams", *settings, upstream=upstream) as running:
            assert internet.host_run([*DIG, "@127.0.0.1", "+short", *BOTH]).ok().text == BOTH_ANSWERS
            dnsdist.stop()
            asked = internet.host_run([*DIG, "@127.0.0.1", "www.test"]).ok().text
            assert "SERVFAIL" in asked
            assert "EDE: 23" in asked
            dnsdist = start_dnsdist(internet, MORTAL_V4)
            assert internet.host_run([*DIG, "@127.0.0.1", "+short", *BOTH]).ok().text == BOTH_ANSWERS
            running.send(signal.SIGTERM)
            messages = running.wait(10).messages
            assert messages.count(" is down: ") == 1
            assert messages.count("is up again") == 1
    finally:
        dnsdist.stop()


def test_upstream_that_is_silent_is_passed_over_for_the_next(internet: Internet) -> None:
    upstreams = f'udp://198.18.2.1", "udp://{DNS}'
    with resolver(internet, "/run/upstreams", LISTEN, "dns.timeout=2", upstream=upstreams) as running:
        for name in ("www.test", "v4.test", "echo4.test", "short.test"):
            assert internet.host_run([*DIG, "@127.0.0.1", "+short", name]).ok().text.startswith("198.18.1.")
        quick = internet.host_run([*DIG, "@127.0.0.1", "+short", "dns.test"]).ok()
        assert quick.seconds < 0.5, "it is not waited for any more"
        running.send(signal.SIGTERM)
        assert running.wait(10).messages.count("udp://198.18.2.1 is down: no answer within") == 1


def test_stale_answers_when_asked_for(internet: Internet) -> None:
    forwarder = internet.net.start(
        ["socat", f"UDP4-LISTEN:5399,bind={MORTAL_V4},fork,reuseaddr", f"UDP4-CONNECT:{DNS}:53"]
    )
    upstream = f"udp://{MORTAL_V4}:5399"
    with resolver(internet, "/run/upstreams", LISTEN, "dns.serve_stale=3600", "dns.timeout=2", upstream=upstream):
        assert internet.host_run([*DIG, "@127.0.0.1", "+short", "short.test"]).ok().text == "198.18.1.12\n"
        forwarder.stop()
        internet.net.run(["sh", "-c", "while ss -Hlnu | grep -q :5399; do sleep 0.05; done"]).ok()
        wait_until(
            lambda: "EDE: 3 (Stale Answer)" in internet.host_run([*DIG, "@127.0.0.1", "short.test"]).text, 8, "stale"
        )
        assert "SERVFAIL" in internet.host_run([*DIG, "@127.0.0.1", "www.test"]).ok().text
