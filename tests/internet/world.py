"""The small internet itself: two machines, the link between them, the servers, and running things in it."""

import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self

from tests.internet import files, zones
from tests.internet.capture import Capture
from tests.internet.machine import Finished, Machine, Running, wait_until
from tests.internet.sandbox import Sandbox, find_process

GIBIBYTE = 1 << 30
NETSTACK = Path(sys.executable).parent / "netstack"
UPSTREAM = f"udp://{zones.DNS}:53"
PROGRAMS = (
    "unshare", "nsenter", "setpriv", "ip", "nft", "ss", "sysctl", "ps",
    "unbound", "nginx", "iperf3", "openssl", "redis-server", "tcpdump", "curl", "dig", "ping",
    "traceroute", "mtr", "tracepath", "nc", "ntpdig", "sipp", "tftp", "in.tftpd", "turnserver", "wireguard-go", "wg",
    "kdig", "drill", "dnsdist", "hey", "musl-gcc",
)  # fmt: skip

CHECKOUT = Path(__file__).parents[2]

# A machine has its own /run, /tmp and /var/cache, so that whatever is left there was left by what ran in it; its
# resolv.conf leads nowhere, so that a query that escapes fails; and /dev/net/tun is open to everybody, as on most
# distributions. The checkout stays where it is, even below /tmp.
_HOST = f"""
exec 9< '{CHECKOUT}'
resolv=$(readlink -f /etc/resolv.conf)
mount -t tmpfs -o mode=755 tmpfs /run
mount -t tmpfs -o mode=1777 tmpfs /tmp
mount -t tmpfs -o mode=755 tmpfs /var/cache
[ -e '{CHECKOUT}' ] || {{ mkdir -p '{CHECKOUT}' && mount --no-canonicalize --bind /proc/self/fd/9 '{CHECKOUT}'; }}
exec 9<&-
echo 'nameserver 192.0.2.1' > /run/resolv.conf
mkdir -p "$(dirname "$resolv")"
[ -e "$resolv" ] || touch "$resolv"
mount --bind /run/resolv.conf "$resolv"
mkdir -p /dev/net
mount -t tmpfs -o mode=755 tmpfs /dev/net
mknod -m 666 /dev/net/tun c 10 200
sysctl -qw net.ipv4.ping_group_range='0 2147483647'
"""

