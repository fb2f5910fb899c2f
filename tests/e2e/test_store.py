"""Leases in a real Redis: kept there, and nothing allowed while it is away."""

import re
from pathlib import Path

import pytest

from tests.internet import Internet, wait_until

CURL = ["curl", "-sS", "--max-time", "5"]


@pytest.mark.parametrize(
    ("family", "named", "unnamed"),
    [("-4", "198.18.1.10", "198.18.1.20"), ("-6", "2001:2:0:2::10", "[2001:2:0:2::20]")],
    ids=["IPv4", "IPv6"],
)
def test_leases_are_kept_in_redis_with_a_time_to_live(
    internet: Internet, family: str, named: str, unnamed: str
) -> None:
    with internet.redis() as path:
        script = f"curl -sS {family} http://www.test/hello; curl -sS -g -o /dev/null http://{unnamed}/; echo $?"
        done = internet.netstack_exec(["sh", "-c", script], {"whitelist.store": f"unix://{path}"}).ok()
        assert done.text == "hello from the small internet\n7\n", done
        keys = internet.host_run(["redis-cli", "-s", path, "--scan"]).ok().text.split()
        lease = next(key for key in keys if named in key)
        assert 0 < int(internet.host_run(["redis-cli", "-s", path, "TTL", lease]).ok().text) <= 390  # TTL, grace, spare
        assert not any(unnamed.strip("[]") in key for key in keys)


def test_nothing_is_allowed_until_redis_is_there(internet: Internet, folder: Path) -> None:
    path = folder / "redis.sock"
    with internet.sandbox({"whitelist.store": f"unix://{path}"}) as sandbox:
        refused = sandbox.run(["dig", "+tries=1", "+time=8", "www.test"]).ok().text
        assert "status: SERVFAIL" in refused
        assert re.search("EDE: 23|EDE: 22", refused), refused
        assert sandbox.run([*CURL, "http://198.18.1.10/hello"]).code == 7
        notes = [note for process in sandbox.status() for note in process["notes"]]
        assert any(str(path) in note or "redis" in note.lower() for note in notes), notes
        redis = internet.start_redis(path)
        try:
            wait_until(lambda: sandbox.run([*CURL, "http://www.test/hello"]).code == 0, 10, "it heals by itself")
        finally:
            redis.stop()
        # Established leases go on without it; what is new does not.
        assert sandbox.run([*CURL, "http://198.18.1.10/hello"]).code == 0
        assert "SERVFAIL" in sandbox.run(["dig", "+tries=1", "+time=8", "v4.test"]).ok().text


def test_two_captured_networks_on_one_redis_share_leases_and_revocations(internet: Internet) -> None:
    bare = [*CURL, "http://198.18.1.10/hello"]
    with internet.redis() as path:
        settings = {"whitelist.store": f"unix://{path}"}
        with internet.sandbox(settings) as first, internet.sandbox(settings) as second:
            assert second.run(bare).code == 7
            first.run([*CURL, "http://www.test/hello"]).ok()
            second.run(bare).ok()
            assert "10.0.0.2 asked for www.test" in second.netstack("why", "198.18.1.10:80").ok().text
            assert "2 leases ended" in first.netstack("revoke", "www.test").ok().text
            assert second.run(bare).code == 7
            assert second.netstack("leases").ok().text == ""
            # What is denied in one must not come back through the other.
            first.netstack("deny", "www.test", "--for", "1h").ok()
            asked = ["dig", "+tries=1", "+time=5", "www.test"]
            wait_until(lambda: "status: NXDOMAIN" in second.run(asked).ok().text, 3, "it is denied in the other too")
            assert second.run(bare).code == 7
            second.netstack("revoke", "www.test").ok()
            wait_until(lambda: "status: NOERROR" in first.run(asked).ok().text, 3, "it is no longer denied in either")
            assert second.run(bare).code == 0


def test_a_socket_of_redis_that_the_services_may_not_enter_is_said_with_the_remedy(internet: Internet) -> None:
    with internet.redis() as path:
        Path(path).chmod(0o700)
        with internet.sandbox({"whitelist.store": f"unix://{path}"}) as sandbox:
            notes = [note for process in sandbox.status() for note in process["notes"]]
            assert any("user nobody must be let in: set unixsocketperm 777" in note for note in notes), notes
