"""What services run from: the compiled form where it is of these sources, and never one of others."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from netstack.cli.compiled import CODE, DIRECTORY, PACKAGES, choose, stamp
from tests.internet import Internet, Sandbox

MAIN = "import sys; from netstack.cli.main import main; sys.exit(main())"
TELLTALE = "a service that runs from what was compiled"


def test_the_packet_path_runs_from_shared_objects_where_they_were_made_of_these_sources(
    internet: Internet, sandbox: Sandbox
) -> None:
    expected = choose().compiled  # `make test` sees to it that it is true, but where there is no compiler
    maps = internet.host.run(["cat", f"/proc/{sandbox.process('tcp_fwd')['pid']}/maps"]).ok().text
    loaded = {line.split()[-1] for line in maps.splitlines() if str(DIRECTORY) in line}
    assert any("__mypyc" in name for name in loaded) == expected, "the object with the code of all modules"
    assert json.loads(sandbox.netstack("status", "--json").text)["compiled"] == expected
    assert json.loads(internet.netstack(["version", "--json"]).text)["compiled"] == expected


@pytest.fixture
def prefix(folder: Path) -> Path:
    """An environment with the packages of ours, to which services can be added that were compiled."""
    prefix = folder / "environment"
    interpreter = Path(sys.executable).resolve()
    packages = prefix / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    packages.mkdir(parents=True)
    theirs = Path(pytest.__file__).parent.parent
    (packages / "ours.pth").write_text(f"{theirs}\n{CODE}\n")
    (prefix / "pyvenv.cfg").write_text(f"home = {interpreter.parent}\ninclude-system-site-packages = false\n")
    (prefix / "bin").mkdir()
    (prefix / "bin" / "python").symlink_to(interpreter)
    return prefix


@pytest.mark.parametrize(
    ("mark", "is_used"),
    [(lambda: stamp(CODE), True), (lambda: "0" * 64, False)],
    ids=["of these sources", "of others, which is said once"],
)
def test_services_run_from_what_was_compiled_only_if_it_is(
    internet: Internet, prefix: Path, mark: Callable[[], str], is_used: bool
) -> None:
    directory = prefix / "share" / "netstack" / "compiled"
    for package in PACKAGES:
        shutil.copytree(CODE / package, directory / package, ignore=shutil.ignore_patterns("__pycache__"))
    with (directory / "services" / "__init__.py").open("a") as source:
        source.write(f"import sys\nprint({TELLTALE!r}, file=sys.stderr)\n")
    (directory / "stamp").write_text(mark())
    command = internet.exec_command(["true"], options=["-v"])
    done = internet.host.run([prefix / "bin" / "python", "-c", MAIN, *command[1:]], timeout=30).ok()
    assert (TELLTALE in done.messages) == is_used
    assert done.messages.count("the compiled services are not of these sources") == (not is_used)
