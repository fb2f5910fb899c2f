"""The file of rules: a tracker that starts anew knows them, another boot does not."""

import logging
import math
from pathlib import Path

import pytest

from services.tracker import rules_file as module
from services.tracker.endpoints import parse_rule
from services.tracker.rules import Rules
from services.tracker.rules_file import read_rules, write_rules


def some() -> Rules:
    rules = Rules()
    rules.permit_endpoint(parse_rule("192.0.2.1/udp"), 100.0)
    rules.rule_name("ads.example", allowed=False, until=math.inf)
    return rules


def test_what_was_written_is_read(tmp_path: Path) -> None:
    assert write_rules(tmp_path / "rules", some()) is None
    assert read_rules(tmp_path / "rules").save() == some().save()
    assert [path.name for path in tmp_path.iterdir()] == ["rules"]


def test_where_there_is_none_there_are_no_rules(tmp_path: Path) -> None:
    assert read_rules(tmp_path / "rules").save() == Rules().save()


def test_those_of_another_boot_say_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_rules(tmp_path / "rules", some())
    (tmp_path / "boot").write_text("another\n")
    monkeypatch.setattr(module, "_BOOT_ID", tmp_path / "boot")
    assert read_rules(tmp_path / "rules").save() == Rules().save()


@pytest.mark.parametrize("octets", [b"", b"{", b"[]", b'{"boot": 1, "rules": {}}', b"\xff"])
def test_what_is_no_such_file_is_said_and_passed_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, octets: bytes
) -> None:
    caplog.set_level(logging.WARNING)
    (tmp_path / "rules").write_bytes(octets)
    assert read_rules(tmp_path / "rules").save() == Rules().save()
    assert "is forgotten" in caplog.text


def test_a_link_that_somebody_put_there_is_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "rules.new").symlink_to(tmp_path / "elsewhere")
    assert write_rules(tmp_path / "rules", some()) is None
    assert not (tmp_path / "elsewhere").exists()


def test_where_it_cannot_be_written_it_says_why(tmp_path: Path) -> None:
    assert "No such file" in str(write_rules(tmp_path / "missing" / "rules", some()))
