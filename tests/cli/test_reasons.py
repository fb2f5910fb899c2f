"""Reports of the tracker as people read them."""

import pytest

from netstack.cli.commands.revoke_command import ended
from netstack.cli.reasons import lease_rows, render_done, render_why
from netstack.wire.reports import DoneReport, LeaseReport, RefusalReport, WhyReport

NOW = 1_700_000_000.0
LEASE = LeaseReport(
    address="192.0.2.1", names=["old.example", "www.example"], chain=["cdn.example", "edge.example"],
    client="10.0.0.2", learned_at=NOW - 30, rule="answer", expires_in=250.0,
)  # fmt: skip


def test_the_table_shows_the_newest_name_first_and_the_chain() -> None:
    rows = lease_rows([LEASE, LeaseReport(address="192.0.2.2", names=[f"{n}.example" for n in range(5)])])
    assert rows[1] == ["192.0.2.2", "4.example, 3.example, 2.example and 2 more", "", "0 us", "-", "-"]
    assert rows[2][:3] == ["192.0.2.1", "www.example, old.example", "cdn.example > edge.example"]
    assert rows[2][4:] == ["10.0.0.2", "answer"]


def test_what_is_open_is_told_with_its_query() -> None:
    text = render_why(
        WhyReport(
            target="192.0.2.1:443", open=True, because="leased", expires_in=250.0, leases=[LEASE], remedies=["x"]
        ),
        NOW,
    )
    lines = text.splitlines()
    assert lines[:2] == ["192.0.2.1:443: open", "  leased"]
    assert lines[2].startswith("  for 4 min more, until ")
    assert "10.0.0.2 asked for www.example 30 s ago" in text
    assert "through www.example > cdn.example > edge.example" in text
    assert "also an answer to old.example" in text
    assert lines[-2:] == ["  to close it:", "    x"]


def test_what_is_closed_is_told_with_what_to_type() -> None:
    refused = RefusalReport(reason="rebind", detail="removed 10.1.1.1", client="10.0.0.2", at=NOW - 3, count=2)
    text = render_why(
        WhyReport(
            target="x", open=False, reason="rebind", because="why", refused=refused, notes=["a note"], remedies=["y"]
        ),
        NOW,
    )
    assert text.splitlines() == [
        "x: closed (rebind)",
        "  why",
        "  refused 2 times, last 3.0 s ago to 10.0.0.2: rebind, removed 10.1.1.1",
        "  a note",
        "  to open it:",
        "    y",
    ]


@pytest.mark.parametrize(
    ("done", "text"),
    [
        (DoneReport(done="allowed x", target="x", expires_in=90.0), "allowed x, for 90 s"),
        (DoneReport(done="allowed x", target="x"), "allowed x, until the instance ends"),
        (DoneReport(done="the pause is over"), "the pause is over"),
        (DoneReport(done="d", target="x", expires_in=5.0, revoked=["a"]), "d, for 5.0 s; 1 lease ended, flows cut"),
    ],
)
def test_what_was_done(done: DoneReport, text: str) -> None:
    assert render_done(done) == text


def test_what_came_of_a_revocation() -> None:
    assert ended(0).startswith("it had no lease")
    assert ended(1).startswith("1 lease ended")
    assert ended(2).startswith("2 leases ended")
