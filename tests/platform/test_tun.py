"""What the supervisor and the compose file assume about TUN devices and network namespaces."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.e2e

HOLDER = """
import os, socket
from netstack.cli.tun import open_tun

def links():
    return sorted(name for _, name in socket.if_nameindex())

holders = open_tun("tun0")
holder = holders[0]
ours, theirs = socket.socketpair()
"""


def in_namespace(script, *command):
    """Run a script in a network namespace of its own; what it printed, by line."""
    result = subprocess.run(
        ["unshare", "--net", *command, sys.executable, "-c", HOLDER + script],
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    )
    return result.stdout.splitlines()


def test_the_device_stays_while_any_process_has_its_descriptor_and_goes_with_the_last():
    script = """
child = os.fork()
if child == 0:
    os._exit(0)  # tun_io dies; it had a copy of the descriptor
os.waitpid(child, 0)
print(links())
for each in holders:
    os.close(each)
print(links())
"""
    assert in_namespace(script) == ["['lo', 'tun0']", "['lo']"]


def test_a_descriptor_that_was_handed_over_is_read_and_written_without_any_privilege():
    script = """
os.setgroups([])
os.setresgid(65532, 65532, 65532)
os.setresuid(65532, 65532, 65532)
socket.send_fds(ours, [b"t"], [holder])
_, (tun,), _, _ = socket.recv_fds(theirs, 1, 1)
try:
    os.read(tun, 2048)
except BlockingIOError:
    print("nothing to read yet")
try:
    os.write(tun, bytes(10) + bytes(20))
except OSError as error:
    print(error.strerror)
"""
    # An IP version that there is not: the kernel has looked at the packet.
    assert in_namespace(script) == ["nothing to read yet", "Invalid argument"]


def test_a_namespace_is_entered_by_the_descriptor_of_a_process_that_handed_it_over():
    script = """
namespace = os.open("/proc/self/ns/net", os.O_RDONLY)
child = os.fork()
if child == 0:
    os.execlp("unshare", "unshare", "--net", "nsenter", f"--net=/proc/{os.getppid()}/fd/{namespace}",
              "sh", "-c", "ls /proc/self/net/dev >/dev/null && readlink /proc/self/ns/net")
os.waitpid(child, 0)
print(os.readlink("/proc/self/ns/net"))
"""
    inside, ours = in_namespace(script)

    assert inside == ours
