"""The sockets of dns.listen."""

import os
import socket
from contextlib import ExitStack
from pathlib import Path

import pytest

from netstack.runtime.listening import ListenError, open_listeners, take_listeners


def unused() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def descriptors() -> list[str]:
    return sorted(path.name for path in Path("/proc/self/fd").iterdir())


def test_udp_and_tcp_of_each_address() -> None:
    port = unused()
    with ExitStack() as stack:
        opened = [stack.enter_context(sock) for sock in open_listeners([f"127.0.0.1:{port}", f"[::1]:{port}"])]
        assert [(sock.family, sock.type) for sock in opened] == [
            (socket.AF_INET, socket.SOCK_DGRAM),
            (socket.AF_INET, socket.SOCK_STREAM),
            (socket.AF_INET6, socket.SOCK_DGRAM),
            (socket.AF_INET6, socket.SOCK_STREAM),
        ]
        assert {sock.getsockname()[1] for sock in opened} == {port}
        assert not any(os.get_blocking(sock.fileno()) for sock in opened)


def test_both_wildcards_live_beside_each_other() -> None:
    port = unused()
    for sock in open_listeners([f"0.0.0.0:{port}", f"[::]:{port}"]):
        sock.close()


def test_what_is_taken_is_named_and_nothing_stays_open() -> None:
    port = unused()
    before = descriptors()
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        other.listen()
        with pytest.raises(
            ListenError, match=rf"dns\.listen = 127\.0\.0\.1:{port}: Address already in use: .*ss -lntup"
        ):
            open_listeners([f"[::1]:{port}", f"127.0.0.1:{port}"])
    assert descriptors() == before


def test_address_that_is_not_ours() -> None:
    with pytest.raises(ListenError, match="no such address; `ip address`"):
        open_listeners(["198.18.255.1:5354"])


def test_inherited_ones_are_the_same_sockets() -> None:
    port = unused()
    opened = open_listeners([f"127.0.0.1:{port}"])
    taken = take_listeners([os.dup(sock.fileno()) for sock in opened])
    for ours, theirs in zip(opened, taken, strict=True):
        assert (ours.getsockname(), ours.type, ours.family) == (theirs.getsockname(), theirs.type, theirs.family)
        ours.close()
        theirs.close()
