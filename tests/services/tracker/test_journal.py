"""The embedded store's journal: what the process before knew is known again, and nothing else."""

import itertools
import logging
from collections.abc import Callable
from pathlib import Path

import msgpack
import pytest

from services.tracker import journal as module
from services.tracker.journal import Journal
from services.tracker.leases import NOWHERE, Leases, Origin

A, B, C = (bytes([198, 18, 0, n]) for n in (1, 2, 3))
CLIENT, OTHER = bytes([10, 0, 0, 2]), bytes([10, 0, 0, 3])
ORIGIN = Origin("answer", CLIENT, ("cdn.example",), 1.7e9)


def known(path: Path, now: float = 0.0) -> Leases:
    """What a process that starts at this time knows."""
    leases = Leases()
    journal = Journal(path)
    journal.open(leases, now)
    journal.close()
    return leases


def write(path: Path, *steps: Callable[[Journal], None]) -> None:
    """What a process did before it was killed."""
    journal = Journal(path)
    journal.open(Leases(), 0.0)
    for step in steps:
        step(journal)
    journal.close()


def test_a_lease_comes_back_with_all_that_was_known_of_it(tmp_path: Path) -> None:
    write(tmp_path / "j", lambda journal: journal.learned("www.example", [A, B], 300.0, ORIGIN))
    for process in range(2):
        leases = known(tmp_path / "j", now=100.0)
        lease = leases.live(A, 100.0)
        assert lease is not None, process
        assert (lease.until, lease.names, lease.origin) == (300.0, ("www.example",), ORIGIN)
        assert leases.siblings("www.example") == [A, B]


def test_it_ends_when_it_would_have_ended(tmp_path: Path) -> None:
    write(tmp_path / "j", lambda journal: journal.learned("www.example", [A], 300.0, ORIGIN))
    assert len(known(tmp_path / "j", now=300.0)) == 0


def test_what_was_extended_and_revoked_is_so_again(tmp_path: Path) -> None:
    write(
        tmp_path / "j",
        lambda journal: journal.learned("www.example", [A, B, C], 300.0, ORIGIN),
        lambda journal: journal.touched([A], 600.0),
        lambda journal: journal.gone([B]),
    )
    leases = known(tmp_path / "j", now=100.0)
    assert [lease and lease.until for lease in map(leases.get, (A, B, C))] == [600.0, None, 300.0]


def test_what_is_open_for_one_client_alone_stays_so(tmp_path: Path) -> None:
    write(
        tmp_path / "j",
        lambda journal: journal.learned("www.example", [A], 300.0, ORIGIN._replace(alone=True)),
        lambda journal: journal.learned("www.example", [A], 400.0, ORIGIN._replace(client=OTHER, alone=True)),
    )
    for _ in range(2):
        lease = known(tmp_path / "j", now=0.0).live(A, 0.0)
        assert lease is not None
        assert [lease.until_for(client) for client in (CLIENT, OTHER, b"\x0a\0\0\4")] == [300.0, 400.0, 0.0]


def test_the_file_of_another_boot_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "j", lambda journal: journal.learned("www.example", [A], 300.0, ORIGIN))
    boot = tmp_path / "boot_id"
    boot.write_text("another\n")
    monkeypatch.setattr(module, "_BOOT_ID", boot)
    assert len(known(tmp_path / "j")) == 0


@pytest.mark.parametrize("missing", [1, 5, 20])
def test_a_record_that_was_cut_off_is_not_believed_and_what_stands_before_it_is(tmp_path: Path, missing: int) -> None:
    path = tmp_path / "j"
    write(
        path,
        lambda journal: journal.learned("a.example", [A], 300.0, ORIGIN),
        lambda journal: journal.learned("b.example", [B], 300.0, ORIGIN),
    )
    path.write_bytes(path.read_bytes()[:-missing])
    assert known(path).addresses() == [A]
    assert known(path).addresses() == [A], "and again, since it was written anew"


@pytest.mark.parametrize(
    "octets",
    [b"", b"\xc1", b"\xff" * 1000, msgpack.packb(["netstack leases 0", "x"]), msgpack.packb({"a": 1})],
    ids=["nothing", "no msgpack", "garbage", "another format", "no list"],
)
def test_what_is_no_journal_is_replaced(tmp_path: Path, octets: bytes) -> None:
    (tmp_path / "j").write_bytes(octets)
    write(tmp_path / "j", lambda journal: journal.learned("www.example", [A], 300.0, ORIGIN))
    assert known(tmp_path / "j").addresses() == [A]


@pytest.mark.parametrize(
    "record",
    [
        None,
        [],
        ["lease"],
        ["lease", 1, 2],
        ["gone", 3],
        ["touch", [A], "x"],
        ["more", 1],
        17,
        "text",
        ["kept", [B], [], [["b.example"]], [["", b"", []]], [0], [1.0]],
        ["kept", [B], ["x"], [["b.example"]], [["", b"", []]], [0], [1.0]],
    ],
)
def test_records_that_mean_nothing_are_passed_over(tmp_path: Path, record: object) -> None:
    path = tmp_path / "j"
    write(path, lambda journal: journal.learned("a.example", [A], 300.0, ORIGIN))
    path.write_bytes(path.read_bytes() + msgpack.packb(record))
    write(path, lambda journal: journal.learned("b.example", [B], 300.0, ORIGIN))
    assert B in known(path).addresses()


