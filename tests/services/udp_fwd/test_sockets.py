"""Host sockets, on loopback."""

import asyncio
import errno
import socket
from collections.abc import Callable

import pytest

from netstack.packet.errqueue import ORIGIN_ICMP
from services.udp_fwd.outgoing import Header
from services.udp_fwd.sockets import ALREADY_TOLD, BURST, HostSocket

HEADER = Header(tos=0, ttl=63, dont_fragment=True)


def with_socket(test: Callable[[HostSocket, socket.socket, list], None], version: int = 4) -> None:
    """Run a test with a host socket, a server, and the list of errors that the host socket told."""

    async def scenario() -> None:
        errors: list = []
        host = HostSocket(asyncio.get_running_loop(), version, socket.IPPROTO_UDP, lambda *error: errors.append(error))
        family, name = (socket.AF_INET, "127.0.0.1") if version == 4 else (socket.AF_INET6, "::1")
        with socket.socket(family, socket.SOCK_DGRAM) as server:
            server.settimeout(5)
            server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
            server.bind((name, 0))
            test(host, server, errors)
        host.close()

    asyncio.run(scenario())


@pytest.mark.parametrize("version", [4, 6])
def test_a_train_leaves_as_its_datagrams(version):
    def test(host, server, errors):
        payloads = [bytes([number]) * 900 for number in range(99)] + [b"last"]
        assert host.send(server.getsockname()[:2], payloads, HEADER) == 0
        assert [server.recv(65535) for _ in payloads] == payloads

    with_socket(test, version)


def test_a_train_that_the_kernel_does_not_segment_leaves_one_by_one():
    def test(host, server, errors):
        host._socket.setsockopt(socket.SOL_SOCKET, 11, 1)  # SO_NO_CHECK: with it UDP_SEGMENT is refused (EINVAL)
        payloads = [b"one", b"two", b"end"]
        assert host.send(server.getsockname(), payloads, HEADER) == 0
        assert [server.recv(10) for _ in payloads] == payloads
        assert host.send(server.getsockname(), payloads, HEADER) == 0
        assert [server.recv(10) for _ in payloads] == payloads

    with_socket(test)


@pytest.mark.parametrize(
    ("parts", "size"),
    [([b""], 0), ([b"one"], 3), ([b"one", b"two", b"en"], 3), ([b"onetwoen"], 3)],
    ids=["an empty datagram", "one datagram", "alike, the last shorter", "a train of the client's own"],
)
def test_what_a_lane_collected_leaves_as_its_datagrams(parts, size):
    def test(host, server, errors):
        assert host.send_joined(server.getsockname(), parts, size, HEADER) == 0
        whole = b"".join(parts)
        expected = [whole[at : at + size] for at in range(0, len(whole), size)] if size else [b""]
        assert [server.recv(10) for _ in expected] == expected

    with_socket(test)


def test_a_burst_grows_while_there_is_more_and_shrinks_when_there_is_not():
    def test(host, server, errors):
        host.send(server.getsockname(), [b"hello"], HEADER)
        _, client = server.recvfrom(10)
        for number in range(200):
            server.sendto(bytes([number]) * (number + 1), client)  # one that is longer joins no other
        bursts = []
        while burst := host.receive():
            bursts.append([received.octets[0] for received in burst])
        assert [len(burst) for burst in bursts] == [1, 2, 4, 8, 16, 32, BURST, BURST, 9]
        assert [octet for burst in bursts for octet in burst] == list(range(200))
        server.sendto(b"x", client)
        server.sendto(b"y", client)
        assert len(host.receive()) == 1

    with_socket(test)


def test_gro_says_the_size_of_its_segments():
    def test(host, server, errors):
        host.send(server.getsockname(), [b"hello"], HEADER)
        _, client = server.recvfrom(10)
        segment = [(socket.IPPROTO_UDP, 103, (100).to_bytes(2, "little"))]
        server.sendmsg([bytes(950)], segment, 0, client)
        received = host.receive()[0]
        assert (len(received.octets), received.segment, received.sender) == (950, 100, server.getsockname())
        server.sendto(bytes(100), client)
        assert host.receive()[0].segment == 0

    with_socket(test)


