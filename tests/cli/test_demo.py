"""The demo shows what it promises, on a machine with curl and on one without."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from netstack.cli.demo import fetch, milliseconds

STEPS = 6


@pytest.mark.e2e
@pytest.mark.parametrize("with_curl", [True, False], ids=["with curl", "without curl"])
def test_every_step_shows_what_it_should(tmp_path: Path, with_curl: bool) -> None:
    environment = dict(os.environ)
    if not with_curl:
        for program in ("sh", "env"):
            (tmp_path / program).symlink_to(f"/bin/{program}")
        environment["PATH"] = str(tmp_path)
    command = [Path(sys.executable).parent / "netstack", "demo"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("✓") == STEPS
    assert "✗" not in done.stdout
    assert ("$ netstack exec -- curl" in done.stdout) is with_curl


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("curl: (7) Failed to connect to 198.18.1.20 port 80 after 3 ms: Could not connect to server", 3.0),
        ("cannot connect to 198.18.1.20 port 80 after 0.4 ms: ECONNREFUSED (Connection refused)", 0.4),
        ("curl: (28) Connection timed out", float("inf")),
        ("", float("inf")),
    ],
    ids=["curl's words", "our client's words", "no time is said", "nothing is said"],
)
def test_time_of_a_refusal(output: str, expected: float) -> None:
    assert milliseconds(output) == expected


def test_without_curl_our_own_client_fetches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert fetch("http://www.test/", "-6") == [
        sys.executable, "-m", "netstack.cli.demo_client", "fetch", "http://www.test/", "-6"
    ]  # fmt: skip
