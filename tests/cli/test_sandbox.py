"""A command in a sandbox: what it sees, what it returns, and that nothing is left of it."""

import asyncio
import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import sysconfig
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from netstack.cli.identity import caller
from netstack.cli.sandbox import Sandbox, SandboxError
from netstack.runtime.config import Config, Tun

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
SIGNAL_SETS = ("SigBlk", "SigIgn", "SigCgt")
USER = 54321  # a uid and gid without an account


@dataclass(frozen=True)
class Way:
    """How the driver is started."""

    python: str
    root: str  # where the checkout is seen
    site_packages: str
    prefix: tuple[str, ...] = ()

    def started_by(self, *prefix: str) -> "Way":
        return replace(self, prefix=prefix)

    def driver(self) -> list[str]:
        return [*self.prefix, self.python, "-X", "dev", f"{self.root}/tests/cli/sandbox_driver.py"]


def as_user(mode: int) -> Way:
    """A user, with a /dev/net/tun of this mode whatever the machine's is, who can read what we run even where it is
    below root's home directory."""
    binds = {sys.base_prefix: "python", str(ROOT): "root", sysconfig.get_path("purelib"): "site-packages"}
    script = " && ".join(
        [
            "mount -t tmpfs -o mode=755 tmpfs /mnt",
            *(f"mkdir /mnt/{name} && mount --bind '{path}' /mnt/{name}" for path, name in binds.items()),
            f"mknod -m {mode:o} /mnt/tun c 10 200",
            "mount --bind /mnt/tun /dev/net/tun",
            # A Python that is linked to a library of its own knows it by its usual path.
            f'export LD_LIBRARY_PATH=/mnt/python/lib && exec setpriv --reuid={USER} --regid={USER} --clear-groups "$@"',
        ]
    )
    python = "/mnt/python/bin/python{}.{}".format(*sys.version_info)
    return Way(python, "/mnt/root", "/mnt/site-packages", ("unshare", "--mount", "sh", "-c", script, "-"))


AS_ROOT = Way(sys.executable, str(ROOT), sysconfig.get_path("purelib"))
AS_USER = as_user(0o666)


class Mark:
    """An environment variable by which processes are found again."""

    def __init__(self) -> None:
        self.environment = {**os.environ, "NETSTACK_TEST_MARK": uuid.uuid4().hex}

    def processes(self) -> dict[int, str]:
        wanted = f"NETSTACK_TEST_MARK={self.environment['NETSTACK_TEST_MARK']}".encode()
        found = {}
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if wanted in (path / "environ").read_bytes().split(b"\0"):
                    found[int(path.name)] = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        return found

    def all_gone(self, patience: float = 3.0) -> bool:
        return until(lambda: not self.processes(), patience)


def until(condition: Callable[[], bool], patience: float) -> bool:
    """Whether it becomes true within so many seconds."""
    end = time.monotonic() + patience
    while not condition():
        if time.monotonic() > end:
            return False
        select.select([], [], [], 0.01)
    return True


