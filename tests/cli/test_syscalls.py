"""System calls whose failure names them, and capabilities that are gone for good."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from netstack.cli import syscalls

ROOT = Path(__file__).parents[2]


def test_a_failure_names_the_call() -> None:
    with pytest.raises(OSError, match="setns: ") as caught:
        syscalls.setns(-1, syscalls.CLONE_NEWNET)
    assert caught.value.errno == errno.EBADF
    with pytest.raises(OSError, match="mount on /no/such/directory: "):
        syscalls.mount("tmpfs", "/no/such/directory", "tmpfs")
    with pytest.raises(OSError, match="umount /no/such/directory: "):
        syscalls.umount("/no/such/directory")
    with pytest.raises(OSError, match="unshare: "):
        syscalls.unshare(0x1)


@pytest.mark.e2e
def test_dropped_capabilities_do_not_come_back_with_another_program() -> None:
    dropped = (syscalls.CAP_NET_ADMIN, syscalls.CAP_SYS_ADMIN)
    program = (
        "import os\n"
        "from netstack.cli.syscalls import drop_capabilities\n"
        f"drop_capabilities({dropped})\n"
        "os.execvp('grep', ['grep', '^Cap', '/proc/self/status'])\n"
    )
    shown = subprocess.run(
        # With inheritable and ambient ones, which would survive the bounding set alone.
        ["setpriv", "--inh-caps=+net_admin,+chown", "--ambient-caps=+net_admin,+chown", sys.executable, "-c", program],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ).stdout
    sets = {line.split(":")[0]: int(line.split()[1], 16) for line in shown.splitlines()}
    assert set(sets) == {"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"}
    for name, value in sets.items():
        assert not any(value >> number & 1 for number in dropped), name
        assert value & 1, f"{name} has lost CAP_CHOWN (0), which was not dropped"
