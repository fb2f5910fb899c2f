"""The netstack command as its users call it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from netstack.cli.commands.up_command import parse_stages
from netstack.cli.foreground import Stages
from netstack.cli.main import COMMANDS
from netstack.cli.options import UsageError
from netstack.wire.messages import VERSION


def netstack(*arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    """Run the command with an environment that has no NETSTACK_... but these."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("NETSTACK_")}
    return subprocess.run(
        [sys.executable, "-m", "netstack.cli.main", *arguments],
        env=environment | variables,
        capture_output=True,
        check=False,
        text=True,
        timeout=60,
    )


def test_help_names_every_command() -> None:
    told = netstack("--help")
    assert told.returncode == 0
    assert all(f"\n  {name} " in told.stdout for name in COMMANDS)
    assert "Example: netstack exec" in told.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_each_command_has_an_example_and_the_common_options(name: str) -> None:
    told = netstack(name, "--help")
    assert told.returncode == 0
    assert "Example: " in told.stdout
    for option in ("--run-dir", "--instance", "--json", "-q", "-v", "NETSTACK_RUN_DIR"):
        assert option in told.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param(["chek"], "No such command 'chek'", id="no such command"),
        pytest.param(["check", "--no"], "No such option", id="no such option"),
        pytest.param(["exec"], "Missing argument", id="exec without a command"),
        pytest.param(["check", "-s", "dns.timeut=3"], "did you mean dns.timeout?", id="a misspelt key"),
        pytest.param(["exec", "-s", "mode=x", "--", "true"], "must be one of", id="a wrong value"),
        pytest.param(["check", "-c", "/nonexistent"], "cannot read the configuration file", id="no such file"),
        pytest.param(["up", "--stage", "nosuch"], "must be one of tracker", id="no such stage"),
        pytest.param(["up", "--user", "1"], "--user goes with --stage", id="--user alone"),
        pytest.param(["up", "--stage", "tun_io"], "set capture.kind=name", id="one stage in a namespace of its own"),
        pytest.param(["up", "-s", "mode=dns", "--stage", "tun_io"], "has no use for it", id="a TUN for the DNS proxy"),
        pytest.param(["exec", "-s", "mode=dns", "--", "true"], "use `netstack up`", id="a command for the DNS proxy"),
        pytest.param(
            ["up", "-s", "links.connect=tcp://127.0.0.1:5700"],
            "tracker and tun_io cannot run here",
            id="the whole pipeline where another host has the TUN",
        ),
        pytest.param(
            ["exec", "-s", "links.listen=tcp://198.18.7.1:5700", "--", "true"],
            "could read and forge",
            id="a link to other hosts without a key",
        ),
        pytest.param(["status", "--instance", "a/b"], "--instance 'a/b'", id="an impossible instance"),
    ],
)
def test_a_wrong_use_is_2_on_stderr(short_path: Path, arguments: list[str], said: str) -> None:
    told = netstack(*arguments, NETSTACK_RUN_DIR=str(short_path))
    assert (told.returncode, told.stdout) == (2, "")
    assert said in told.stderr
    assert "Traceback" not in told.stderr
    assert list(short_path.iterdir()) == [], "nothing was started"


def test_a_run_directory_too_long_for_sockets_is_refused(short_path: Path) -> None:
    told = netstack("trace", "--run-dir", str(short_path / ("x" * 100)))
    assert told.returncode in (1, 2)
    assert "Traceback" not in told.stderr


def test_check_prints_what_is_in_effect(short_path: Path) -> None:
    path = short_path / "n.toml"
    path.write_text("[dns]\ntimeout = 2\n")
    told = netstack("check", "-c", str(path), "-s", "quic.block=false", NETSTACK_TCP__MAX_FLOWS="7")
    assert told.returncode == 0
    assert told.stderr == "netstack: the configuration is valid\n"
    assert "timeout = 2.0\n" in told.stdout
    assert "max_flows = 7\n" in told.stdout
    again = netstack("check", "-q", "-c", str(path), "-s", "quic.block=false", "--json", NETSTACK_TCP__MAX_FLOWS="7")
    assert json.loads(again.stdout)["quic"]["block"] is False
    assert again.stderr == ""


