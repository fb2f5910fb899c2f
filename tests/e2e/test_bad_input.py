"""A configuration that cannot be used: exit 2, the key and the place are named, nothing was started."""

from pathlib import Path

import pytest

from tests.internet import Internet
from tests.internet.world import NETSTACK

CASES = {
    "an unknown key": ("[tun]\n\ncolour = 'red'\n", "tun.colour", 3),
    "an unknown section": ("[nonsense]\nx = 1\n", "nonsense", 1),
    "a wrong type": ("[tun]\nmtu = 'large'\n", "tun.mtu", 2),
    "port 70000": ("\n\n[quic]\nports = [443, 70000]\n", "quic.ports", 4),
    "a TTL of -1": ("[whitelist]\nttl = -1\n", "whitelist.ttl", 2),
    "an upstream that is no URL": ("[dns]\nupstreams = ['not a url']\n", "dns.upstreams", 2),
    "a prefix with host bits": ("[allow]\nnetworks = ['198.18.1.5/24']\n", "allow.networks", 2),
    "no TOML": ("[dns\n", "", 1),
}


@pytest.mark.parametrize(("text", "key", "line"), CASES.values(), ids=CASES)
def test_file_is_refused(internet: Internet, folder: Path, text: str, key: str, line: int) -> None:
    file, marker = folder / "netstack.toml", folder / "started"
    file.write_text(text)
    done = internet.host_run([NETSTACK, "exec", "-c", file, "--", "touch", marker])
    assert done.code == 2, done
    assert key in done.messages, done
    assert f"{file}:{line}" in done.messages or f"line {line}" in done.messages, done
    assert file.name in done.messages, done
    assert not marker.exists()
    assert internet.netstack(["check", "-c", file]).code == 2


@pytest.mark.parametrize(
    ("setting", "key"),
    [("tun.colour=red", "tun.colour"), ("tun.mtu=large", "tun.mtu"), ("whitelist.ttl=-1", "whitelist.ttl")],
)
def test_setting_is_refused(internet: Internet, folder: Path, setting: str, key: str) -> None:
    marker = folder / "started"
    done = internet.netstack_exec(["touch", marker], options=["-s", setting])
    assert done.code == 2, done
    assert key in done.messages
    assert not marker.exists()


def test_setting_of_the_environment_is_refused(internet: Internet) -> None:
    done = internet.netstack_exec(["true"], environment={"NETSTACK_TUN__MTU": "large"})
    assert done.code == 2, done
    assert "NETSTACK_TUN__MTU" in done.messages


def test_no_command_is_a_usage_error(internet: Internet) -> None:
    assert internet.netstack(["exec"]).code == 2


def test_good_configuration_is_shown(internet: Internet) -> None:
    done = internet.netstack(["check", "-s", "tun.mtu=1400"]).ok()
    assert "1400" in done.text
