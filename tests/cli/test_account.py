"""As whom the services run."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from netstack.cli.account import NOBODY, Account, choose

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can run services as somebody else")

SETTLED = """
import os, signal
from pathlib import Path
from netstack.cli.account import Account, settle
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
settle(Account(drop_all=os.geteuid() == 0), os.getppid())
status = dict(line.split(":\\t", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":\\t" in line)
print(status["NoNewPrivs"], int(status["CapEff"], 16), int(status["SigBlk"], 16))
"""


def test_a_child_has_no_capability_can_gain_none_and_hears_signals() -> None:
    told = subprocess.run([sys.executable, "-c", SETTLED], capture_output=True, check=True, text=True).stdout
    assert told == "1 0 0\n"


def test_a_child_whose_supervisor_is_gone_ends_at_once() -> None:
    program = SETTLED.replace("os.getppid()", "1")
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False, text=True)
    assert (ended.returncode, ended.stdout) == (1, "")


@needs_root
def test_services_of_root_run_as_nobody_where_that_user_can_read_all_they_need(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("netstack.cli.account._own_code", lambda: [Path("/etc/passwd")])
    assert choose(Path("/run")) == Account(NOBODY, NOBODY)


@needs_root
@pytest.mark.parametrize("what", ["code", "run directory", "file"])
def test_services_of_root_stay_root_without_capabilities_where_it_cannot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    (closed / "file").touch()
    code = closed / "file" if what == "code" else Path("/etc/passwd")
    monkeypatch.setattr("netstack.cli.account._own_code", lambda: [code])
    run_dir = closed if what == "run directory" else Path("/run")
    files = [closed / "file"] if what == "file" else []
    assert choose(run_dir, files) == Account(drop_all=True)


@pytest.mark.skipif(os.geteuid() == 0, reason="root has a choice")
def test_services_of_a_user_run_as_that_user() -> None:
    assert choose(Path("/run")) == Account()
