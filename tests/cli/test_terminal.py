"""A command in a sandbox at a terminal, under a shell with job control: as if it had been started directly."""

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
RUN = f"{sys.executable} {Path(__file__).with_name('sandbox_driver.py')}"
PATIENCE = 10.0  # seconds
OUTER = "OUT> "
INNER = "IN> "
SHELL = f"env PS1='{INNER}' bash --norc --noprofile --noediting -i"
# A quote in the word, so that the shell's echo of what was typed is not taken for what the command says.
READY = "echo rea''dy"


class Terminal:
    """An interactive bash at a terminal of its own; type into it and wait for what it shows."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._shown = ""

    def type(self, text: str) -> None:
        os.write(self._descriptor, text.encode())

    def wait_for(self, text: str) -> str:
        """What was shown up to this text, which is then forgotten."""
        end = time.monotonic() + PATIENCE
        while text not in self._shown:
            if not select.select([self._descriptor], [], [], max(0.0, end - time.monotonic()))[0]:
                pytest.fail(f"never saw {text!r}; the terminal shows {self._shown!r}")
            self._shown += os.read(self._descriptor, 65536).decode(errors="replace")
        before, _, self._shown = self._shown.partition(text)
        return before

    def run(self, command: str) -> str:
        """Type a command into the outer shell, and return what it showed until the next prompt."""
        self.type(f"{command}\n")
        return self.wait_for(OUTER)


@pytest.fixture(params=["", "env SUDO_UID=65534 SUDO_GID=65534 "], ids=["the supervisor's user", "another user"])
def run(request: pytest.FixtureRequest) -> str:
    return f"{request.param}{RUN}"


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    environment = {**os.environ, "PS1": OUTER, "PYTHONPATH": str(ROOT), "TERM": "vt100"}
    shell, descriptor = pty.fork()
    if shell == 0:
        os.execvpe("bash", ["bash", "--norc", "--noprofile", "--noediting", "-i"], environment)
    fcntl.ioctl(descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 111, 0, 0))
    made = Terminal(descriptor)
    made.wait_for(OUTER)
    try:
        yield made
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(shell, signal.SIGKILL)
        os.close(descriptor)
        os.waitpid(shell, 0)


def code(terminal: Terminal) -> int:
    """The outer shell's $?."""
    match = re.search(r"code=(\d+)", terminal.run("echo code=$?"))
    assert match
    return int(match[1])


def test_the_window_is_the_terminals(terminal: Terminal, run: str) -> None:
    assert "33 111" in terminal.run(f"{run} stty size")


def test_control_c_interrupts_the_command(terminal: Terminal, run: str) -> None:
    terminal.type(f'{run} sh -c "{READY}; exec sleep 60"\n')
    terminal.wait_for("ready")
    terminal.type("\x03")
    terminal.wait_for(OUTER)
    assert code(terminal) == 130


def test_a_command_that_handles_control_c_goes_on(terminal: Terminal, run: str) -> None:
    terminal.type(f"{run} sh -c \"trap 'echo caught; exit 4' INT; {READY}; read x\"\n")
    terminal.wait_for("ready")
    terminal.type("\x03")
    terminal.wait_for("caught")
    terminal.wait_for(OUTER)
    assert code(terminal) == 4


def test_control_z_and_fg(terminal: Terminal, run: str) -> None:
    terminal.type(f'{run} sh -c "{READY}; read x; echo got \\$x; exit 7"\n')
    terminal.wait_for("ready")
    terminal.type("\x1a")
    terminal.wait_for("Stopped")
    terminal.wait_for(OUTER)
    assert "Stopped" in terminal.run("jobs")
    terminal.type("fg\n")
    terminal.wait_for("exit 7")  # the shell repeats the command line
    terminal.type("hello\n")
    terminal.wait_for("got hello")
    terminal.wait_for(OUTER)
    assert code(terminal) == 7


@pytest.mark.parametrize("number", ["STOP", "TSTP"])
def test_a_command_that_stops_itself_is_a_stopped_job(terminal: Terminal, run: str, number: str) -> None:
    terminal.type(f"{run} sh -c 'kill -{number} $$; exit 9'\n")
    terminal.wait_for("Stopped")
    terminal.wait_for(OUTER)
    terminal.run("fg")
    assert code(terminal) == 9


def test_a_background_job_stops_when_it_reads_the_terminal(terminal: Terminal, run: str) -> None:
    terminal.run("set -b")  # tell of jobs at once
    terminal.type(f"{run} sh -c 'read x; echo got $x' &\n")
    terminal.wait_for("Stopped")
    terminal.type("fg\n")
    terminal.wait_for("got $x'\r\n")
    terminal.type("line\n")
    terminal.wait_for("got line")


@pytest.mark.parametrize("resume", ["fg", "bg"])
def test_an_interactive_shell_has_job_control(terminal: Terminal, run: str, resume: str) -> None:
    terminal.type(f"{run} {SHELL}\n")
    terminal.wait_for(f"\r\n{INNER}")
    terminal.type("sh -c \"trap 'printf resu%s med' CONT; sleep 60 & printf rea%s dy; wait; wait\"\n")
    terminal.wait_for("ready")
    terminal.type("\x1a")
    terminal.wait_for("Stopped")
    terminal.wait_for(INNER)
    terminal.type(f"{resume}\n")
    terminal.wait_for("resumed")
    terminal.type("\x03" if resume == "fg" else "kill -INT %1; wait %1\n")
    terminal.wait_for(INNER)
    terminal.type("echo inner=$?\n")
    terminal.wait_for("inner=130")
    terminal.wait_for(INNER)
    terminal.type("exit 5\n")
    terminal.wait_for(OUTER)
    assert code(terminal) == 5


def test_an_interactive_shell_may_suspend_itself(terminal: Terminal, run: str) -> None:
    terminal.type(f"{run} {SHELL}\n")
    terminal.wait_for(f"\r\n{INNER}")
    terminal.type("suspend\n")
    terminal.wait_for("Stopped")
    terminal.wait_for(OUTER)
    terminal.type("fg\n")
    terminal.wait_for(f"{SHELL}\r\n")  # the outer shell repeats the command line
    terminal.type("echo ba''ck\n")
    terminal.wait_for("back")
    terminal.type("exit 6\n")
    terminal.wait_for(OUTER)
    assert code(terminal) == 6


def test_the_terminal_is_given_back_to_a_script(terminal: Terminal, run: str) -> None:
    """A shell without job control does not take it back itself."""
    terminal.type(f'bash --norc -c "{run} {SHELL}; {READY}; read -t 5 x; echo read=\\$x"\n')
    terminal.wait_for(f"\r\n{INNER}")
    terminal.type("exit\n")
    terminal.wait_for("ready")
    terminal.type("word\n")
    terminal.wait_for("read=word")


def test_a_pager_works(terminal: Terminal, run: str, tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("".join(f"line {number}\n" for number in range(200)))
    tmp_path.chmod(0o755)
    for parent in tmp_path.parents:
        if parent.name.startswith(("pytest-", "popen-")):
            parent.chmod(0o755)
    terminal.type(f"{run} less {text}\n")
    terminal.wait_for("line 30")
    terminal.type("G")
    terminal.wait_for("line 199")
    terminal.type("q")
    terminal.wait_for(OUTER)
    assert code(terminal) == 0
