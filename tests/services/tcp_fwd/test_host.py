"""Host sockets: what connect says, what errors mean, and how a socket is closed."""

import errno
import select
import socket
from pathlib import Path

import pytest

from netstack.packet.flow import Flow
from netstack.packet.reason import Reason
from services.tcp_fwd import host

CLIENT = bytes([10, 0, 0, 2])


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (errno.ECONNREFUSED, Reason.CONNECTION_REFUSED),
        (errno.EHOSTUNREACH, Reason.HOST_UNREACHABLE),
        (errno.ENETUNREACH, Reason.NET_UNREACHABLE),
        (errno.ETIMEDOUT, Reason.CONNECT_TIMEOUT),
        (errno.EMFILE, Reason.FLOW_TABLE_FULL),
        (errno.EIO, Reason.SOCKET_ERROR),
    ],
    ids=str,
)
def test_an_errno_has_a_slug(number, reason):
    assert host.reason_of(number) is reason


def test_connecting_does_not_block_and_reaches_the_server():
    with socket.create_server(("127.0.0.1", 0)) as server:
        flow = Flow(6, CLIENT, 1, socket.inet_aton("127.0.0.1"), server.getsockname()[1])
        client, code = host.connect(flow)
        assert code in {0, errno.EINPROGRESS}
        select.select([], [client], [], 5)
        accepted, _ = server.accept()
        assert client.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        host.close(client, reset=True)
        with accepted, pytest.raises(ConnectionResetError):
            accepted.recv(1)


def test_an_orderly_close_is_no_reset():
    with socket.create_server(("127.0.0.1", 0)) as server:
        flow = Flow(6, CLIENT, 1, socket.inet_aton("127.0.0.1"), server.getsockname()[1])
        client, _ = host.connect(flow)
        accepted, _ = server.accept()
        host.close(client, reset=False)
        with accepted:
            assert accepted.recv(1) == b""


def test_dns_goes_to_a_worker_that_listens_and_is_told_the_client(tmp_path: Path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as worker:
        worker.bind(str(tmp_path / "dns_filter-0"))
        worker.listen()
        client, code = host.connect_dns(Flow(6, CLIENT, 0x1234, bytes(4), 53), tmp_path)
        assert code == 0
        accepted, _ = worker.accept()
        with accepted, client:
            assert accepted.recv(100) == b"\x04" + CLIENT + b"\x12\x34"


def test_without_a_dns_worker_the_connection_is_refused(tmp_path: Path):
    with pytest.raises(ConnectionRefusedError):
        host.connect_dns(Flow(6, CLIENT, 1, bytes(4), 53), tmp_path)