# The errors come from a firewall, since those of unreachable routes are limited to one a second.
_NET = f"""
mount -t tmpfs -o mode=755 tmpfs /run
sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 net.core.somaxconn=8192
sysctl -qw net.ipv6.ip_nonlocal_bind=1 net.ipv4.icmp_ratelimit=0 net.ipv6.icmp.ratelimit=0
sysctl -qw net.ipv4.conf.all.send_redirects=0 net.ipv4.conf.default.send_redirects=0
nft -f - <<'END'
table ip errors {{
    chain forward {{
        type filter hook forward priority 0;
        ip daddr {zones.UNREACHABLE_V4} reject with icmp type host-unreachable
        ip daddr {zones.PROHIBITED_V4} reject with icmp type admin-prohibited
        ip daddr {zones.NOWHERE_V4} reject with icmp type net-unreachable
        ip daddr 198.18.10.1 reject with icmp type host-unreachable
        ip daddr 198.18.10.3 reject with icmp type port-unreachable
        ip daddr 198.18.10.9 reject with icmp type net-prohibited
        ip daddr 198.18.10.10 reject with icmp type host-prohibited
        ip daddr 198.18.10.13 reject with icmp type admin-prohibited
    }}
}}
table ip6 errors {{
    chain forward {{
        type filter hook forward priority 0;
        ip6 daddr 2001:2:0:10::1 reject with icmpv6 type admin-prohibited
        ip6 daddr 2001:2:0:10::3 reject with icmpv6 type addr-unreachable
        ip6 daddr 2001:2:0:10::4 reject with icmpv6 type port-unreachable
        ip6 daddr 2001:2:0:10::5 reject with icmpv6 type policy-fail
        ip6 daddr 2001:2:0:10::6 reject with icmpv6 type reject-route
    }}
}}
END
"""
# Link-local addresses that are there at once: without one the kernel cannot probe its neighbours (RFC 4861).
_ROUTES = f"""
link set wan0 addrgenmode none
address add {zones.ROUTER_V4}/24 dev wan0
address add {zones.ROUTER_V6}/64 dev wan0 nodad
address add fe80::1/64 dev wan0 nodad
link set wan0 up
route add local {zones.SERVERS_V4} dev lo
route add local {zones.MANY_V4} dev lo
route add local {zones.SERVERS_V6} dev lo
route add local {zones.MANY_V6} dev lo
route add blackhole {zones.BLACKHOLE_V4}
route add blackhole {zones.BLACKHOLE_V6}
route add unreachable {zones.UNREACHABLE_V6}
route add prohibit {zones.PROHIBITED_V6}
route add {zones.UNREACHABLE_V4} dev wan0
route add {zones.PROHIBITED_V4} dev wan0
route add {zones.NOWHERE_V4} dev wan0
route add {zones.REJECTED_V4} dev wan0
route add {zones.REJECTED_V6} dev wan0
"""
_HOST_LINK = f"""
link set out0 addrgenmode none
address add {zones.HOST_V4}/24 dev out0
address add {zones.HOST_V6}/64 dev out0 nodad
address add fe80::2/64 dev out0 nodad
link set out0 up
route add default via {zones.ROUTER_V4}
route add default via {zones.ROUTER_V6}
"""


def missing() -> list[str]:
    """What this machine lacks to hold the small internet; empty if nothing."""
    lacks = [] if os.geteuid() == 0 else ["root"]
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    lacks += [program for program in PROGRAMS if not shutil.which(program, path=path)]
    if not Path("/dev/net/tun").exists():
        lacks.append("/dev/net/tun")
    return lacks


