"""Hops as a timeline."""

import time

import pytest

from netstack.cli.timeline import MOST_TRACES, QUIET, Traces, chain, render, trace_name
from netstack.wire.messages import TraceHop

DNS = [
    TraceHop(7, "tun_io", "tun_io-0", "read", 10.0, 0.0, 20e-6, "198.18.0.2:53"),
    TraceHop(7, "dns_filter", "dns_filter-0", "received", 10.000060, 38e-6, 0.0, ""),
    TraceHop(7, "dns_filter", "dns_filter-0", "asked upstream", 10.000100, 0.0, 1.9e-3, "a.test A"),
    TraceHop(7, "tracker", "tracker-0", "learned", 10.002200, 0.0, 80e-6, "1 address"),
    TraceHop(7, "tun_io", "tun_io-0", "wrote", 10.002400, 40e-6, 5e-6, "73 octets"),
]


def test_the_chain_tells_what_was_done_and_how_long_it_took_between() -> None:
    assert chain(DNS) == (
        "tun_io read 198.18.0.2:53 -> queue 38 us -> dns_filter asked upstream -> 2.1 ms -> tracker learned -> "
        "queue 40 us -> tun_io wrote"
    )


@pytest.mark.parametrize(
    ("hops", "told"),
    [
        pytest.param(DNS[:1], "tun_io read 198.18.0.2:53", id="a packet that was dropped where it was read"),
        pytest.param(
            DNS[:2], "tun_io read 198.18.0.2:53 -> queue 38 us -> dns_filter received", id="an arrival and no more"
        ),
        pytest.param(
            [DNS[1], DNS[3]],
            "queue 38 us -> dns_filter received -> tracker learned",
            id="an arrival, then another stage",
        ),
    ],
)
def test_what_is_missing_does_not_matter(hops: list[TraceHop], told: str) -> None:
    assert chain(hops) == told


def test_a_trace_has_a_header_the_chain_and_a_line_per_hop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.localtime", time.gmtime)
    header, summary, *lines = render(DNS, epoch=990.5).splitlines()
    assert header == "00:16:40.500000 trace 0000000000000007: 5 hops in 2.4 ms"
    assert summary == f"  {chain(DNS)}"
    assert lines == [
        "    +0 us    tun_io-0      read                         service 20 us   198.18.0.2:53",
        "    +60 us   dns_filter-0  received        queue 38 us",
        "    +100 us  dns_filter-0  asked upstream               service 1.9 ms  a.test A",
        "    +2.2 ms  tracker-0     learned                      service 80 us   1 address",
        "    +2.4 ms  tun_io-0      wrote           queue 40 us  service 5 us    73 octets",
    ]


def test_a_trace_is_told_once_it_is_quiet_with_its_hops_in_order() -> None:
    traces = Traces()
    for hop in reversed(DNS):
        assert traces.add(hop, now=20.0) == []
    traces.add(DNS[0]._replace(trace_id=8), now=20.2)
    assert traces.quiet(20.0 + QUIET - 0.01) == []
    assert traces.quiet(20.0 + QUIET) == [DNS]
    assert [hops[0].trace_id for hops in traces.rest()] == [8]
    assert traces.rest() == []


def test_the_oldest_trace_is_told_when_there_are_too_many() -> None:
    traces = Traces()
    for trace_id in range(1, MOST_TRACES + 1):
        assert traces.add(DNS[0]._replace(trace_id=trace_id), now=0.0) == []
    assert traces.add(DNS[0]._replace(trace_id=MOST_TRACES + 1), now=0.0) == [[DNS[0]._replace(trace_id=1)]]


def test_a_trace_id_is_sixteen_digits() -> None:
    assert trace_name(1) == "0000000000000001"
    assert trace_name(-1) == "f" * 16