def mounted() -> list[str]:
    """What is mounted on this machine, but for the network namespaces that tests beside these give names to."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [line for line in lines if "/run/netns" not in line]


@pytest.fixture
def mark() -> Iterator[Mark]:
    mounts = mounted()
    resolv_conf = Path("/etc/resolv.conf").read_bytes()
    made = Mark()
    yield made
    assert made.all_gone(), made.processes()
    assert mounted() == mounts
    assert Path("/etc/resolv.conf").read_bytes() == resolv_conf
    assert not Path("/sys/class/net/tun0").exists()


@pytest.fixture(params=[AS_ROOT, AS_USER], ids=["as root", "as a user"])
def way(request: pytest.FixtureRequest) -> Way:
    assert isinstance(request.param, Way)
    return request.param


def drive(mark: Mark, *command: str, way: Way = AS_ROOT, **more: str) -> subprocess.CompletedProcess[str]:
    with started(mark, *command, way=way, **more) as driver:
        stdout, stderr = driver.communicate(timeout=20)
    return subprocess.CompletedProcess(command, driver.returncode, stdout, stderr)


@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        (["true"], 0, ""),
        (["false"], 1, ""),
        (["sh", "-c", "exit 42"], 42, ""),
        (["sh", "-c", "kill -INT $$"], 130, ""),
        (["sh", "-c", "kill -KILL $$"], 137, ""),
        (["no-such-command"], 127, "netstack: no-such-command: command not found\n"),
        (["/no/such/file"], 127, "netstack: /no/such/file: no such file\n"),
        ([""], 127, "netstack: : command not found\n"),
        (["/etc/passwd"], 126, "netstack: /etc/passwd: Permission denied\n"),
        (["/etc"], 126, "netstack: /etc: Permission denied\n"),
        (["sh", "-c", "(sleep 60 & setsid sleep 60 &) ; exit 3"], 3, ""),
    ],
    ids=[
        "success", "failure", "any code", "killed by SIGINT", "killed by SIGKILL", "not found", "no such file",
        "no name", "not executable", "a directory", "daemons it leaves do not keep it",
    ],
)  # fmt: skip
def test_the_exit_code_is_the_commands(mark: Mark, way: Way, command: list[str], code: int, said: str) -> None:
    done = drive(mark, *command, way=way)
    assert (done.returncode, done.stdout, done.stderr) == (code, "", said)
    assert mark.all_gone(0.0), mark.processes()


def test_a_script_without_an_interpreter_line_runs_as_from_a_shell(mark: Mark, tmp_path: Path) -> None:
    plain, broken = tmp_path / "plain", tmp_path / "broken"
    plain.write_text("echo $1; exit 5\n")
    broken.write_text("#!/no/such/interpreter\n")
    plain.chmod(0o755)
    broken.chmod(0o755)
    done = drive(mark, "plain", "word", PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert (done.returncode, done.stdout) == (5, "word\n")
    done = drive(mark, str(broken))
    assert done.returncode == 126
    assert "interpreter" in done.stderr


def test_the_only_way_out_is_the_tun(mark: Mark, way: Way) -> None:
    done = drive(mark, "sh", "-c", "ip -o link; ip -4 route; ip -6 route; cat /etc/resolv.conf", way=way)
    assert [line.split(": ")[1] for line in done.stdout.splitlines() if "mtu" in line] == ["lo", "tun0"]
    assert "qlen 1000" in done.stdout
    assert done.stdout.count("default dev tun0") == 2
    assert "nameserver 10.0.0.1\n" in done.stdout


def test_the_command_is_the_caller_and_cannot_undo_its_capture(mark: Mark, way: Way) -> None:
    script = (
        "id -u; grep -h Cap /proc/self/status; ls /proc/self/fd | wc -l; "
        "for try in 'ip link set tun0 down' 'umount /etc/resolv.conf' 'nsenter -t 1 -n true' 'ip netns add x'; "
        "do $try 2>/dev/null && echo could $try; done; echo done"
    )
    done = drive(mark, "sh", "-c", script, way=way)
    uid, *status, descriptors, last = done.stdout.splitlines()
    assert uid == (str(USER) if way is AS_USER else "0")
    for line in status:
        assert int(line.split()[1], 16) & (1 << 12 | 1 << 16 | 1 << 21) == 0, line
    assert descriptors == "4"  # 0, 1, 2, and the directory itself
    assert last == "done"


def test_under_sudo_it_is_the_invoking_user(mark: Mark) -> None:
    done = drive(mark, "sh", "-c", "id -u; id -g; id -G; grep CapEff /proc/self/status; echo $HOME", SUDO_UID="65534",
                 SUDO_GID="65534", HOME="/root")  # fmt: skip
    uid, gid, groups, capabilities, home = done.stdout.splitlines()
    assert (uid, gid, groups) == ("65534", "65534", "65534")
    assert int(capabilities.split()[1], 16) == 0
    assert home != "/root"


def test_ping_sockets_may_be_opened(mark: Mark, way: Way) -> None:
    program = "import socket; [socket.socket(f, socket.SOCK_DGRAM, p) for f, p in ((2, 1), (10, 58))]"
    assert drive(mark, way.python, "-c", program, way=way).returncode == 0


def test_it_sees_its_own_processes_only_and_no_resolver_of_the_host(mark: Mark, tmp_path: Path) -> None:
    (tmp_path / "socket").write_text("")
    done = drive(mark, "--hide", str(tmp_path), "sh", "-c", f"ls -d /proc/[0-9]* | wc -l; ls -A {tmp_path}")
    assert int(done.stdout.splitlines()[0]) <= 4
    assert "socket" not in done.stdout


def test_signal_dispositions_and_mask_are_as_from_a_shell(mark: Mark) -> None:
    done = drive(mark, "cat", "/proc/self/status")
    assert [_signals(line) for line in done.stdout.splitlines() if line[:6] in SIGNAL_SETS] == [0, 0, 0]
    done = drive(mark, "grep", "-h", "^SigIgn", "/proc/self/status", way=AS_ROOT.started_by("nohup"))
    assert _signals(done.stdout) == 1 << signal.SIGHUP - 1


def _signals(line: str) -> int:
    """A set of signals in /proc, without 32 and 33: they are glibc's own, and what make starts has them ignored."""
    return int(line.split()[1], 16) & ~(0b11 << 31)


