"""docker-compose.yml on a real Docker Engine, against an internet of two more containers on 198.18.5.0/24.

Needs an engine, so it is not among the tests that `make test` collects: `make test-compose` runs it, and fails where no
engine answers.
"""

import json
import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = f"netstack-test-{os.getpid()}"
WEB = "198.18.5.53"
UNNAMED = "198.18.5.99"  # serves the same, but no name leads to it
TCP_FWD = 3
UDP_FWD = 2

# Sixty connections and forty UDP sockets to what web.test leads to.
MANY_FLOWS = """
import socket
(address,) = {info[4][0] for info in socket.getaddrinfo("web.test", 80, family=socket.AF_INET)}
for _ in range(60):
    with socket.create_connection((address, 80), timeout=5) as web:
        web.sendall(b"GET / HTTP/1.0\\r\\n\\r\\n")
        assert web.makefile("rb").read().endswith(b"hello\\n")
for number in range(40):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as echo:
        echo.settimeout(5)
        echo.sendto(b"%d" % number, (address, 7))
        assert echo.recv(100) == b"%d" % number
"""

# Every process of the container: pid, uid, effective capabilities, command.
PROCESSES = """
import json, pathlib
found = []
for status in pathlib.Path("/proc").glob("[0-9]*/status"):
    try:
        fields = dict(line.split(":\\t", 1) for line in status.read_text().splitlines())
        command = (status.parent / "cmdline").read_bytes().decode().split("\\0")
    except OSError:
        continue
    found.append([int(fields["Pid"]), int(fields["Uid"].split()[1]), int(fields["CapEff"], 16), command])
print(json.dumps(found))
"""


def docker(*arguments, check=True, timeout=120):
    environment = {**os.environ, "NETSTACK_DNS__UPSTREAMS": f'["udp://{WEB}:53"]'}
    result = subprocess.run(
        ["docker", *arguments], env=environment, capture_output=True, text=True, timeout=timeout, check=False
    )
    if check and result.returncode:
        pytest.fail(f"docker {' '.join(arguments)[:300]}: {result.returncode}\n{result.stdout}\n{result.stderr}")
    return result


class Project:
    """The compose file with the internet laid over it."""

    def __init__(self, override):
        self._files = ("-p", PROJECT, "-f", str(ROOT / "docker-compose.yml"), "-f", str(override))

    def compose(self, *arguments, **options):
        return docker("compose", *self._files, *arguments, **options)

    def demo(self, *command, check=True):
        """Run the demo, or another command in its place."""
        names = ["-e", "NAME=web.test", "-e", f"ADDRESS={UNNAMED}"]
        return self.compose("run", "--rm", "-T", *names, "demo", *command, check=check, timeout=60)

    def status(self):
        return json.loads(self.compose("exec", "-T", "tracker", "netstack", "status", "--json").stdout)

    def processes(self, service, index=1):
        """Those of a container, the one that looks not among them."""
        output = self.compose("exec", "-T", f"--index={index}", service, "python", "-c", PROCESSES).stdout
        return [process for process in json.loads(output) if PROCESSES not in process[3]]


def override():
    script = (Path(__file__).parent / "internet.py").read_text().replace("$", "$$")
    serve = {
        "image": "netstack:local",
        "pull_policy": "never",
        "command": ["python", "-c", script, WEB],
        "stop_grace_period": "0s",
    }
    return {
        "services": {
            "internet": {**serve, "networks": {"default": {"ipv4_address": WEB}}},
            "unnamed": {**serve, "networks": {"default": {"ipv4_address": UNNAMED}}},
        },
        "networks": {"default": {"ipam": {"config": [{"subnet": "198.18.5.0/24"}]}}},
    }


def left_behind():
    """Containers, networks and volumes of the project."""
    label = ("--filter", f"label=com.docker.compose.project={PROJECT}", "-q")
    lists = (docker("ps", "-a", *label), docker("network", "ls", *label), docker("volume", "ls", *label))
    return [line for each in lists for line in each.stdout.split()]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    answer = docker("version", check=False, timeout=20)
    if answer.returncode:
        pytest.fail(f"this needs a Docker Engine (DOCKER_HOST={os.environ.get('DOCKER_HOST', '')}): {answer.stderr}")
    path = tmp_path_factory.mktemp("compose") / "internet.json"
    path.write_text(json.dumps(override()))
    project = Project(path)
    try:
        project.compose("build", timeout=600)
        scale = ["--scale", f"tcp_fwd={TCP_FWD}", "--scale", f"udp_fwd={UDP_FWD}"]
        project.compose("up", "-d", "--wait", "--wait-timeout", "60", *scale, timeout=120)
        yield project
    finally:
        logs = project.compose("logs", "--no-color", "--tail", "60", check=False).stdout
        print(logs)  # shown where a test failed
        project.compose("--profile", "demo", "down", "-v", "--timeout", "5", check=False)
    assert left_behind() == []