def test_it_is_written_anew_when_it_has_grown_and_loses_nothing_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_AT_ONCE", 10)
    path = tmp_path / "j"
    leases, journal = Leases(), Journal(path, compact_above=20_000)
    journal.open(leases, 0.0)
    addresses = [bytes([198, 18, 0, n]) for n in range(100)]
    sizes = []
    for turn in range(40):
        leases.learn("many.example", addresses, 300.0 + turn, 0.0, ORIGIN)
        journal.learned("many.example", addresses, 300.0 + turn, ORIGIN)
        for _ in range(3):
            journal.step()
        if turn == 30:
            journal.gone(leases.revoke(addresses[0], 0.0))
            journal.gone(leases.revoke(addresses[-1], 0.0))
            addresses = addresses[1:-1]
        sizes.append(path.stat().st_size)
    journal.close()
    assert max(sizes) < 80_000
    assert any(later < earlier for earlier, later in itertools.pairwise(sizes)), "it was written anew"
    again = known(path)
    assert sorted(again.addresses()) == sorted(addresses)
    assert {again.get(address).until for address in again.addresses()} == {339.0}


def written_anew(path: Path, leases: Leases) -> Leases:
    """What a process knows that finds these in a file in which they stand together."""
    journal = Journal(path)
    journal.open(leases, 0.0)  # there is none yet: it begins with one that has all of them
    journal.close()
    return known(path)


def test_leases_that_were_kept_together_come_back_as_they_were(tmp_path: Path) -> None:
    before = Leases()
    before.learn("www.example", [A, B], 300.0, 0.0, ORIGIN)
    before.learn("b.example", [B], 500.0, 0.0, ORIGIN._replace(when=1.8e9))
    before.learn("alone.example", [C], 400.0, 0.0, ORIGIN._replace(client=OTHER, alone=True))
    after = written_anew(tmp_path / "j", before)
    for address in (A, B, C):
        lease, again = before.get(address), after.get(address)
        same = ("until", "names", "origin", "clients")
        assert [getattr(lease, field) for field in same] == [getattr(again, field) for field in same]
    siblings = {"www.example": [A, B], "b.example": [B], "alone.example": [C]}
    assert {name: after.siblings(name) for name in after.names()} == siblings


def test_what_was_kept_together_is_extended_joined_revoked_and_ends_like_any_other(tmp_path: Path) -> None:
    before = Leases()
    before.learn("www.example", [A, B], 300.0, 0.0, ORIGIN)
    before.learn("c.example", [C], 200.0, 0.0, ORIGIN)
    after = written_anew(tmp_path / "j", before)
    after.learn("www.example", [C], 250.0, 10.0, ORIGIN)
    assert after.siblings("www.example") == [A, B, C]
    assert sorted(after.touch([A], 600.0, 10.0)) == [A, B, C]
    assert after.revoke("c.example", 20.0) == [C]
    assert after.siblings("www.example") == [A, B]
    after.expire(700.0, 100)
    assert (len(after), after.name_count, after.queued) == (0, 0, 0)


def test_what_changes_while_it_is_written_anew_is_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before, between and behind the leases and names that it is about."""
    monkeypatch.setattr(module, "_AT_ONCE", 1)
    for steps in range(8):
        path = tmp_path / f"{steps}"
        leases, journal = Leases(), Journal(path, compact_above=100)
        journal.open(leases, 0.0)
        for name, address in (("a.example", A), ("b.example", B), ("c.example", C)):
            leases.learn(name, [address], 300.0, 0.0, ORIGIN)
            journal.learned(name, [address], 300.0, ORIGIN)
        assert journal.is_writing_anew
        for _ in range(steps):
            journal.step()
        leases.learn("new.example", [A], 500.0, 0.0, ORIGIN)
        journal.learned("new.example", [A], 500.0, ORIGIN)
        journal.gone(leases.revoke(B, 0.0))
        journal.touched(leases.touch([C], 400.0, 0.0), 400.0)
        while journal.is_writing_anew:
            journal.step()
        journal.close()
        again = known(path)
        for address in (A, B, C):
            lease, other = leases.get(address), again.get(address)
            assert (lease and (lease.until, lease.names)) == (other and (other.until, other.names)), steps
        siblings = {name: leases.siblings(name) for name in leases.names()}
        assert {name: again.siblings(name) for name in again.names()} == siblings, steps


def test_where_it_cannot_be_written_that_is_said_and_nothing_else_happens(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    journal = Journal(tmp_path / "missing" / "j")
    assert journal.open(Leases(), 0.0) == 0
    journal.learned("www.example", [A], 300.0, NOWHERE)
    journal.step()
    journal.close()
    assert len(caplog.records) == 1
    assert "cannot be written (No such file or directory)" in caplog.text