class Internet:
    """Two machines, `host` (the user's) and `net` (everything else), and the servers in the latter."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._captures = 0
        self._sandboxes = 0

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.directory = Path(_fresh_directory())
            stack.callback(shutil.rmtree, self.directory, ignore_errors=True)
            self.host = stack.enter_context(Machine("host", _HOST + _opened(Path(sys.base_prefix), CHECKOUT)))
            self.net = stack.enter_context(Machine("net", _NET))
            self._connect()
            self._serve()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    # --- running things in it

    def host_run(self, command: Sequence[str | Path], **options: Any) -> Finished:
        """Run a program on the user's machine, outside of Netstack."""
        return self.host.run(command, **options)

    def netstack(self, arguments: Sequence[str | Path], **options: Any) -> Finished:
        """Run a netstack command on the user's machine."""
        return self.host.run([NETSTACK, *arguments], **options)

    def exec_command(
        self, command: Sequence[str | Path], settings: Mapping[str, str] | None = None, *, options: Sequence[str] = ()
    ) -> list[str | Path]:
        """The words of `netstack exec ... -- command`, with our resolver; settings are dotted keys and TOML values."""
        keys = {"dns.upstreams": f'["{UPSTREAM}"]', **(settings or {})}
        words = [word for key, value in keys.items() for word in ("-s", f"{key}={value}")]
        return [NETSTACK, "exec", *options, *words, "--", *command]

    def netstack_exec(
        self, command: Sequence[str | Path], settings: Mapping[str, str] | None = None, *, options: Sequence[str] = (),
        timeout: float = 20, stdin: bytes | None = None, environment: Mapping[str, str] | None = None,
    ) -> Finished:  # fmt: skip
        """Run a program under `netstack exec` on the user's machine, to its end."""
        words = self.exec_command(command, settings, options=options)
        return self.host.run(words, timeout=timeout, stdin=stdin, environment=environment)

    @contextmanager
    def netstack_exec_running(
        self, command: Sequence[str | Path], settings: Mapping[str, str] | None = None, *, options: Sequence[str] = (),
        stdin: Any = subprocess.DEVNULL,
    ) -> Iterator[Running]:  # fmt: skip
        """The same, while something else is done; what still runs is ended with SIGTERM, then SIGKILL."""
        running = self.host.start(self.exec_command(command, settings, options=options), stdin=stdin)
        try:
            yield running
        finally:
            running.stop(signal.SIGTERM)

    @contextmanager
    def sandbox(self, settings: Mapping[str, str] | None = None) -> Iterator[Sandbox]:
        """A captured network that stays, with an instance directory of its own, to run several programs in."""
        self._sandboxes += 1
        run_dir = f"/run/n{self._sandboxes}"
        # An odd number of seconds, by which it is found again.
        command = ["sleep", f"8640{self._sandboxes}.{os.getpid()}"]
        running = self.host.start(self.exec_command(command, settings, options=["--run-dir", run_dir]))
        try:
            wait_until(lambda: running.ended or find_process(command), 15, "the captured command runs")
            if running.ended:
                raise AssertionError(f"netstack exec ended: {running.wait(1)}")
            yield Sandbox(self.host, running, find_process(command), NETSTACK, run_dir)
        finally:
            running.stop(signal.SIGTERM)

    @contextmanager
    def capture(self, *filters: str) -> Iterator[Capture]:
        """See everything that passes the link between the user's machine and the rest of the world."""
        self._captures += 1
        path = self.directory / f"{self._captures}.pcap"
        options = ["-i", "wan0", "-n", "-U", "--immediate-mode", "-s", "128", "-Z", "root", "-w", str(path)]
        running = self.net.start(["tcpdump", *options, *filters])
        capture = Capture(running, path)
        try:
            capture.wait_ready()
            yield capture
        finally:
            running.stop(signal.SIGINT)

    @contextmanager
    def redis(self) -> Iterator[Path]:
        """A Redis of the user's machine, that stores nothing on disk; the path of its socket."""
        with self.folder() as folder:
            path = folder / "redis.sock"
            running = self.start_redis(path)
            try:
                yield path
            finally:
                running.stop()

    def start_redis(self, path: Path) -> Running:
        """Start a Redis that listens on that socket, and wait until it does."""
        # Its clients are not root: the pipeline's processes have given that up.
        where = ["--unixsocket", str(path), "--unixsocketperm", "777", "--port", "0", "--dir", str(path.parent)]
        options = [*where, "--save", "", "--appendonly", "no"]
        running = self.host.start(["redis-server", *options], stdout=subprocess.DEVNULL)
        wait_until(lambda: self.host_run(["redis-cli", "-s", path, "ping"]).text == "PONG\n", 5, "Redis answers")
        return running

    # --- what is served

    def file(self, name: str, octets: int) -> tuple[str, str]:
        """The URL's path of a file of that size, and its SHA-256."""
        return self._file(name, octets)

    def parts(self) -> list[str]:
        """The SHA-256 of /part/000 to /part/199: 200 files of different sizes and contents, 128 KiB on average."""
        return [self._file(f"part/{index:03}", 65536 + index * 661, start=index)[1] for index in range(zones.MANY)]

    def uploaded(self, name: str) -> Path:
        """Where a PUT to /upload/name has put it."""
        return self.directory / "upload" / name

    def _file(self, name: str, octets: int, start: int = 0) -> tuple[str, str]:
        path = self.directory / "files" / name
        known = self._sums.get(name)
        if known is None:
            path.parent.mkdir(exist_ok=True)
            known = self._sums[name] = files.make_file(path, octets, start)
        return f"/{name}", known

    @contextmanager
    def folder(self) -> Iterator[Path]:
        """A folder that all machines see, unlike those below /tmp, and that everybody may write to."""
        path = Path(tempfile.mkdtemp(prefix="folder-", dir=self.directory))
        path.chmod(0o777)
        yield path
        shutil.rmtree(path)

    # --- how it is made

    def _connect(self) -> None:
        _ip(self.net, f"link add wan0 type veth peer name out0 netns {self.host.target}\n{_ROUTES}")
        _ip(self.host, _HOST_LINK)

    def _serve(self) -> None:
        directory = self.directory
        self._sums: dict[str, str] = {}
        for name in ("files", "upload", "nginx-tmp"):
            (directory / name).mkdir(mode=0o777)
        (directory / "files" / "hello").write_text("hello from the small internet\n")
        (directory / "test.zone").write_text(zones.zone_file())
        (directory / "unbound.conf").write_text(zones.unbound_conf(str(directory)))
        (directory / "nginx.conf").write_text(zones.nginx_conf(str(directory)))
        self.ca = files.make_certificates(directory, (zones.ROUTER_V4, zones.WWW_V4, zones.ENCRYPTED_DNS_V4))
        servers: tuple[list[str | Path], ...] = (
            ["unbound", "-d", "-c", directory / "unbound.conf"],
            ["nginx", "-c", directory / "nginx.conf", "-p", directory],
            ["iperf3", "-s", "-p", str(zones.IPERF_PORT)],
        )
        with (directory / "servers.log").open("wb") as log:
            for server in servers:
                self.net.start(server, stdout=log, stderr=log)
            python = self.net.start([sys.executable, "-m", "tests.internet.servers"], stderr=log)
        if python.stdout.readline() != b"up\n":
            raise RuntimeError(f"the servers did not start:\n{(directory / 'servers.log').read_text()}")
        wait_until(self._listening, 10, f"unbound and nginx listen; see {directory}")

    def _listening(self) -> bool:
        listening = self.net.run(["ss", "-Hlnt"]).text
        wanted = (f"{zones.ROUTER_V4}:53 ", f":{zones.DOH_PORT} ", "*:80 ", ":443 ", f":{zones.IPERF_PORT} ")
        return all(word in listening.replace("0.0.0.0:80 ", "*:80 ") for word in wanted)


