"""Making the compiled form, as far as it goes without compiling: that it works, tests/e2e/test_compiled.py sees."""

from pathlib import Path

import pytest

from netstack.cli.compiled import CODE
from netstack.cli.compiling import MODULES, CannotCompileError, make, missing


def test_every_module_that_is_to_be_compiled_is_there() -> None:
    assert [name for name in MODULES if not (CODE / name).is_file()] == []
    assert len(set(MODULES)) == len(MODULES)


def test_without_a_compiler_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    with pytest.raises(CannotCompileError, match="apt-get install gcc python3-dev"):
        make(CODE, tmp_path / "compiled")
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_compiled_leaves_what_was_there(tmp_path: Path) -> None:
    if why := missing():
        pytest.skip(why)
    code = tmp_path / "code"
    (code / "netstack").mkdir(parents=True)
    (code / "netstack" / "__init__.py").touch()  # without the modules that are to be compiled
    directory = tmp_path / "share" / "compiled"
    directory.mkdir(parents=True)
    (directory / "stamp").write_text("of before")
    (directory.parent / ".making-and-killed").mkdir()
    with pytest.raises(CannotCompileError, match="the compiler refused"):
        make(code, directory)
    assert list(directory.parent.glob(".making-*")) == []
    assert (directory / "stamp").read_text() == "of before"
