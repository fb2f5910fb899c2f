"""Named namespaces: what is made, what is joined, and that nothing but that is removed."""

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from netstack.cli.named import FILES, NAMES, NamedNamespace, plan, recover
from netstack.cli.sandbox_messages import SandboxError
from netstack.runtime.config import Capture, Config, Tun

ROOT = Path(__file__).parents[2]


def made(name: str) -> Config:
    return Config(capture=Capture(kind="netns", name=name))


def joined(name: str, device: str = "tun0") -> Config:
    return Config(capture=Capture(kind="name", name=name), tun=Tun(name=device))


def ip(name: str, *arguments: str) -> str:
    return subprocess.run(["ip", "-n", name, *arguments], check=True, capture_output=True, text=True).stdout


def host() -> tuple[list[str], set[Path]]:
    """What a leftover would show in."""
    mounts = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if "sandbox-" in line]
    return mounts, {path for directory in (NAMES, FILES) for path in directory.glob("sandbox-*")}


@pytest.fixture
def name() -> Iterator[str]:
    chosen = f"sandbox-{uuid.uuid4().hex[:8]}"
    yield chosen
    assert not (NAMES / chosen).exists()
    assert not (FILES / chosen).exists()


def test_joining_makes_nothing_that_outlives_it() -> None:
    assert plan(joined("/proc/self/ns/net")) == []


@pytest.mark.parametrize("bad", ["a/b", "..", ""])
def test_a_name_that_is_none_is_refused(bad: str) -> None:
    with pytest.raises(SandboxError, match=r"capture\.name"):
        plan(made(bad))


def test_recover_of_nothing_and_of_unknown_lines_removes_nothing(tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("")
    assert recover([]) == []
    assert recover(["", f"unknown {tmp_path}", f"directory {tmp_path}", f"resolv.conf {tmp_path / 'kept'} token"]) == []
    assert (tmp_path / "kept").exists()


@pytest.mark.e2e
def test_a_namespace_is_made_and_removed(name: str) -> None:
    before = host()
    namespace = NamedNamespace.open(made(name))
    try:
        assert "default dev tun0" in ip(name, "route")
        assert "default dev tun0" in ip(name, "-6", "route")
        seen = subprocess.run(
            ["ip", "netns", "exec", name, "cat", "/etc/resolv.conf"], check=True, capture_output=True, text=True
        )
        assert "nameserver 10.0.0.1" in seen.stdout
        with pytest.raises(SandboxError, match="already a network namespace"):
            NamedNamespace.open(made(name))
        assert (NAMES / name).exists()
    finally:
        namespace.close()
        namespace.close()
    assert host() == before


@pytest.mark.e2e
def test_an_administrators_own_resolv_conf_is_kept_and_mentioned(name: str) -> None:
    own = FILES / name / "resolv.conf"
    own.parent.mkdir(parents=True)
    own.write_text("nameserver 10.0.0.1\n")
    try:
        namespace = NamedNamespace.open(made(name))
        namespace.close()
        assert own.read_text() == "nameserver 10.0.0.1\n"
        assert any(str(own) in warning for warning in namespace.warnings)
    finally:
        own.unlink()
        own.parent.rmdir()
        if not any(FILES.iterdir()):
            FILES.rmdir()


@pytest.mark.e2e
def test_recover_removes_what_a_killed_instance_left_and_only_that(name: str) -> None:
    before = host()
    manifest = plan(made(name))
    program = (
        "import json, os, signal, sys\n"
        "from netstack.cli.named import NamedNamespace\n"
        "from netstack.runtime.config import Capture, Config\n"
        f"NamedNamespace.open(Config(capture=Capture(kind='netns', name={name!r})), json.loads(sys.argv[1]))\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    killed = subprocess.run(
        [sys.executable, "-c", program, json.dumps(manifest)], check=False, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert killed.returncode == -9
    assert (NAMES / name).exists()

    token = next(line.rpartition(" ")[2] for line in manifest if line.startswith("netns "))
    assert recover([line.replace(token, "another") for line in manifest]) == []
    assert (NAMES / name).exists()

    removed = recover(manifest)
    assert f"netns {NAMES / name}" in removed
    assert f"resolv.conf {FILES / name / 'resolv.conf'}" in removed
    assert host() == before
    assert recover(manifest) == []


@pytest.mark.e2e
def test_a_foreign_namespace_of_the_planned_name_is_not_recovered(name: str) -> None:
    manifest = plan(made(name))
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        assert recover(manifest) == []
        with pytest.raises(SandboxError, match="already a network namespace"):
            NamedNamespace.open(made(name), manifest)
        assert (NAMES / name).exists()
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)


@pytest.mark.e2e
def test_a_joined_namespace_gets_a_tun_and_loses_nothing_else(name: str) -> None:
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        before = ip(name, "address")
        namespace = NamedNamespace.open(joined(name, "tun7"))
        assert "tun7" in ip(name, "address")
        assert "default dev tun7" in ip(name, "route")
        with pytest.raises(SandboxError, match="already has a default route, through tun7"):
            NamedNamespace.open(joined(name, "tun8"))
        with pytest.raises(SandboxError, match="already a device tun7"):
            NamedNamespace.open(joined(name, "tun7"))
        namespace.close()
        assert ip(name, "address") == before
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)


@pytest.mark.e2e
def test_a_namespace_with_a_way_out_is_refused(name: str) -> None:
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        ip(name, "link", "add", "out0", "type", "veth", "peer", "name", "out1")
        ip(name, "link", "set", "out0", "up")
        ip(name, "address", "add", "198.18.0.2/24", "dev", "out0")
        namespace = NamedNamespace.open(joined(name))
        assert any("out0" in warning for warning in namespace.warnings)
        namespace.close()
        ip(name, "route", "add", "default", "via", "198.18.0.1")
        with pytest.raises(SandboxError, match="default route, through out0"):
            NamedNamespace.open(joined(name))
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)


@pytest.mark.e2e
@pytest.mark.parametrize("target", ["sandbox-missing", "/etc/passwd"], ids=["missing", "no namespace"])
def test_what_is_no_namespace_cannot_be_joined(target: str) -> None:
    with pytest.raises(SandboxError, match="namespace"):
        NamedNamespace.open(joined(target))


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("disable_ipv6", "shown"),
    [(0, "() default dev tun0"), (1, "('no IPv6 in the captured namespace: fd00:6e73::2/64: Permission denied")],
    ids=["with IPv6", "with IPv6 disabled it has IPv4 and says so"],
)
def test_a_containers_own_namespace_takes_net_admin_alone(tmp_path: Path, disable_ipv6: int, shown: str) -> None:
    """As in a container with network none, --cap-add NET_ADMIN and a read-only /proc/sys."""
    program = tmp_path / "program.py"
    program.write_text(
        "import subprocess\n"
        "from netstack.cli.named import NamedNamespace\n"
        "from netstack.runtime.config import Capture, Config\n"
        "namespace = NamedNamespace.open(Config(capture=Capture(kind='name', name='/proc/self/ns/net')))\n"
        "print(namespace.warnings, subprocess.check_output(['ip', 'route'], text=True))\n"
        "namespace.close()\n"
    )
    script = (
        f"echo {disable_ipv6} > /proc/sys/net/ipv6/conf/default/disable_ipv6 && "
        "mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys && "
        "exec setpriv --inh-caps=-all,+net_admin --bounding-set=-all,+net_admin "
        f"{sys.executable} {program}"
    )
    run = subprocess.run(
        ["unshare", "--net", "--mount", "sh", "-c", script],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.startswith(shown)
    assert "default dev tun0" in run.stdout
