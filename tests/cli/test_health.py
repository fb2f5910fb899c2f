"""The supervisor's roster and the processes' samples, put together."""

import pytest

from netstack.cli.health import merge, render
from netstack.cli.roster import ProcessEntry, Roster
from netstack.wire.messages import Sample
from netstack.wire.topology import DNS_STAGES, STAGES


def _sample(stage: str, pid: int, **fields: object) -> Sample:
    sample = Sample(stage, f"{stage}-0", pid, 1000.0, 3, 4, 300, 5000, 1, {}, {}, [])
    return sample._replace(**fields)


def _roster(**states: str) -> Roster:
    entries = [
        ProcessEntry(stage, f"{stage}-0", pid, states.get(stage, "ready"), restarts=stage in states, last_exit="died")
        for pid, stage in enumerate(STAGES, 1)
    ]
    return Roster("up", 99, 900.0, entries)


SAMPLES = [_sample(stage, pid) for pid, stage in enumerate(STAGES, 1)]


def test_all_ready_and_answering_is_healthy() -> None:
    status = merge("default", [_roster()], SAMPLES)
    assert status.healthy
    assert [(process.worker, process.state) for process in status.processes] == [(f"{s}-0", "ready") for s in STAGES]


@pytest.mark.parametrize(
    ("rosters", "samples", "state"),
    [
        pytest.param([_roster()], SAMPLES[1:], "silent", id="one that does not answer is silent"),
        pytest.param([_roster(tracker="restarting")], SAMPLES[1:], "restarting", id="one that is being restarted"),
        pytest.param([_roster()], [_sample("tracker", 77), *SAMPLES[1:]], "silent", id="the answer of its predecessor"),
        pytest.param([], SAMPLES[1:], "missing", id="a stage without a process, where nobody supervises"),
        pytest.param([], [_sample("tracker", 1, ready_since=0.0), *SAMPLES[1:]], "starting", id="one not ready yet"),
    ],
)
def test_what_is_not_as_it_should_be_is_not_healthy(rosters: list[Roster], samples: list[Sample], state: str) -> None:
    status = merge("default", rosters, samples)
    assert not status.healthy
    assert status.processes[0].state == state
    assert not status.processes[0].healthy
    assert all(process.healthy for process in status.processes[1:])


def test_the_dns_proxy_alone_misses_no_stage() -> None:
    roster = Roster("up", 99, 900.0, [ProcessEntry("tracker", "tracker-0", 1, "ready")], list(DNS_STAGES))
    status = merge("default", [roster], SAMPLES[:1])
    assert [(process.stage, process.state) for process in status.processes] == [
        ("tracker", "ready"),
        ("dns_filter", "missing"),
    ]


def test_a_note_of_a_process_makes_it_unhealthy_and_is_shown() -> None:
    status = merge("default", [], [*SAMPLES[1:], _sample("tracker", 1, notes=["redis: connection refused"])])
    assert not status.healthy
    assert "! tracker-0: redis: connection refused" in render(status, 1010.0).splitlines()


def test_samples_alone_are_shown_where_nobody_supervises() -> None:
    replicas = [_sample("tcp_fwd", 40 + number, worker=f"tcp_fwd-host{number}") for number in range(3)]
    status = merge("compose", [], [*SAMPLES, *replicas])
    assert status.healthy
    assert [process.worker for process in status.processes][3:7] == ["tcp_fwd-0", *(one.worker for one in replicas)]


def test_the_text_has_one_line_per_process_with_its_counters() -> None:
    dropping = _sample("tracker", 1, drops={"not-whitelisted": 2, "encrypted-dns": 1}, gauges={"leases": 5})
    status = merge("default", [_roster(udp_fwd="starting")], [dropping, *SAMPLES[1:]])
    lines = render(status, 1012.0, with_gauges=True).splitlines()
    assert lines[0] == "instance default: NOT HEALTHY"
    assert lines[2].startswith("tracker     tracker-0")
    assert "(12 s)  3 p  300  4 p  4.9 KiB      1  encrypted-dns 1, not-whitelisted 2" in lines[2]
    assert "  udp_fwd-0: restarted once; the last one died" in lines
    assert "  tracker-0: leases 5" in lines