def _opened(*needed: Path) -> str:
    """A prelude by which every user can reach these folders, also if they are in root's home."""
    closed = {parent for path in needed for parent in path.parents if not parent.stat().st_mode & stat.S_IXOTH}
    lines = []
    for parent in closed:
        inside = [path for path in needed if parent in path.parents]
        lines += [f"mkdir /run/{number}; mount --bind {path} /run/{number}" for number, path in enumerate(inside)]
        lines += [f"mount -t tmpfs -o mode=755 tmpfs {parent}"]
        lines += [f"mkdir -p {path}; mount --move /run/{number} {path}" for number, path in enumerate(inside)]
        lines += [f"rmdir /run/{number}" for number in range(len(inside))]
    return "\n".join(lines)


def _fresh_directory() -> Path:
    """For what is served; those of runs that were killed are removed, since a gibibyte of memory may be in each."""
    parent = files.room(4 * GIBIBYTE) or Path(tempfile.gettempdir())
    for old in parent.glob("internet-*-*"):
        if not Path("/proc", old.name.split("-")[1]).exists():
            shutil.rmtree(old, ignore_errors=True)
    directory = Path(tempfile.mkdtemp(prefix=f"internet-{os.getpid()}-", dir=parent))
    directory.chmod(0o755)
    return directory


def _ip(machine: Machine, lines: str) -> None:
    # From outside of the machines' PID namespaces, so that each can be named by its init.
    command = ["nsenter", f"--target={machine.target}", "--net", "ip", "-batch", "-"]
    done = subprocess.run(command, input=lines.strip(), text=True, capture_output=True, timeout=10, check=False)
    if done.returncode:
        raise RuntimeError(f"ip -batch: {done.stderr}")