def test_signals_are_passed_on(mark: Mark, way: Way) -> None:
    script = "trap 'echo usr1' USR1; trap 'echo term; exit 9' TERM; echo ready; while :; do sleep 60 & wait; done"
    with started(mark, "sh", "-c", script, way=way) as driver:
        assert line_of(driver) == "ready"
        os.kill(driver.pid, signal.SIGUSR1)  # what starts the driver has become it
        assert line_of(driver) == "usr1"
        os.kill(driver.pid, signal.SIGTERM)
        assert line_of(driver) == "term"
        assert driver.wait(5) == 9


@pytest.mark.parametrize("after", [0.0, 0.03, 0.06, 0.1, 0.14, 0.18, 0.22, 0.3, 0.5])
def test_a_killed_supervisor_takes_everything_along(mark: Mark, way: Way, after: float) -> None:
    with started(mark, "sh", "-c", "setsid sleep 60 & (trap '' HUP; sleep 60) & sleep 60", way=way) as driver:
        select.select([], [], [], after)
        driver.kill()
        driver.wait()
    assert mark.all_gone(), mark.processes()


def test_a_killed_monitor_or_init_ends_the_command(mark: Mark) -> None:
    for victim in (1, 2):  # in the order of their start: supervisor, monitor, init
        with started(mark, "sh", "-c", "echo ready; sleep 60; true") as driver:
            assert line_of(driver) == "ready"
            os.kill(sorted(mark.processes())[victim], signal.SIGKILL)
            assert driver.wait(5) == 137
        assert mark.all_gone(), mark.processes()


def test_orphans_are_reaped(mark: Mark) -> None:
    script = "for i in 1 2 3 4 5; do sh -c 'sleep 0.05 &'; done; sleep 0.3; cat /proc/[0-9]*/stat"
    assert " Z " not in drive(mark, "sh", "-c", script).stdout


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["tun.dns=10.0.0.2"], "is one of tun.addresses"),
        (["tun.name=lo"], "choose another with tun.name"),
    ],
    ids=["a resolver that is the namespace itself", "a device that is there"],
)
def test_a_sandbox_that_cannot_be_made_says_why(mark: Mark, settings: list[str], said: str) -> None:
    done = drive(mark, "true", SETTINGS=json.dumps(settings))
    assert done.returncode == 1
    assert said in done.stderr


def test_without_resolv_conf_the_remedy_is_said(mark: Mark) -> None:
    hide = 'mount -t tmpfs tmpfs /etc && exec "$@"'
    done = drive(mark, "true", way=AS_ROOT.started_by("unshare", "--mount", "sh", "-c", hide, "-"))
    assert done.returncode == 1
    assert "sudo touch /etc/resolv.conf" in done.stderr


