"""The program that chooses queues, in the kernel: which packet comes to which queue of a real TUN."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e

BEGIN = """
import ipaddress, mmap, os, struct, subprocess
from netstack.cli.tun import open_tun
from netstack.wire.steering import SIZE, Steering
from services.tun_io.queues import attach, detach

first, a, b, c, *rest, table = open_tun("tun0", (443,))
subprocess.run(["ip", "link", "set", "tun0", "up"], check=True)
steering = Steering(mmap.mmap(table, SIZE))
queues = {"first": first, "a": a, "b": b, "c": c}

def come(*names):
    for name in names:
        attach(queues[name])
        steering.attached("abc".index(name))

def read():
    got = {}
    for name, queue in queues.items():
        packets = []
        try:
            while True:
                packets.append(os.read(queue, 70000))
        except OSError:
            pass
        # What the test sent; the kernel multicasts of its own accord.
        got[name] = len([p for p in packets if b"steered" in p])
    return tuple(got.values())

import socket
for command in ("addr add 10.0.0.2/24 dev tun0", "route add default dev tun0", "-6 addr add fd00::2/64 dev tun0 nodad",
                "-6 route add default dev tun0"):
    subprocess.run(["ip", *command.split()], check=True)
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
raw6 = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_RAW)

def v4(protocol, sport, dport, *, fragment=0, options=b"", source="10.0.0.2", identifier=0):
    # As ICMP: type and code, checksum, identifier.
    body = struct.pack("!HHH", sport, dport, identifier) + bytes(14) + b"steered"
    head = bytes([0x45 + len(options) // 4, 0]) + struct.pack("!HHHBBH", 20 + len(options) + len(body), 1, fragment, 64,
        protocol, 0) + socket.inet_aton(source) + socket.inet_aton("198.18.0.1") + options
    raw.sendto(head + body, ("198.18.0.1", 0))

def v6(header, sport, dport):
    body = struct.pack("!HH", sport, dport) + bytes(16) + b"steered"
    head = struct.pack("!IHBB", 0x60000000, len(body), header, 64)
    addresses = ipaddress.ip_address("fd00::2").packed + ipaddress.ip_address("2001:db8::1").packed
    raw6.sendto(head + addresses + body, ("2001:db8::1", 0))

TCP, UDP, ICMP, ICMPV6, SCTP = 6, 17, 1, 58, 132
ECHO, ECHO_V6, UNREACHABLE, CODE_1 = 8 << 8, 128 << 8, 3 << 8, 8 << 8 | 1
"""


def shown(script: str) -> list[str]:
    """What a script printed in a network namespace of its own."""
    result = subprocess.run(
        ["unshare", "--net", sys.executable, "-c", BEGIN + script],
        capture_output=True, text=True, timeout=20, check=False, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()


def test_each_protocol_comes_to_the_queue_of_its_row_and_the_rest_to_the_first():
    script = """
come("a", "b", "c")
steering.steer([0], [1], [2])
for send in (
    lambda: v4(TCP, 4000, 80),
    lambda: v4(UDP, 4000, 80),
    lambda: v6(TCP, 4000, 80),
    lambda: v6(UDP, 4000, 80),
    lambda: v4(UDP, 4000, 53),
    lambda: v4(UDP, 4000, 443),
    lambda: v6(UDP, 4000, 53),
    lambda: v4(TCP, 4000, 443),
    lambda: v4(TCP, 4000, 53),
    lambda: v4(UDP, 53, 80),
    lambda: v4(UDP, 4000, 53, fragment=0x2000),
    lambda: v4(UDP, 4000, 53, options=bytes([1, 1, 1, 0])),
    lambda: v4(ICMP, ECHO, 0),
    lambda: v6(ICMPV6, ECHO_V6, 0),
    lambda: v4(ICMP, ECHO, 53),  # a checksum, not a port
    lambda: v4(ICMP, UNREACHABLE, 0),
    lambda: v4(ICMP, CODE_1, 0),
    lambda: v6(ICMPV6, ECHO, 0),
    lambda: v4(ICMP, ECHO, 0, fragment=0x2000),
    lambda: v4(SCTP, 4000, 80),
    lambda: v4(UDP, 4000, 80, fragment=0x2000),
    lambda: v4(UDP, 4000, 80, fragment=2),
    lambda: v4(TCP, 4000, 80, options=bytes([1, 1, 1, 0])),
    lambda: v6(0, 4000, 80),
):
    send()
    print(*read())
"""
    first, a, b, c = "1 0 0 0", "0 1 0 0", "0 0 1 0", "0 0 0 1"
    assert shown(script) == [a, b, a, b, c, first, c, a, a, b, first, first, b, b, b, *[first] * 9]


def test_an_endpoint_has_one_queue_whomever_it_speaks_to():
    script = """
come("a", "b")
steering.steer([], [0, 1], [])
for port in range(4000, 4064):
    v4(UDP, port, 80)
    first = read()
    v4(UDP, port, 8080)
    assert read() == first
    print(*first)
"""
    lines = shown(script)
    assert set(lines) == {"0 1 0 0", "0 0 1 0"}
    assert 16 < lines.count("0 1 0 0") < 48


def test_an_echo_identifier_has_one_queue_whatever_the_checksum_is():
    script = """
come("a", "b")
steering.steer([], [0, 1], [])
for identifier in range(4000, 4064):
    v4(ICMP, ECHO, identifier * 7, identifier=identifier)
    first = read()
    v4(ICMP, ECHO, identifier * 5, identifier=identifier)
    assert read() == first
    print(*first)
"""
    lines = shown(script)
    assert set(lines) == {"0 1 0 0", "0 0 1 0"}
    assert 16 < lines.count("0 1 0 0") < 48


def test_after_a_queue_was_detached_the_table_still_names_the_right_ones():
    script = """
come("a", "b")
steering.steer([0, 1], [], [])
detach(a)
steering.detached(0)
steering.steer([1], [], [])
for port in range(4000, 4020):
    v4(TCP, port, 80)
print(*read())
steering.steer([], [], [])
v4(TCP, 4000, 80)
print(*read())
"""
    assert shown(script) == ["0 0 20 0", "1 0 0 0"]


def test_whoever_may_not_load_it_gets_the_device_without():
    script = """
os.close(table)
import ctypes
ctypes.CDLL(None).unshare(0x10000000)  # CLONE_NEWUSER: root there, nobody here
ctypes.CDLL(None).unshare(0x40000000)
from netstack.cli.tun import SPARE
print(len(open_tun("tun1")) == 1 + SPARE)
"""
    assert shown(script) == ["True"]
