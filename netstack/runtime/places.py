"""Where each key of the configuration was written: a line of the file, an environment variable, or -s."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

KeyPath = tuple[str, ...]


class Places:
    """The place of each key, for messages."""

    def __init__(self, path: Path | None, text: str) -> None:
        self._path = path
        self._text = text
        self._noted: dict[KeyPath, str] = {}

    def note(self, keys: KeyPath, place: str) -> None:
        """This key, and what is below it, was written there; a later note replaces an earlier one."""
        self._noted[keys] = place

    def of(self, keys: KeyPath) -> str:
        """Where a key, or the nearest table around it, was written."""
        for length in range(len(keys), 0, -1):
            if keys[:length] in self._noted:
                return self._noted[keys[:length]]
        below = [place for noted, place in self._noted.items() if noted[: len(keys)] == keys]
        if below:
            return below[-1]
        line = line_of(self._text, keys)
        return f"{self._path}, line {line}" if line else "default"


def line_of(text: str, keys: KeyPath) -> int:
    """The line, from 1, on which a key of a valid TOML text is written; that of the nearest table around it, or 0.

    The lines are gathered into statements, each of which is TOML by itself, so that tomllib decides what a key is.
    """
    found: dict[KeyPath, int] = {}
    table: KeyPath = ()
    for line, statement in _statements(text):
        parsed = tomllib.loads(statement)
        if statement.lstrip().startswith("["):
            table = _chain(parsed)
            found.setdefault(table, line)
            continue
        for below in _paths(parsed):
            found.setdefault(table + below, line)
    for length in range(len(keys), 0, -1):
        if keys[:length] in found:
            return found[keys[:length]]
        # A table may be written only through its keys: [dns.bootstrap] makes dns.
        inside = [line for path, line in found.items() if path[:length] == keys[:length]]
        if inside:
            return min(inside)
    return 0


def key_text(keys: KeyPath) -> str:
    """A dotted key as TOML writes it."""
    return ".".join(key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else f'"{_escaped(key)}"' for key in keys)


def _escaped(key: str) -> str:
    return key.encode("unicode_escape").decode("ascii").replace('"', '\\"')


def _statements(text: str) -> Iterator[tuple[int, str]]:
    start, held = 0, ""
    for number, line in enumerate(text.split("\n"), 1):
        if not held:
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            start = number
        # Only a bracket or a triple quote can end a value that goes over several lines.
        may_end = not held or any(mark in line for mark in ("]", '"""', "'''"))
        held += line + "\n"
        if may_end and _is_toml(held):
            yield start, held
            held = ""


def _is_toml(text: str) -> bool:
    try:
        tomllib.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _chain(header: dict[str, Any]) -> KeyPath:
    """The keys of a table's header: each table in it has one key, and [[name]] makes an array of one table."""
    keys: list[str] = []
    inner: Any = header
    while inner:
        if isinstance(inner, list):
            inner = inner[0]
            continue
        ((key, inner),) = inner.items()
        keys.append(key)
    return tuple(keys)


def _paths(table: dict[str, Any]) -> Iterator[KeyPath]:
    for key, value in table.items():
        yield (key,)
        if isinstance(value, dict):
            for below in _paths(value):
                yield (key, *below)