def test_version_tells_what_runs() -> None:
    assert netstack("version").stdout.startswith("netstack ")
    assert json.loads(netstack("version", "--json").stdout)["frames"] == VERSION


def test_status_of_nothing_is_not_healthy(short_path: Path) -> None:
    told = netstack("status", NETSTACK_RUN_DIR=str(short_path))
    assert (told.returncode, told.stdout) == (4, "")
    assert "no instance runs in" in told.stderr


def test_recover_removes_what_was_left(short_path: Path) -> None:
    (short_path / "dead").mkdir()
    (short_path / "dead.lock").write_text('{"pid":4711,"command":"exec"}')
    told = netstack("recover", NETSTACK_RUN_DIR=str(short_path))
    assert (told.returncode, told.stdout) == (0, "removed instance dead of process 4711\n")
    told = netstack("recover", "--json", NETSTACK_RUN_DIR=str(short_path))
    assert json.loads(told.stdout) == {"removed": []}
    assert told.stderr == "netstack: nothing was left behind\n"


@pytest.mark.parametrize(
    ("user", "euid", "stages"),
    [
        pytest.param(None, 0, Stages(("tracker", "tun_io"), 65532, 65532), id="root becomes nonroot"),
        pytest.param(None, 1000, Stages(("tracker", "tun_io"), None, None), id="a user stays"),
        pytest.param("33", 0, Stages(("tracker", "tun_io"), 33, 33), id="a uid is its own gid"),
        pytest.param("33:34", 0, Stages(("tracker", "tun_io"), 33, 34), id="uid and gid"),
    ],
)
def test_whom_single_stages_run_as(user: str | None, euid: int, stages: Stages) -> None:
    assert parse_stages(["tun_io", "tracker", "tun_io"], user, euid) == stages


@pytest.mark.parametrize("user", ["root", "1:", "-1", "1:2:3", ""])
def test_a_user_that_is_no_number_is_refused(user: str) -> None:
    with pytest.raises(UsageError, match="--user"):
        parse_stages(["tun_io"], user, 0)


def test_a_key_is_made_once_and_its_public_half_shown_each_time(tmp_path: Path) -> None:
    path = tmp_path / "links.key"
    first = netstack("keys", str(path))
    assert first.returncode == 0
    assert path.stat().st_mode & 0o777 == 0o600
    assert len(bytes.fromhex(first.stdout.strip())) == 32
    again = netstack("keys", "--json", str(path))
    assert json.loads(again.stdout) == {"public": first.stdout.strip()}
    secret = path.read_text().split('"')[1]
    assert secret not in first.stdout + first.stderr + again.stdout + again.stderr


def test_a_key_that_others_can_read_or_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "links.key"
    netstack("keys", str(path))
    path.chmod(0o644)
    refused = netstack("keys", str(path))
    assert (refused.returncode, refused.stdout) == (2, "")
    assert f"chmod 600 {path}" in refused.stderr
    nowhere = netstack("keys", str(tmp_path / "nowhere" / "key"))
    assert nowhere.returncode == 1
    assert "No such file or directory" in nowhere.stderr


def test_check_shows_where_the_secret_key_is_and_not_what_it_is(tmp_path: Path) -> None:
    path = tmp_path / "links.key"
    public = netstack("keys", str(path)).stdout.strip()
    shown = netstack(
        "check", "-s", "links.connect=tcp://198.18.7.1:5700", "-s", f"links.key_file={path}", "-s",
        f"links.server_key={public}",
    )  # fmt: skip
    assert shown.returncode == 0
    assert f'key_file = "{path}"' in shown.stdout
    assert path.read_text().split('"')[1] not in shown.stdout + shown.stderr