def test_a_resolv_conf_below_a_masked_directory_is_ours_too(mark: Mark) -> None:
    lay = (
        "mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/resolve && touch /run/systemd/resolve/socket && "
        "echo nameserver 127.0.0.53 > /run/systemd/resolve/stub-resolv.conf && mount -t tmpfs tmpfs /etc && "
        'ln -s ../run/systemd/resolve/stub-resolv.conf /etc/resolv.conf && exec "$@"'
    )
    way = AS_ROOT.started_by("unshare", "--mount", "sh", "-c", lay, "-")
    done = drive(mark, "sh", "-c", "cat /etc/resolv.conf; ls /run/systemd/resolve", way=way)
    assert "nameserver 10.0.0.1\n" in done.stdout
    assert done.stdout.splitlines()[-1] == "stub-resolv.conf"


def test_the_device_that_may_not_be_opened_is_named(mark: Mark) -> None:
    done = drive(mark, "true", way=as_user(0o600))
    assert done.returncode == 1
    assert "chmod 0666 /dev/net/tun" in done.stderr


def test_the_tun_is_quiet_and_carries_the_commands_packets() -> None:
    async def run() -> list[bytes]:
        tun, *spare = await sandbox.tun()
        try:
            assert os.get_blocking(tun) is False
            assert os.get_inheritable(tun) is False
            program = "import socket; s = socket.socket(2, 2); s.sendto(b'ping', ('198.18.0.1', 9))"
            sandbox.start(["sh", "-c", f'sleep 0.5; {sys.executable} -c "{program}"'], os.environ)
            assert await sandbox.wait() == 0
            return list(packets(tun))
        finally:
            for descriptor in (tun, *spare):
                os.close(descriptor)

    device = Tun(name="sbx0", addresses=["10.9.0.2/24", "fd00:9::2/64"], dns="10.9.0.1")
    sandbox = Sandbox.create(Config(tun=device), caller())
    try:
        (only,) = asyncio.run(run())
    finally:
        sandbox.close()
    assert only[10:].startswith(b"\x45")  # behind the vnet header: IPv4 without options
    assert only.endswith(b"ping")


def test_a_sandbox_closed_before_its_time_is_gone() -> None:
    for _ in range(3):
        sandbox = Sandbox.create(Config(), caller())
        sandbox.close()
        sandbox.close()
        with pytest.raises(SandboxError, match="killed"):
            asyncio.run(sandbox.tun())


def test_closing_wakes_whoever_waits() -> None:
    async def run() -> int:
        for descriptor in await sandbox.tun():
            os.close(descriptor)
        sandbox.start(["sleep", "60"], os.environ)
        waiting = asyncio.create_task(sandbox.wait())
        await asyncio.sleep(0)
        sandbox.close()
        return await waiting

    sandbox = Sandbox.create(Config(), caller())
    assert asyncio.run(run()) == 137


def test_an_environment_larger_than_a_message_arrives(mark: Mark) -> None:
    large = {f"LARGE_{index}": "x" * 100_000 for index in range(8)}
    done = drive(mark, "sh", "-c", "env | grep -c ^LARGE_", **large)
    assert done.stdout == "8\n"


def packets(tun: int) -> Iterator[bytes]:
    while True:
        try:
            yield os.read(tun, 70_000)
        except BlockingIOError:
            return


@contextlib.contextmanager
def started(mark: Mark, *command: str, way: Way = AS_ROOT, **more: str) -> Iterator["subprocess.Popen[str]"]:
    environment = {**mark.environment, "PYTHONPATH": f"{way.root}:{way.site_packages}", **more}
    driver = subprocess.Popen(
        [*way.driver(), *command], cwd="/", env=environment, text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    with driver:
        try:
            yield driver
        finally:
            driver.kill()


def line_of(driver: "subprocess.Popen[str]") -> str:
    assert driver.stdout
    return driver.stdout.readline().rstrip("\n")
