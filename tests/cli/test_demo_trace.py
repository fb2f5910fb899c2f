"""Which packets of a trace the demo shows."""

import pytest

from netstack.cli.demo_trace import journeys

QUERY = ["10:00:00 trace a: 3 hops", "  tun_io read -> dns_filter asked tracker -> tracker learned"]
CONNECTION = ["10:00:01 trace b: 2 hops", "  tun_io read -> tcp_fwd connected"]
ACK = ["10:00:02 trace c: 2 hops", "  tun_io read -> tcp_fwd received"]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([*ACK, *CONNECTION, *QUERY, *QUERY, *ACK], [QUERY, CONNECTION]),
        ([*ACK, *QUERY], [QUERY]),
        (["  an end without its beginning", *CONNECTION], [CONNECTION]),
        ([], []),
    ],
    ids=[
        "the first query, then the first connection", "what is not there is not shown",
        "a packet whose first line is lost is passed over", "nothing of nothing",
    ],
)  # fmt: skip
def test_journeys(lines: list[str], expected: list[list[str]]) -> None:
    assert journeys(lines) == expected
