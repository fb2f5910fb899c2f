"""How a TUN is opened."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
PROGRAM = """
import fcntl, os, socket, struct
from netstack.cli import network
from netstack.cli.sandbox_messages import SandboxError
from netstack.cli.tun import open_tun
from netstack.runtime.config import Tun

tun, *_ = open_tun("tun0")
_, flags = struct.unpack("=16sH", fcntl.ioctl(tun, 0x800454D2, bytes(40))[:18])  # TUNGETIFF
print(*(name for bit, name in ((0x1, "TUN"), (0x1000, "NO_PI"), (0x4000, "VNET_HDR")) if flags & bit))
print(struct.unpack("=i", fcntl.ioctl(tun, 0x800454D7, bytes(4))))  # TUNGETVNETHDRSZ
print(os.get_blocking(tun), os.get_inheritable(tun))
try:
    open_tun("tun0")
except SandboxError as error:
    print(error)
print(network.configure_own(Tun(), network.parse_addresses(Tun()), "0 0"))
sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sender.setsockopt(socket.SOL_UDP, 103, 1000)  # UDP_SEGMENT
sender.sendto(bytes(3000), ("198.18.0.1", 9))
packet = os.read(tun, 70000)
print(len(packet), struct.unpack("<BBHHHH", packet[:10])[1::2])
"""


def test_it_has_headers_offloads_and_one_owner() -> None:
    shown = subprocess.run(
        ["unshare", "--net", sys.executable, "-W", "error", "-c", PROGRAM],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ).stdout.splitlines()
    assert shown == [
        "TUN NO_PI VNET_HDR",
        "(10,)",
        "False False",
        "cannot make the TUN tun0: there is already a device tun0 in this namespace: choose another with tun.name",
        "[]",
        # One read for three datagrams: 10 + 20 + 8 + 3000 octets; gso_type 5 (UDP), gso_size 1000, csum_offset 6.
        "3038 (5, 1000, 6)",
    ]
