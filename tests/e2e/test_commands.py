"""leases, why, allow, deny, revoke and pause, as a user calls them while a captured network runs."""

import json
from collections.abc import Iterator

import pytest

from tests.internet import Internet, Sandbox, wait_until

CURL = ["curl", "-sS", "--max-time", "5"]
WWW, BARE = "http://www.test/hello", "http://198.18.1.20/hello"
BARES = (BARE, "http://[2001:2:0:2::20]/hello")
AT_WWW = ("http://198.18.1.10/hello", "http://[2001:2:0:2::10]/hello")


@pytest.fixture
def own(internet: Internet) -> Iterator[Sandbox]:
    """A captured network of its own: what is denied or learned in it concerns no other test."""
    with internet.sandbox() as sandbox:
        yield sandbox


def reached(sandbox: Sandbox, *urls: str) -> bool:
    """All of them, or none: some of them alone is never right."""
    (is_reached,) = {sandbox.run([*CURL, url]).code == 0 for url in urls}
    return is_reached


def test_leases_and_why_tell_who_opened_what(own: Sandbox) -> None:
    assert own.netstack("leases").ok().text == ""
    closed = own.netstack("why", "198.18.1.10:80/tcp").ok().text
    assert closed.startswith("198.18.1.10:80/tcp: closed (not-whitelisted)")
    assert reached(own, "http://alias.test/hello")
    listed = [json.loads(line) for line in own.netstack("leases", "--json").ok().text.splitlines()]
    lease = next(one for one in listed if one["address"] == "198.18.1.10")
    assert (lease["names"], lease["chain"], lease["client"]) == (
        ["alias.test"],
        ["alias2.test", "www.test"],
        "10.0.0.2",
    )
    text = own.netstack("why", "198.18.1.10:80/tcp").ok().text
    assert text.startswith("198.18.1.10:80/tcp: open")
    assert "10.0.0.2 asked for alias.test" in text
    assert "through alias.test > alias2.test > www.test" in text
    assert json.loads(own.netstack("why", "alias.test", "--json").ok().text)["open"] is True
    assert "198.18.1.10" in own.netstack("leases", "alias.test").ok().text


def test_why_tells_what_to_type_and_that_opens_it(own: Sandbox) -> None:
    for host in ("198.18.1.20", "[2001:2:0:2::20]"):
        bare, asked = f"http://{host}/hello", f"{host}:80/tcp"
        assert not reached(own, bare)
        why = json.loads(own.netstack("why", asked, "--json").ok().text)
        assert (why["open"], why["refused"]["count"]) == (False, 1)
        _, *command = why["remedies"][0].split()
        assert command == ["allow", asked, "--for", "1h"]
        assert "it is open now, for 60 min" in own.netstack(*command).ok().text
        assert reached(own, bare)
        assert not reached(own, f"https://{host}/hello")
        own.netstack("revoke", asked).ok()
        assert not reached(own, bare)


def test_a_name_is_denied_at_once_and_taken_back(own: Sandbox) -> None:
    assert reached(own, WWW)
    assert "2 leases ended" in own.netstack("deny", "www.test").ok().text
    answer = own.run(["dig", "+tries=1", "www.test"]).ok().text
    assert "status: NXDOMAIN" in answer
    assert "EDE: 15 (Blocked): (name-denied: netstack deny www.test)" in answer
    assert not reached(own, *AT_WWW)
    own.netstack("revoke", "www.test").ok()
    assert reached(own, WWW)


def test_revoke_cuts_what_is_established(own: Sandbox) -> None:
    def until_open(count: int) -> None:
        wait_until(lambda: own.process("tcp_fwd")["gauges"]["flows"] == count, 8, f"{count} connections are open")

    flows = {}
    for name in ("echo4.test", "echo6.test"):
        script = f"exec 3<>/dev/tcp/{name}/7; echo ready >&2; read -t 8 line <&3; echo $?"
        flows[name] = own.start(["bash", "-c", script])
    until_open(2)
    for left, (name, flow) in zip((1, 0), flows.items(), strict=True):
        own.netstack("revoke", name).ok()
        until_open(left)
        assert flow.wait(10).text.strip() == "1", "the program saw it end, and did not wait for its time"


def test_a_pause_lets_everything_through_and_ends(own: Sandbox) -> None:
    own.netstack("deny", "www.test").ok()
    own.netstack("pause", "1h").ok()
    assert reached(own, *BARES)
    assert reached(own, WWW)
    assert own.run(["dig", "+short", "rebind.test"]).ok().text.strip() == "10.1.2.3"
    status = own.netstack("status")
    assert status.code == 4
    assert "paused until" in status.text
    own.netstack("pause", "--end").ok()
    wait_until(lambda: not reached(own, BARE), 8, "it is refused again")
    assert not reached(own, *BARES)
    assert not reached(own, WWW)
    assert own.run(["dig", "+short", "rebind.test"]).ok().text.strip() == ""
    assert own.netstack("status").code == 0


def test_a_killed_tracker_comes_back_with_its_leases_and_its_rules(own: Sandbox) -> None:
    assert reached(own, WWW)
    own.netstack("deny", "ads.test").ok()
    own.kill("tracker")
    assert "198.18.1.10" in own.netstack("leases").ok().text
    own.kill("tcp_fwd")  # whose replica might have known it
    assert reached(own, *AT_WWW)
    answer = own.run(["dig", "+tries=3", "ads.test"]).ok().text
    assert "status: NXDOMAIN" in answer


def test_audit_lets_through_what_it_counts(internet: Internet) -> None:
    with internet.sandbox({"whitelist.mode": "audit", "deny.names": '["www.test"]'}) as sandbox:
        assert reached(sandbox, *BARES)
        assert reached(sandbox, WWW)
        assert sandbox.run(["dig", "+short", "rebind.test"]).ok().text.strip() == "10.1.2.3"
        gauges = [process["gauges"].get("audit", 0) for process in sandbox.status()]
        assert sum(count > 0 for count in gauges) == 2, "the tracker's and dns_filter's"
        assert "let through all the same" in sandbox.netstack("why", "198.18.1.20:80/tcp").ok().text


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["pause"], 2, "write how long"),
        (["pause", "5 minutes"], 2, "must be a time such as 90s"),
        (["allow", "www.test:80"], 2, "a name stands without a port"),
        (["allow", "198.18.1.20", "--for", "soon"], 2, "--for 'soon'"),
        (["deny", "not a name"], 2, "must be a domain name"),
        (["why", "198.18.1.20:99999"], 2, "is no port"),
        (["leases", "a b"], 2, "must be a domain name"),
    ],
)
def test_what_makes_no_sense_is_refused_with_a_reason(
    sandbox: Sandbox, arguments: list[str], code: int, said: str
) -> None:
    done = sandbox.netstack(*arguments)
    assert (done.code, done.text) == (code, "")
    assert said in done.messages
    assert "Traceback" not in done.messages
