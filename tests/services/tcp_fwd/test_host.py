"""Host sockets: what connect says, what errors mean, and how a socket is closed."""

import errno
import select
import socket
from contextlib import closing
from pathlib import Path

import pytest

from netstack.packet import ipv4, ipv6
from netstack.packet.flow import Flow
from netstack.packet.reason import Reason
from services.tcp_fwd import host

CLIENT = bytes([10, 0, 0, 2])
SYN = ipv4.emit(CLIENT, bytes([127, 0, 0, 1]), 6, 20)
SYN_V6 = ipv6.emit(bytes(15) + b"\x02", bytes(15) + b"\x01", 6, 20)


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (errno.ECONNREFUSED, Reason.CONNECTION_REFUSED),
        (errno.EHOSTUNREACH, Reason.HOST_UNREACHABLE),
        (errno.ENETUNREACH, Reason.NET_UNREACHABLE),
        (errno.ETIMEDOUT, Reason.CONNECT_TIMEOUT),
        (errno.EMFILE, Reason.FLOW_TABLE_FULL),
        (errno.EACCES, Reason.ADMIN_PROHIBITED),
        (errno.EPERM, Reason.ADMIN_PROHIBITED),
        (errno.EIO, Reason.SOCKET_ERROR),
    ],
    ids=str,
)
def test_an_errno_has_a_slug(number, reason):
    assert host.reason_of(number) is reason


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (errno.ECONNRESET, Reason.CONNECTION_RESET),
        (errno.EPIPE, Reason.CONNECTION_RESET),
        (errno.ETIMEDOUT, Reason.CONNECTION_TIMEOUT),
        (errno.EHOSTUNREACH, Reason.HOST_UNREACHABLE),
        (errno.EIO, Reason.SOCKET_ERROR),
    ],
    ids=str,
)
def test_the_end_of_a_connection_has_a_slug(number, reason):
    assert host.reason_of_end(number) is reason


@pytest.mark.parametrize(
    ("idle_timeout", "keepalive", "interval", "user_timeout"),
    [
        (7440.0, 3720, 75, 7_440_000),
        (30.0, 15, 15, 30_000),
        (0.3, 1, 1, 300),
        (86400.0 * 365, 32767, 75, (1 << 31) - 1),
    ],
    ids=["the default", "short", "shorter than the kernel can", "longer than the kernel can"],
)
def test_a_silent_far_end_is_given_up_after_the_idle_timeout(idle_timeout, keepalive, interval, user_timeout):
    with socket.create_server(("127.0.0.1", 0)) as server:
        flow = Flow(6, CLIENT, 1, socket.inet_aton("127.0.0.1"), server.getsockname()[1])
        client, _ = host.connect(flow, SYN)
        with closing(client):
            host.tend(client, idle_timeout)
            assert client.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            assert client.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == keepalive
            assert client.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL) == interval
            assert client.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == user_timeout


@pytest.mark.parametrize(
    ("address", "syn", "ttl", "tos"),
    [
        ("127.0.0.1", SYN, 63, 0),
        ("127.0.0.1", ipv4.emit(CLIENT, CLIENT, 6, 20, ttl=9, tos=0xB9), 8, 0xB8),
        ("127.0.0.1", ipv4.emit(CLIENT, CLIENT, 6, 20, ttl=1), 1, 0),
        ("::1", SYN_V6, 63, 0),
        ("::1", ipv6.emit(SYN_V6[8:24], SYN_V6[24:40], 6, 20, hop_limit=255, traffic_class=0xB9), 254, 0xB8),
    ],
    ids=["a hop less", "with its DSCP, not its congestion marks", "never none", "IPv6", "IPv6 with its DSCP"],
)
def test_the_connection_has_the_ttl_and_dscp_that_the_syn_has_behind_a_router(address, syn, ttl, tos):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, 0), family=family) as server:
        flow = Flow(6, CLIENT, 1, socket.inet_pton(family, address), server.getsockname()[1])
        client, _ = host.connect(flow, syn)
        with closing(client):
            if family == socket.AF_INET:
                options = socket.IPPROTO_IP, socket.IP_TTL, socket.IP_TOS
            else:
                options = socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, socket.IPV6_TCLASS
            level, ttl_option, tos_option = options
            assert (client.getsockopt(level, ttl_option), client.getsockopt(level, tos_option)) == (ttl, tos)


def test_a_reset_is_nothing_that_passes_and_nothing_that_icmp_said():
    with socket.create_server(("127.0.0.1", 0)) as server:
        flow = Flow(6, CLIENT, 1, socket.inet_aton("127.0.0.1"), server.getsockname()[1])
        client, _ = host.connect(flow, SYN)
        accepted, _ = server.accept()
        host.close(accepted, reset=True)
        with closing(client):
            select.select([client], [], [], 5)
            with pytest.raises(ConnectionResetError) as said:
                client.recv(1)
            assert host.error_of(client) is None
            assert not host.was_soft(client, said.value.errno or 0)


def test_urgent_data_of_the_server_is_ordinary_data():
    with socket.create_server(("127.0.0.1", 0)) as server:
        flow = Flow(6, CLIENT, 1, socket.inet_aton("127.0.0.1"), server.getsockname()[1])
        client, _ = host.connect(flow, SYN)
        accepted, _ = server.accept()
        with closing(client), accepted:
            accepted.send(b"be")
            accepted.send(b"for", socket.MSG_OOB)
            accepted.send(b"e")
            accepted.close()
            got = b""
            while select.select([client], [], [], 5)[0] and (data := client.recv(100)):
                got += data
            assert got == b"before"


def test_an_ipv4_mapped_address_leads_to_no_ipv4_server():
    with socket.create_server(("127.0.0.1", 0)) as server:
        flow = Flow(6, SYN_V6[8:24], 1, socket.inet_pton(socket.AF_INET6, "::ffff:127.0.0.1"), server.getsockname()[1])
        client, code = host.connect(flow, SYN_V6)
        with closing(client):
            assert code == errno.ENETUNREACH
            assert select.select([server], [], [], 0) == ([], [], [])


def test_connecting_does_not_block_and_reaches_the_server():
    with socket.create_server(("127.0.0.1", 0)) as server:
        flow = Flow(6, CLIENT, 1, socket.inet_aton("127.0.0.1"), server.getsockname()[1])
        client, code = host.connect(flow, SYN)
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
        client, _ = host.connect(flow, SYN)
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
        with accepted, closing(client):
            assert accepted.recv(100) == b"\x04" + CLIENT + b"\x12\x34"


def test_without_a_dns_worker_the_connection_is_refused(tmp_path: Path):
    with pytest.raises(ConnectionRefusedError):
        host.connect_dns(Flow(6, CLIENT, 1, bytes(4), 53), tmp_path)
