"""Which form of the services is started: the compiled one only where it is of these very sources."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from netstack.cli import compiled
from netstack.cli.compiled import Choice, choose, sources, stamp


@pytest.fixture
def code(tmp_path: Path) -> Path:
    """A tree of sources, as small as one can be."""
    folder = tmp_path / "code"
    for name in ("netstack/__init__.py", "netstack/packet/tcp.py", "services/tcp_fwd/service.py"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"NAME = {name!r}\n")
    return folder


@pytest.fixture
def directory(tmp_path: Path, code: Path) -> Path:
    """What was compiled of it."""
    folder = tmp_path / "compiled"
    shutil.copytree(code, folder)
    (folder / "stamp").write_text(stamp(code))
    return folder


def test_the_compiled_form_of_these_sources_is_used(code: Path, directory: Path) -> None:
    assert choose(code, directory) == Choice(directory, compiled=True)


def test_a_process_that_runs_from_the_compiled_form_starts_others_from_it(directory: Path) -> None:
    assert choose(directory, directory) == Choice(directory, compiled=True)


@pytest.mark.parametrize(
    "edit",
    [
        lambda code: (code / "netstack/packet/tcp.py").write_text("NAME = 'netstack/packet/TCP.py'\n"),
        lambda code: (code / "netstack/packet/udp.py").touch(),
        lambda code: (code / "services/tcp_fwd/service.py").unlink(),
        lambda code: (code / "netstack/packet/tcp.py").rename(code / "netstack/packet/TCP.py"),
    ],
    ids=["as many octets as before", "one more, without an octet", "one less", "another name"],
)
def test_any_change_of_a_source_makes_it_stale(edit: Callable[[Path], object], code: Path, directory: Path) -> None:
    edit(code)
    assert choose(code, directory) == Choice(code, compiled=False, stale=True)


def test_octets_that_move_from_one_file_to_the_next_make_it_stale(code: Path, directory: Path) -> None:
    first, second = sources(code)[:2]
    whole = (code / first).read_bytes() + (code / second).read_bytes()
    (code / first).write_bytes(whole[:1])
    (code / second).write_bytes(whole[1:])
    assert choose(code, directory).stale


def test_what_is_no_source_changes_nothing(code: Path, directory: Path) -> None:
    (code / "netstack" / "__pycache__").mkdir()
    (code / "netstack" / "__pycache__" / "old.py").touch()
    (code / "netstack" / "py.typed").touch()
    (code / "tests").mkdir()
    (code / "tests" / "test_it.py").touch()
    assert choose(code, directory).compiled


def test_the_shared_objects_of_another_interpreter_are_stale(
    code: Path, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiled, "EXTENSION_SUFFIXES", [".cpython-999-x86_64-linux-gnu.so"])
    assert choose(code, directory).stale


@pytest.mark.parametrize(
    ("mark", "stale"), [(None, False), (b"", True), (b"\xff", False)], ids=["no stamp", "an empty one", "no text"]
)
def test_a_directory_without_a_stamp_of_ours_is_not_used(
    mark: bytes | None, stale: bool, code: Path, directory: Path
) -> None:
    (directory / "stamp").unlink()
    if mark is not None:
        (directory / "stamp").write_bytes(mark)
    assert choose(code, directory) == Choice(code, compiled=False, stale=stale)


def test_where_nothing_was_compiled_the_sources_run(code: Path, tmp_path: Path) -> None:
    assert choose(code, tmp_path / "nothing") == Choice(code, compiled=False)


def test_the_sources_here_are_all_of_both_packages() -> None:
    found = sources(compiled.CODE)
    assert {"netstack/cli/compiled.py", "services/tcp_fwd/__main__.py", "services/dns_filter/lists/fetch.py"} <= set(
        found
    )
    assert found == sorted(found)
