"""What queues of one's own assume about a TUN with several: who gets which packet."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e

BEGIN = """
import fcntl, os, socket, struct, subprocess, time
from netstack.cli.tun import open_tun
from netstack.packet import tcp
from services.tcp_fwd.segment import Emitter, flow_of, parse
from services.tun_io.queues import attach, detach, is_attached

first, spare, other, *rest = open_tun("tun0")
fcntl.ioctl(first, 0x800454E0, struct.pack("=i", -1))  # TUNSETSTEERINGEBPF: as where no program may be loaded
for command in ("addr add 10.0.0.2/24 dev tun0", "link set tun0 up", "route add default dev tun0"):
    subprocess.run(["ip", *command.split()], check=True)

def read(queue):
    packets = []
    while True:
        try:
            packets.append(os.read(queue, 70000))
        except BlockingIOError:
            return [each for each in packets if each[10] == 0x45]

def connecting(count):
    begun = [socket.socket() for _ in range(count)]
    for each in begun:
        each.setblocking(False)
        each.connect_ex(("198.18.0.1", 80))
    return begun

def answer(packet, queue):
    syn = parse(packet)
    os.write(queue, Emitter(flow_of(syn.key), 1460).emit(1000, syn.seq + 1 & 0xFFFFFFFF, tcp.SYN | tcp.ACK, 0xFFFF))
"""


def shown(script: str) -> list[str]:
    """What a script printed in a network namespace of its own."""
    result = subprocess.run(
        ["unshare", "--net", sys.executable, "-c", BEGIN + script],
        capture_output=True, text=True, timeout=20, check=False, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()


def test_a_spare_queue_gets_nothing_until_it_is_attached_and_nothing_afterwards():
    script = """
sockets = connecting(20)
print(is_attached(first), is_attached(spare), len(read(first)))
attach(spare)
print(is_attached(spare))
sockets += connecting(64)
here, there = len(read(first)), len(read(spare))
print(here + there, here > 0, there > 0)
detach(spare)
sockets += connecting(20)
print(is_attached(spare), len(read(first)))
"""
    assert shown(script) == ["True False 20", "True", "64 True True", "False 20"]


def test_it_is_attached_without_any_privilege():
    script = """
os.setgroups([])
os.setresgid(65532, 65532, 65532)
os.setresuid(65532, 65532, 65532)
attach(spare)
print(is_attached(spare))
"""
    assert shown(script) == ["True"]


def test_a_flow_comes_to_the_queue_that_was_written_to_last():
    script = """
attach(spare)
attach(other)
sockets = connecting(60)
syns = read(first) + read(spare) + read(other)
for syn in syns:
    answer(syn, spare)
for queue in (first, spare, other):
    read(queue)  # the acknowledgements, which may have been sent before the kernel took note
for each in sockets:
    each.send(b"x")
print(len(read(first)), len(read(spare)), len(read(other)))
"""
    assert shown(script) == ["0 60 0"]


def test_a_queue_that_was_detached_still_takes_what_is_written_and_is_given_nothing():
    script = """
attach(spare)
sockets = connecting(60)
syns = read(first) + read(spare)
detach(spare)
for syn in syns:
    answer(syn, spare)
print(len(read(first)))
for each in sockets:
    each.send(b"x")
print(len(read(first)))
try:
    print(os.read(spare, 70000))
except BlockingIOError:
    print("nothing")
"""
    assert shown(script) == ["60", "60", "nothing"]


def test_a_queue_of_a_device_that_is_gone_is_an_error():
    script = """
attach(spare)
subprocess.run(["ip", "link", "del", "tun0"], check=True)
for act in (lambda: os.read(spare, 70000), lambda: os.write(spare, bytes(20))):
    try:
        act()
    except OSError as error:
        print(error.strerror)
"""
    assert shown(script) == ["File descriptor in bad state"] * 2
