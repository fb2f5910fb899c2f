"""What udp_fwd assumes about Linux: trains of datagrams written to a TUN, and what an error queue says."""

import contextlib
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from netstack.packet import errqueue
from services.udp_fwd import arrival

HEAD = """
import os, socket, subprocess
from netstack.cli.tun import open_tun
from services.udp_fwd.reply import UNKNOWN, Sender

tun, *_ = open_tun("tun0")
for command in ("addr add 10.0.0.2/24 dev tun0", "addr add fd00:6e73::2/64 dev tun0 nodad", "link set tun0 up"):
    subprocess.run(["ip", *command.split()], check=True)
"""


def in_namespace(script):
    """Run a script in a network namespace of its own; what it printed, by line."""
    result = subprocess.run(
        ["unshare", "--net", sys.executable, "-c", HEAD + script],
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    )
    return result.stdout.splitlines()


@contextlib.contextmanager
def socket_and_closed_port() -> Iterator[tuple[socket.socket, tuple[str, int]]]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as gone:
        gone.bind(("127.0.0.1", 0))
        closed = gone.getsockname()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.setsockopt(socket.IPPROTO_IP, errqueue.IP_RECVERR, 1)
        yield one, closed


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("server", "client"), [("198.18.0.1", "10.0.0.2"), ("2001:db8::1", "fd00:6e73::2")], ids=["IPv4", "IPv6"]
)
@pytest.mark.parametrize("size", [1000, 3000], ids=["segments below the MTU", "segments above it"])
def test_a_train_written_to_a_tun_is_received_as_its_datagrams(server, client, size):
    script = f"""
family = socket.AF_INET6 if ":" in "{client}" else socket.AF_INET
host = socket.socket(family, socket.SOCK_DGRAM)
host.bind(("{client}", 5000))
host.settimeout(2)
payload = os.urandom({size} * 9 + 77)
sender = Sender(socket.inet_pton(family, "{server}"), 53000, socket.inet_pton(family, "{client}"), 5000)
os.writev(tun, (sender.head(len(payload), {size}, UNKNOWN), payload))
got = [host.recvfrom(65535) for _ in range(10)]
print([len(data) for data, _ in got] == [{size}] * 9 + [77])
print(b"".join(data for data, _ in got) == payload)
print(*got[0][1][:2])
"""
    assert in_namespace(script) == ["True", "True", f"{server} 53000"]


def test_an_error_that_one_packet_met_is_told_once_to_the_next_call_and_stays_in_the_error_queue():
    with socket_and_closed_port() as (one, closed):
        one.sendto(b"x", closed)
        with pytest.raises(ConnectionRefusedError):
            one.sendto(b"y", closed)
        assert one.sendto(b"z", closed) == 1
        data, ancillary, _, to = one.recvmsg(64, 512, socket.MSG_ERRQUEUE)
        assert (data, to) == (b"x", closed)
        assert [(level, kind) for level, kind, _ in ancillary] == [(arrival.SOL_IP, errqueue.IP_RECVERR)]