def test_an_error_of_an_earlier_datagram_is_told_and_does_not_stop_the_next_one():
    def test(host, server, errors):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as gone:
            gone.bind(("127.0.0.1", 0))
            closed = gone.getsockname()
        assert host.send(closed, [b"x"], HEADER) == 0
        assert host.send(server.getsockname(), [b"y"], HEADER) == 0
        assert server.recv(10) == b"y"
        ((error, to, _),) = errors
        assert (error.errno, error.origin, to) == (errno.ECONNREFUSED, ORIGIN_ICMP, closed)
        assert host.receive() == []

    with_socket(test)


def test_what_cannot_be_sent_gives_its_errno():
    def test(host, server, errors):
        # The loopback network's own broadcast address: a machine without a default route has a route to it too.
        assert host.send(("127.255.255.255", 9), [b"x"], HEADER) == errno.EACCES
        # 65,507 octets are the most that IPv4 carries; the kernel says so without an entry in the error queue.
        assert host.send(server.getsockname(), [bytes(65508)], HEADER) in {errno.EMSGSIZE, ALREADY_TOLD}
        assert host.send(server.getsockname(), [bytes(65507)], HEADER._replace(dont_fragment=False)) == 0

    with_socket(test)


@pytest.mark.parametrize("version", [4, 6])
def test_the_ip_header_of_an_answer_is_told(version):
    level, ttl, tos = (
        (socket.IPPROTO_IP, socket.IP_TTL, socket.IP_TOS)
        if version == 4
        else (socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, socket.IPV6_TCLASS)
    )

    def test(host, server, errors):
        host.send(server.getsockname()[:2], [b"hello"], HEADER)
        _, client = server.recvfrom(10)
        for hops, octet in ((255, 0x02), (255, 0x02), (9, 0xB8), (1, 0)):
            server.setsockopt(level, ttl, hops)
            server.setsockopt(level, tos, octet)
            server.sendto(b"answer", client)
            (received,) = host.receive()
            assert (received.octets, received.arrived.ttl, received.arrived.tos) == (b"answer", hops - 1, octet)

    with_socket(test, version)


def test_a_flow_label_is_sent_and_told():
    def test(host, server, errors):
        server.setsockopt(socket.IPPROTO_IPV6, 11, 1)  # IPV6_FLOWINFO
        header = HEADER._replace(flow_label=0xABCDE)
        for payloads in ([b"hello"], [b"one", b"two"]):
            assert host.send(server.getsockname()[:2], payloads, header) == 0
            for payload in payloads:
                data, ancillary, _, client = server.recvmsg(10, 64)
                assert data == payload
                assert ancillary == [(socket.IPPROTO_IPV6, 11, bytes.fromhex("000abcde"))]
        server.setsockopt(socket.IPPROTO_IPV6, 33, 1)  # IPV6_FLOWINFO_SEND
        server.sendto(b"answer", (*client[:2], 0x54321, 0))
        (received,) = host.receive()
        assert received.arrived.flow_label == 0x54321

    with_socket(test, 6)


@pytest.mark.parametrize("version", [4, 6])
def test_the_clients_port_is_kept_where_it_is_free_and_its_parity_where_it_is_not(version):
    family = socket.AF_INET if version == 4 else socket.AF_INET6

    def test(host, server, errors):
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind(("", 0))
            free = probe.getsockname()[1]
        host.keep_port(free)
        assert host._socket.getsockname()[1] == free
        second = HostSocket(host._loop, version, socket.IPPROTO_UDP, lambda *_: None)
        second.keep_port(free)
        kept = second._socket.getsockname()[1]
        second.close()
        assert kept != free
        assert kept % 2 == free % 2

    with_socket(test, version)


@pytest.mark.parametrize("port", [53, 1023, 65535], ids=["well-known", "the last of those", "no neighbour is a port"])
def test_a_port_that_cannot_be_kept_is_left_to_the_kernel(port):
    def test(host, server, errors):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            if port > 1023:
                other.bind(("", port))
            host.keep_port(port)
        assert host._socket.getsockname()[1] == 0
        assert host.send(server.getsockname(), [b"hello"], HEADER) == 0
        assert server.recvfrom(10)[0] == b"hello"

    with_socket(test)