def test_the_demo_fetches_by_name_and_is_refused_an_address_that_was_no_answer(project):
    lines = project.demo().stdout.splitlines()

    assert lines[0] == "links: lo, tun0"
    assert lines[1] == "http://web.test/ resolved and fetched: 200 6 octets"
    assert lines[2].startswith(f"{UNNAMED} port 80, never an answer: Connection refused after ")


def test_the_demo_has_no_other_network_and_asks_the_tunnel_for_names(project):
    resolver = project.demo("cat", "/etc/resolv.conf").stdout.splitlines()
    addresses = project.demo("cat", "/proc/net/if_inet6").stdout
    routes = project.demo("cat", "/proc/net/route").stdout.splitlines()[1:]

    assert [line for line in resolver if line.startswith("nameserver")] == ["nameserver 10.0.0.1"]
    assert "fd006e73000000000000000000000002" in addresses  # of tun.addresses
    assert {line.split()[0] for line in routes} == {"tun0"}


def test_every_replica_of_the_forwarders_has_a_queue_of_the_tun(project):
    lent = [each["gauges"]["queues_lent"] for each in project.status()["processes"] if each["stage"] == "tun_io"]

    assert lent == [TCP_FWD + UDP_FWD]


def test_flows_are_spread_over_every_replica(project):
    project.demo("python", "-c", MANY_FLOWS)

    packets = {stage: [] for stage in ("tcp_fwd", "udp_fwd")}
    for process in project.status()["processes"]:
        if process["stage"] in packets:
            packets[process["stage"]].append(process["packets_in"])

    assert [len(packets["tcp_fwd"]), len(packets["udp_fwd"])] == [TCP_FWD, UDP_FWD]
    assert 0 not in packets["tcp_fwd"] + packets["udp_fwd"]


@pytest.mark.parametrize("service", ["redis", "tracker", "dns_filter", "tcp_fwd", "udp_fwd"])
def test_who_does_not_open_the_tun_runs_without_root_and_any_capability(project, service):
    if service == "redis":
        status = project.compose("exec", "-T", "redis", "cat", "/proc/1/status").stdout
        fields = dict(line.split(":\t", 1) for line in status.splitlines())
        assert int(fields["Uid"].split()[1]) > 0
        assert int(fields["CapEff"], 16) == 0
        return
    for _, uid, capabilities, command in project.processes(service):
        assert uid > 0, command
        assert capabilities == 0, command


def test_tun_io_itself_has_no_root_and_no_capability_left(project):
    of_tun_io = [p for p in project.processes("tun_io") if "services.tun_io" in p[3]]

    assert len(of_tun_io) == 1
    assert of_tun_io[0][1] > 0
    assert of_tun_io[0][2] == 0


def test_tun_io_killed_is_back_within_two_seconds_and_the_device_never_left(project):
    ((pid, uid, _, _),) = [p for p in project.processes("tun_io") if "services.tun_io" in p[3]]
    index = project.demo("cat", "/sys/class/net/tun0/ifindex").stdout

    project.compose("exec", "-T", "--user", str(uid), "tun_io", "sh", "-c", f"kill -9 {pid}")

    # The first SYN may fall into the gap; it is sent again after a second.
    assert "resolved and fetched: 200" in project.demo().stdout
    assert project.demo("cat", "/sys/class/net/tun0/ifindex").stdout == index
    ((new_pid, _, _, _),) = [p for p in project.processes("tun_io") if "services.tun_io" in p[3]]
    assert new_pid != pid


@pytest.mark.parametrize("service", ["redis", "tracker", "dns_filter", "tcp_fwd", "udp_fwd"])
def test_what_was_killed_and_came_back_works_again(project, service):
    project.compose("restart", "--timeout", "0", service)

    assert "resolved and fetched: 200" in project.demo().stdout
