"""A client of tests/internet/streams.py to run in a captured network; ends with 0 if all that came back is right.

python -m tests.e2e.streams websocket|grpc HOST PORT
"""

import hashlib
import queue
import random
import sys
from collections.abc import Callable
from typing import Final

import grpc
from websockets.sync.client import connect

from tests.internet.streams import SERVICE

SIZES: Final = (0, 1, 125, 126, 65535, 65536, 1 << 20)
"""Octets: where the length field of a WebSocket frame changes its form, and a large one."""


def websocket(host: str, port: int) -> None:
    """One connection: text and binary messages one by one, then many before the first answer is read, then a close."""
    with connect(f"ws://{host}:{port}/", max_size=None, compression=None) as connection:
        for size in SIZES:
            sent = random.Random(size).randbytes(size)
            connection.send(sent)
            assert connection.recv(10) == sent
        for index in range(500):
            connection.send(f"message {index}")
        assert [connection.recv(10) for _ in range(500)] == [f"message {index}" for index in range(500)]
        assert connection.ping().wait(10), "no pong"


def grpc_streams(host: str, port: int) -> None:
    """One HTTP/2 connection with streams in each direction and both."""
    messages = [random.Random(index).randbytes(1 + index * 997 % 30_000) for index in range(200)]
    with grpc.insecure_channel(f"{host}:{port}") as channel:
        talk = channel.stream_stream(f"/{SERVICE}/Talk")
        answers = talk(iter(messages), timeout=20)
        assert [next(answers) for _ in messages] == [hashlib.sha256(message).digest() for message in messages]
        assert _ping_pong(talk, messages[:50]) == [hashlib.sha256(message).digest() for message in messages[:50]]
        counted = channel.unary_stream(f"/{SERVICE}/Count")(b"1000", timeout=20)
        assert list(counted) == [index.to_bytes(4) * 2500 for index in range(1000)]
        collected = channel.stream_unary(f"/{SERVICE}/Collect")(iter(messages * 5), timeout=20)
        assert collected == hashlib.sha256(b"".join(messages * 5)).digest()


def _ping_pong(talk: grpc.StreamStreamMultiCallable, messages: list[bytes]) -> list[bytes]:
    """Each message is sent when the answer to the one before has come."""
    waiting: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
    answers = talk(iter(waiting.get, None), timeout=20)
    got = []
    for message in messages:
        waiting.put(message)
        got.append(next(answers))
    waiting.put(None)
    assert list(answers) == []
    return got


ACTIONS: Final[dict[str, Callable[[str, int], None]]] = {"websocket": websocket, "grpc": grpc_streams}

if __name__ == "__main__":
    ACTIONS[sys.argv[1]](sys.argv[2], int(sys.argv[3]))
    sys.stdout.write("all is right\n")
