"""What the bus and the compose file assume about libzmq, by its own socket files; nothing of ours is in between."""

import select
import socket

import pytest
import zmq

LONG_ENOUGH = 5000  # milliseconds; what is waited for comes within one


class Sockets:
    """Keeps what it opened, so that nothing is collected before it is closed."""

    def __init__(self):
        self.context = zmq.Context()
        self._opened = []

    def open(self, kind):
        self._opened.append(self.context.socket(kind))
        return self._opened[-1]

    def close(self):
        for each in self._opened:
            each.close(linger=0)
        self.context.term()


@pytest.fixture
def sockets():
    sockets = Sockets()
    yield sockets
    sockets.close()


@pytest.fixture
def endpoint(tmp_path):
    return f"ipc://{tmp_path}/link"


def dealer(sockets, endpoint, identity):
    client = sockets.open(zmq.DEALER)
    client.identity = identity
    client.connect(endpoint)
    return client


def router(sockets, endpoint):
    server = sockets.open(zmq.ROUTER)
    server.router_mandatory = True
    server.router_handover = True
    server.bind(endpoint)
    return server


def received(client):
    assert client.poll(LONG_ENOUGH)
    return client.recv_multipart()


def readable(client):
    return bool(select.select([client.fileno()], [], [], 0)[0])


def test_a_worker_may_connect_before_anybody_binds(sockets, endpoint):
    client = dealer(sockets, endpoint, b"early")
    client.send(b"hello")

    server = router(sockets, endpoint)

    assert received(server) == [b"early", b"hello"]


def test_a_socket_file_that_a_killed_process_left_is_bound_over(sockets, endpoint, tmp_path):
    left = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    left.bind(str(tmp_path / "link"))
    left.close()  # the file stays, as after SIGKILL

    server = router(sockets, endpoint)

    dealer(sockets, endpoint, b"worker").send(b"hello")
    assert received(server) == [b"worker", b"hello"]


def test_looking_at_the_events_takes_the_edge_although_messages_wait(sockets, endpoint):
    server = router(sockets, endpoint)
    client = dealer(sockets, endpoint, b"worker")
    client.send(b"one")
    client.send(b"two")
    assert received(server) == [b"worker", b"one"]
    assert server.poll(LONG_ENOUGH)  # the second has arrived

    assert server.getsockopt(zmq.EVENTS) & zmq.POLLIN

    assert not readable(server)


def test_a_mandatory_router_refuses_the_name_of_nobody(sockets, endpoint):
    server = router(sockets, endpoint)

    with pytest.raises(zmq.ZMQError) as refused:
        server.send(b"nobody", zmq.NOBLOCK | zmq.SNDMORE)

    assert refused.value.errno == zmq.EHOSTUNREACH


def test_a_mandatory_router_refuses_the_name_of_a_worker_whose_queue_is_full(sockets, endpoint):
    server = sockets.open(zmq.ROUTER)
    server.router_mandatory = True
    server.set_hwm(1)
    server.bind(endpoint)
    client = sockets.open(zmq.DEALER)
    client.identity = b"slow"
    client.set_hwm(1)
    client.connect(endpoint)
    client.send(b"hello")
    assert received(server) == [b"slow", b"hello"]

    def fill():
        # More than the queues of both sides and the kernel's socket buffer hold.
        for _ in range(64):
            server.send(b"slow", zmq.NOBLOCK | zmq.SNDMORE)
            server.send(bytes(1 << 20))  # would wait for ever if it were this part that is refused

    with pytest.raises(zmq.Again):
        fill()


def test_a_worker_that_came_back_takes_its_name_over(sockets, endpoint):
    server = router(sockets, endpoint)
    first = dealer(sockets, endpoint, b"worker")
    first.send(b"first")
    assert received(server) == [b"worker", b"first"]

    second = dealer(sockets, endpoint, b"worker")
    second.send(b"second")
    assert received(server) == [b"worker", b"second"]
    server.send_multipart([b"worker", b"to whom?"])

    assert received(second) == [b"to whom?"]
