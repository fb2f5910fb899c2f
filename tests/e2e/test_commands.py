"""leases, why, allow, deny, revoke and pause, as a user calls them while a captured network runs."""

import json
from collections.abc import Iterator

import pytest

from tests.internet import Internet, Sandbox, wait_until

CURL = ["curl", "-sS", "--max-time", "5"]
WWW, BARE = "http://www.test/hello", "http://198.18.1.20/hello"


@pytest.fixture
def own(internet: Internet) -> Iterator[Sandbox]:
    """A captured network of its own: what is denied or learned in it concerns no other test."""
    with internet.sandbox() as sandbox:
        yield sandbox


def reached(sandbox: Sandbox, url: str) -> bool:
    return sandbox.run([*CURL, url]).code == 0


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
    assert not reached(own, BARE)
    why = json.loads(own.netstack("why", "198.18.1.20:80/tcp", "--json").ok().text)
    assert (why["open"], why["refused"]["count"]) == (False, 1)
    _, *command = why["remedies"][0].split()
    assert command == ["allow", "198.18.1.20:80/tcp", "--for", "1h"]
    assert "it is open now, for 60 min" in own.netstack(*command).ok().text
    assert reached(own, BARE)
    assert not reached(own, "https://198.18.1.20/hello")
    own.netstack("revoke", "198.18.1.20:80/tcp").ok()
    assert not reached(own, BARE)


def test_a_name_is_denied_at_once_and_taken_back(own: Sandbox) -> None:
    assert reached(own, WWW)
    assert "2 leases ended" in own.netstack("deny", "www.test").ok().text
    answer = own.run(["dig", "+tries=1", "www.test"]).ok().text
    assert "status: NXDOMAIN" in answer
    assert "EDE: 15 (Blocked): (name-denied: netstack deny www.test)" in answer
    assert not reached(own, "http://198.18.1.10/hello")
    own.netstack("revoke", "www.test").ok()
    assert reached(own, WWW)


def test_revoke_cuts_what_is_established(own: Sandbox) -> None:
    own.run(["dig", "+short", "echo4.test"]).ok()
    script = "exec 3<>/dev/tcp/echo4.test/7; echo ready >&2; read -t 8 line <&3; echo $?"
    flow = own.start(["bash", "-c", script])
    wait_until(lambda: own.process("tcp_fwd")["gauges"]["flows"] > 0, 8, "the connection is there")
    own.netstack("revoke", "echo4.test").ok()
    wait_until(lambda: own.process("tcp_fwd")["gauges"]["flows"] == 0, 8, "it was cut")
    assert flow.wait(10).text.strip() == "1", "the program saw it end, and did not wait for its time"


def test_a_pause_lets_everything_through_and_ends(own: Sandbox) -> None:
    own.netstack("deny", "www.test").ok()
    own.netstack("pause", "1h").ok()
    assert reached(own, BARE)
    assert reached(own, WWW)
    assert own.run(["dig", "+short", "rebind.test"]).ok().text.strip() == "10.1.2.3"
    status = own.netstack("status")
    assert status.code == 4
    assert "paused until" in status.text
    own.netstack("pause", "--end").ok()
    wait_until(lambda: not reached(own, BARE), 8, "it is refused again")
    assert not reached(own, WWW)
    assert own.run(["dig", "+short", "rebind.test"]).ok().text.strip() == ""
    assert own.netstack("status").code == 0


def test_a_killed_tracker_comes_back_with_its_leases_and_its_rules(own: Sandbox) -> None:
    assert reached(own, WWW)
    own.netstack("deny", "ads.test").ok()
    own.kill("tracker")
    assert "198.18.1.10" in own.netstack("leases").ok().text
    own.kill("tcp_fwd")  # whose replica might have known it
    assert reached(own, "http://198.18.1.10/hello")
    answer = own.run(["dig", "+tries=3", "ads.test"]).ok().text
    assert "status: NXDOMAIN" in answer


def test_audit_lets_through_what_it_counts(internet: Internet) -> None:
    with internet.sandbox({"whitelist.mode": "audit", "deny.names": '["www.test"]'}) as sandbox:
        assert reached(sandbox, BARE)
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
