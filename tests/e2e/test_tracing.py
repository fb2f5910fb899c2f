"""Real programs that look at the way: traceroute, mtr, tracepath, and path MTU discovery."""

import json
import re
from collections.abc import Iterator

import pytest

from tests.internet import Internet, Sandbox, routers, zones

FAMILIES = pytest.mark.parametrize(
    ("family", "hops"),
    [
        ("-4", ["10.0.0.1", zones.ROUTER_V4, zones.FAR_V4]),
        ("-6", ["fd00:6e73::1", zones.ROUTER_V6, zones.FAR_V6]),
    ],
    ids=["IPv4", "IPv6"],
)


@pytest.fixture(scope="module")
def tracing(internet: Internet) -> Iterator[Sandbox]:
    """A captured network of its own: one that has learned the path MTU would not see who tells it."""
    with routers.far(internet), internet.sandbox() as sandbox:
        yield sandbox


@FAMILIES
@pytest.mark.parametrize(
    # To port 53, which -U has by default, it is the resolver that answers.
    "how",
    [[], ["-U", "-p", "33434"], ["-I"], ["-T"], ["-T", "-p", "2999"]],
    ids=["UDP", "UDP to one port", "echo", "TCP", "TCP to another port"],
)
def test_traceroute_names_every_router(tracing: Sandbox, family: str, hops: list[str], how: list[str]) -> None:
    done = tracing.run(["traceroute", family, "-n", "-w", "2", "-m", "6", *how, "far.test"]).ok()
    found = re.findall(r"^ *\d+  (\S+)((?:  [\d.]+ ms){3})$", done.text, re.MULTILINE)
    assert [hop for hop, _ in found] == hops, done


@FAMILIES
@pytest.mark.parametrize("how", [[], ["--udp"], ["--tcp", "-P", "2999"]], ids=["echo", "UDP", "TCP"])
def test_mtr_names_every_router_and_loses_nothing(
    tracing: Sandbox, family: str, hops: list[str], how: list[str]
) -> None:
    done = tracing.run(["mtr", family, "-n", "-j", "-c", "3", "-i", "0.2", "-G", "1", *how, "far.test"]).ok()
    report = json.loads(done.text)["report"]["hubs"]
    assert [(hub["host"], hub["Loss%"]) for hub in report] == [(hop, 0) for hop in hops], done


@FAMILIES
def test_tracepath_finds_the_smaller_mtu_and_who_told_it(tracing: Sandbox, family: str, hops: list[str]) -> None:
    done = tracing.run(["tracepath", family, "-n", "fartoo.test"]).ok()
    assert "pmtu 1500" in done.text, done
    assert re.search(rf"^ *\d: +{hops[1]} +[\d.]+ms pmtu {routers.FAR_MTU}$", done.text, re.MULTILINE), done
    assert f"Resume: pmtu {routers.FAR_MTU} hops 3 back 3" in done.text, done
