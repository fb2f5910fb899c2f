"""What removes an instance's files when its supervisor is gone."""

import os
import select
import subprocess
import sys
from pathlib import Path

from netstack.cli import rundir

PROGRAM = """
import os, sys
from pathlib import Path
from netstack.cli import rundir
from netstack.cli.janitor import Janitor
instance = rundir.claim(Path(sys.argv[1]), "test", "exec")
(instance.directory / "dns").mkdir()
(instance.directory / "dns" / "socket").touch()
janitor = Janitor(Path(sys.argv[1]), "test")
print(janitor._pid, flush=True)
if sys.argv[2] == "orderly":
    instance.release()
    janitor.dismiss()
else:
    sys.stdin.read()
"""


def _start(run_dir: Path, way: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(run_dir), way], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def test_a_killed_supervisors_files_are_removed_and_the_janitor_ends(short_path: Path) -> None:
    with _start(short_path, "killed") as supervisor:
        assert supervisor.stdout is not None
        janitor = os.pidfd_open(int(supervisor.stdout.readline()))
        assert rundir.live(short_path) == ["test"]
        supervisor.kill()
        # The janitor does not keep the supervisor's standard output open: whoever reads it sees the end.
        assert supervisor.stdout.read() == ""
        assert select.select([janitor], [], [], 10.0)[0]
        os.close(janitor)
    assert list(short_path.iterdir()) == []


def test_an_orderly_end_leaves_no_janitor(short_path: Path) -> None:
    with _start(short_path, "orderly") as supervisor:
        output, _ = supervisor.communicate(timeout=10)
    assert not Path("/proc", output.strip()).exists()
    assert supervisor.returncode == 0
    assert list(short_path.iterdir()) == []
