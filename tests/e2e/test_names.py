"""Names: what dig sees of the filtering resolver."""

import pytest

from tests.internet import Internet, Sandbox

DIG = ["dig", "+tries=1", "+time=8"]


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        (["www.test", "A"], "198.18.1.10\n"),
        (["www.test", "AAAA"], "2001:2:0:2::10\n"),
        (["alias.test", "A"], "alias2.test.\nwww.test.\n198.18.1.10\n"),
        (["v4.test", "AAAA"], ""),
        (["WwW.tEsT", "A"], "198.18.1.10\n"),
        (["@198.18.1.99", "www.test", "A"], "198.18.1.10\n"),
        (["@2001:2:0:2::99", "www.test", "A"], "198.18.1.10\n"),
        (["+tcp", "www.test", "A"], "198.18.1.10\n"),
        (["+tcp", "@2001:2:0:2::99", "www.test", "AAAA"], "2001:2:0:2::10\n"),
        (["mixed.test", "A"], "198.18.1.14\n"),
        (["rebind.test", "A"], ""),
        (["nat64.test", "AAAA"], "2001:2:0:2::16\n"),
        (["www.moved.test", "A"], "below.test.\nwww.below.test.\n198.18.1.15\n"),
    ],
    ids=[
        "an A record", "an AAAA record", "an alias is followed", "no record of that type", "case does not matter",
        "any address answers as our resolver", "any IPv6 address too", "over TCP", "over TCP to any IPv6 address",
        "a private address is removed from an answer", "and the answer is empty if nothing else was in it",
        "so is one that a translator would make private", "a name in a redirected subtree",
    ],
)  # fmt: skip
def test_answer(sandbox: Sandbox, question: list[str], expected: str) -> None:
    assert sandbox.run([*DIG, "+short", *question]).ok().text == expected


@pytest.mark.parametrize(
    ("question", "status", "says"),
    [
        (["nothing.test", "A"], "NXDOMAIN", ""),
        (["v4.test", "AAAA"], "NOERROR", "ANSWER: 0"),
        (["rebind.test", "A"], "NOERROR", "EDE:"),
        (["use-application-dns.net", "A"], "NXDOMAIN", "dns.canaries=false"),
        (["mask.icloud.com", "HTTPS"], "NXDOMAIN", "encrypted-dns"),
        (["mask-h2.icloud.com", "AAAA"], "NXDOMAIN", "encrypted-dns"),
        (["_dns.resolver.arpa", "SVCB"], "NOERROR", "ANSWER: 0"),
    ],
    ids=[
        "no such name", "no such record", "nothing but a private address", "Mozilla's canary", "Apple's",
        "Apple's other", "RFC 9462's",
    ],
)  # fmt: skip
def test_status(sandbox: Sandbox, question: list[str], status: str, says: str) -> None:
    text = sandbox.run([*DIG, *question]).ok().text
    assert f"status: {status}" in text
    assert says in text


def test_large_answer_is_truncated_and_then_whole_over_tcp(sandbox: Sandbox) -> None:
    assert "flags: qr tc" in sandbox.run([*DIG, "+ignore", "big.test", "A"]).ok().text.replace("qr aa tc", "qr tc")
    assert len(sandbox.run([*DIG, "+short", "big.test", "A"]).ok().text.splitlines()) == 100
    assert len(sandbox.run([*DIG, "+short", "big.test", "TXT"]).ok().text.splitlines()) == 20


def test_https_record_offers_no_http3(sandbox: Sandbox) -> None:
    answer = sandbox.run([*DIG, "+short", "https.test", "HTTPS"]).ok().text
    assert "h2" in answer
    assert "h3" not in answer


def test_https_record_hides_no_server_name_that_is_enforced(internet: Internet) -> None:
    command = [*DIG, "+short", "ech.test", "HTTPS"]
    assert "ech=" in internet.netstack_exec(command).ok().text
    assert internet.netstack_exec(command, {"tcp.sni": "enforce"}).ok().text == '1 . alpn="h2"\n'


def test_name_in_a_redirected_subtree_is_reached(sandbox: Sandbox) -> None:
    assert sandbox.run(["curl", "-sS", "http://www.moved.test/hello"]).ok().text == "hello from the small internet\n"


def test_denied_name_does_not_exist_and_its_address_is_not_reached(internet: Internet) -> None:
    asked = [f"{' '.join(DIG)} {name}" for name in ("ads.test", "sub.ads.test", "www.test")]
    script = "; ".join([*asked, "curl -sS http://198.18.1.40/"])
    done = internet.netstack_exec(["sh", "-c", script], {"deny.names": '["ads.test"]'})
    assert done.code == 7, done
    assert done.text.count("status: NXDOMAIN") == 2, done
    assert done.text.count("EDE: 15") == 2, done
    assert "198.18.1.10" in done.text, done


def test_resolver_that_speaks_encrypted_dns_is_resolved_but_not_reached(internet: Internet) -> None:
    script = ["sh", "-c", f"{' '.join(DIG)} +short dns.test; curl -sS --max-time 5 https://dns.test:853"]
    settings = {"dns.encrypted_names": '["dns.test"]'}
    done = internet.netstack_exec(script, settings)
    assert (done.code, done.text) == (7, "198.18.1.53\n"), done
    with internet.sandbox(settings) as sandbox:
        sandbox.run(["curl", "-sS", "http://dns.test/hello"])
        assert sandbox.process("tracker")["drops"] == {"encrypted-dns": 1}
    allowed = internet.netstack_exec(
        ["curl", "-sS", "http://dns.test/hello"], {**settings, "allow.names": '["dns.test"]'}
    )
    assert allowed.ok().text == "hello from the small internet\n"


def test_upstream_that_does_not_answer_gives_servfail_and_one_message(internet: Internet) -> None:
    # Nobody listens on port 54.
    settings = {"dns.upstreams": '["udp://198.18.0.1:54"]', "dns.timeout": "1"}
    script = "; ".join(f"{' '.join(DIG)} n{index:03}.test" for index in range(5))
    done = internet.netstack_exec(["sh", "-c", script], settings)
    assert done.text.count("status: SERVFAIL") == 5, done
    assert done.text.count("EDE:") == 5, done
    assert len([line for line in done.messages.splitlines() if "198.18.0.1" in line]) == 1, done


@pytest.mark.parametrize(
    "upstream",
    ["udp://198.18.0.1:53", "tcp://198.18.0.1:53", "https://dns.test:8443/dns-query"],
    ids=["over UDP", "over TCP", "over HTTPS, by name"],
)
def test_upstream(internet: Internet, upstream: str) -> None:
    settings = {
        "dns.upstreams": f'["{upstream}"]',
        "dns.tls_ca": str(internet.ca),
        "dns.bootstrap": '{"dns.test" = ["198.18.0.1"]}',
    }
    script = f"{' '.join(DIG)} +short www.test; {' '.join(DIG)} +short big.test | wc -l; curl -sS http://www.test/hello"
    assert internet.netstack_exec(["sh", "-c", script], settings).ok().text.splitlines() == [
        "198.18.1.10", "100", "hello from the small internet",
    ]  # fmt: skip
