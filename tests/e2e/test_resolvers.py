"""The resolvers that programs bring along: glibc's, musl's, Go's, and curl's own over HTTPS, which gets nowhere."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.internet import Internet, Sandbox
from tests.internet.zones import DNS, DOH_PORT, UNNAMED_V4, WWW_V4, WWW_V6

BOTH = {WWW_V4, WWW_V6}
SOURCE = Path(__file__).with_name("resolve.c")


@pytest.mark.parametrize("options", ["", "single-request", "single-request-reopen", "use-vc", "edns0 trust-ad"])
def test_glibc_asks_for_both_families_at_once_or_one_after_the_other(sandbox: Sandbox, options: str) -> None:
    done = sandbox.run(["getent", "ahosts", "www.test"], environment={"RES_OPTIONS": options}).ok()
    assert {line.split()[0] for line in done.text.splitlines()} == BOTH
    assert done.seconds < 4, "no question was lost"
    assert sandbox.run(["getent", "ahosts", "nothing.test"], environment={"RES_OPTIONS": options}).code == 2


def test_musl_resolves_and_connects(internet: Internet, sandbox: Sandbox, folder: Path) -> None:
    program = folder / "resolve"
    subprocess.run(["musl-gcc", "-static", "-O1", "-o", program, SOURCE], check=True, timeout=50)
    done = sandbox.run([program, "www.test", "alias.test", "v6.test", "big.test", "nothing.test", UNNAMED_V4]).ok()
    said = done.text.splitlines()
    assert {line for line in said if line.startswith(("www.", "alias."))} == {
        f"{name} {address}: connected" for name in ("www.test", "alias.test") for address in BOTH
    }
    assert "v6.test 2001:2:0:2::11: connected" in said
    # Before 1.2.4 it takes what a truncated answer holds, from then on it asks again over TCP.
    of_big = [line for line in said if line.startswith("big.test")]
    assert len(of_big) > 20, done
    assert all(re.fullmatch(r"big\.test 198\.18\.1\.1\d\d: connected", line) for line in of_big), done
    assert said[-1] == f"{UNNAMED_V4} {UNNAMED_V4}: Connection refused"
    assert said[-2].startswith("nothing.test: ")


@pytest.mark.parametrize("name", ["www.test", "alias.test", "v6.test", "big.test"])
def test_go_resolves_by_itself_and_connects(sandbox: Sandbox, name: str) -> None:
    words = ["hey", "-n", "4", "-c", "1", "-disable-keepalive", f"http://{name}/hello"]
    done = sandbox.run(words, environment={"GODEBUG": "netdns=go+2"}).ok()
    assert re.search(r"\[200\]\s+4 responses", done.text), done
    assert re.search(rf"hostLookupOrder\({name}\) = .*dns", done.messages), done


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        (f"https://{DNS}:{DOH_PORT}/dns-query", "not-whitelisted"),
        (f"https://ns.test:{DOH_PORT}/dns-query", "encrypted-dns"),
    ],
    ids=["by address", "by a name that is known for it"],
)
def test_resolver_over_https_is_not_reached(internet: Internet, url: str, reason: str) -> None:
    fetch = ["curl", "-sS", "--max-time", "8", "http://www.test/hello"]
    overtly = [*fetch, "--doh-insecure", "--doh-url", url]
    assert internet.host_run([*overtly, "--resolve", "www.test:80:198.18.1.10"]).code == 0
    with internet.sandbox({"dns.encrypted_names": '["ns.test"]'}) as sandbox:
        assert sandbox.run(overtly).code == 6
        assert sandbox.drops(reason) > 0
        sandbox.run(fetch).ok()
