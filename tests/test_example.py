"""netstack.example.toml says what the structs say."""

import re
import tomllib
from pathlib import Path

import msgspec

from netstack.runtime.config import Config
from netstack.runtime.load import load

EXAMPLE = Path(__file__).parent.parent / "netstack.example.toml"


def _uncommented() -> str:
    return re.sub(r"^# ([a-z_]+ = )", r"\1", EXAMPLE.read_text(), flags=re.MULTILINE)


def test_the_example_as_it_stands_changes_nothing() -> None:
    assert load(EXAMPLE, [], {}) == Config()


def test_every_key_is_in_the_example_with_its_default() -> None:
    assert tomllib.loads(_uncommented()) == msgspec.to_builtins(Config())


def test_the_example_without_comment_signs_is_valid(tmp_path: Path) -> None:
    path = tmp_path / "netstack.toml"
    path.write_text(_uncommented())
    assert load(path, [], {}) == Config()
