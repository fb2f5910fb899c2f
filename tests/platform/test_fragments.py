"""What tun_io's reassembly assumes about the fragments that Linux makes."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.e2e

SCRIPT = """
import os, select, socket, subprocess
from netstack.cli.tun import open_tun

tun, *_ = open_tun("tun0")
for command in (
    "address add 10.0.0.2/24 dev tun0",
    "address add fd00:6e73::2/64 dev tun0 nodad",
    "link set tun0 up mtu 1500",
    "route add default dev tun0",
    "-6 route add default dev tun0",
):
    subprocess.run(["ip", *command.split()], check=True, timeout=10)
poll = select.poll()
poll.register(tun, select.POLLIN)
for family, address in ((socket.AF_INET, "198.18.0.1"), (socket.AF_INET6, "2001:2::1")):
    with socket.socket(family, socket.SOCK_DGRAM) as sender:
        sender.sendto(bytes(4000), (address, 9))
    fragments = []
    while poll.poll(200):
        frame = os.read(tun, 65575 + 10)
        if frame[10:11] == b"\\x45" and frame[16:18] != b"\\x40\\0" or frame[16] == 44:
            fragments.append(frame)
    print(len(fragments), {frame[:10].hex() for frame in fragments})
"""


def test_fragments_carry_no_offload_marks_so_their_checksum_is_complete():
    result = subprocess.run(
        ["unshare", "--net", sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=20, check=True
    )
    assert result.stdout.splitlines() == [f"3 {{'{bytes(10).hex()}'}}"] * 2
