"""The server name that a program gives, where it is held against what was resolved."""

from collections.abc import Iterator

import pytest

from tests.internet import Internet, Sandbox
from tests.internet.machine import wait_until

CURL = ["curl", "-sS", "--max-time", "5"]
HELLO = "hello from the small internet\n"
WRONG = "other.test"


@pytest.fixture(scope="module")
def enforcing(internet: Internet) -> Iterator[Sandbox]:
    with internet.sandbox({"tcp.sni": "enforce"}) as sandbox:
        yield sandbox


@pytest.mark.parametrize("family", ["-4", "-6"], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize("url", ["http://www.test/hello", "https://www.test/hello", "https://alias.test/hello"])
def test_the_name_that_was_resolved_passes(internet: Internet, enforcing: Sandbox, family: str, url: str) -> None:
    assert enforcing.run([*CURL, family, "--cacert", internet.ca, url]).ok().text == HELLO


@pytest.mark.parametrize("family", ["-4", "-6"], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize(
    "words",
    [["--connect-to", "::www.test:", f"https://{WRONG}/hello"], ["-H", f"Host: {WRONG}", "http://www.test/hello"]],
    ids=["TLS", "HTTP"],
)
def test_another_name_at_a_resolved_address_is_reset(enforcing: Sandbox, family: str, words: list[str]) -> None:
    before = enforcing.drops("sni-mismatch")
    done = enforcing.run([*CURL, "-k", family, *words])
    assert done.code in (35, 56), done  # curl(1): the TLS handshake failed; receiving failed
    assert b"reset by peer" in done.err
    assert enforcing.drops("sni-mismatch") == before + 1


def test_an_alias_that_was_not_asked_for_is_not_a_name_of_its_target(internet: Internet) -> None:
    curl = f"{' '.join(CURL)} $family http://alias.test/hello"
    script = f"for family in -4 -6; do {curl} && {curl} -H 'Host: www.test'; echo $?; done"
    done = internet.netstack_exec(["sh", "-c", script], {"tcp.sni": "enforce"}).ok()
    assert done.text == 2 * f"{HELLO}56\n", done


@pytest.mark.parametrize(
    "words",
    [["--connect-to", "::www.test:", f"https://{WRONG}/hello"], ["-H", f"Host: {WRONG}", "http://www.test/hello"]],
    ids=["TLS", "HTTP"],
)
def test_by_default_it_is_only_counted(sandbox: Sandbox, words: list[str]) -> None:
    def mismatches() -> int:
        return sandbox.process("tcp_fwd")["gauges"]["sni_mismatch"]

    before = mismatches()
    for family in ("-4", "-6"):
        assert sandbox.run([*CURL, "-k", family, *words]).ok().text == HELLO
    # The tracker may have answered after the end of a flow that nobody held.
    wait_until(lambda: mismatches() == before + 2, 5, "each mismatch was counted")
    assert sandbox.drops("sni-mismatch") == 0
