"""Many idle connections, for `bench.flows`: a server that echoes, and a client that opens them and then waits.

serve ADDRESS PORT says "up"; hold ADDRESS PORT NUMBER says "held NUMBER" once each has had its reply. Both until ended.
"""

import asyncio
import contextlib
import errno
import os
import resource
import select
import signal
import socket
import sys

_GROUP = 100  # connections opened at once


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(100):
            writer.write(data)
    writer.close()


async def _serve(address: str, port: int) -> None:
    await asyncio.start_server(_echo, address, port, backlog=4096)
    _say("up")
    await asyncio.Event().wait()


def _hold(address: str, port: int, count: int) -> None:
    held: list[socket.socket] = []
    while len(held) < count:
        group = [socket.socket() for _ in range(min(_GROUP, count - len(held)))]
        for connection in group:
            connection.settimeout(0)
            connection.connect_ex((address, port))
        for connection in group:
            poll = select.poll()  # select(2) knows no descriptor above 1023
            poll.register(connection, select.POLLOUT)
            writable = poll.poll(20_000)
            error = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) if writable else errno.ETIMEDOUT
            if error:
                sys.exit(os.strerror(error))
            connection.settimeout(20)
            connection.sendall(b"request")
        for connection in group:
            if connection.recv(100) != b"request":
                sys.exit("not what was sent")
        held += group
    _say(f"held {len(held)}")
    signal.pause()


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> None:
    """The words of the module's docstring."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    action, address, port, *count = sys.argv[1:]
    if action == "serve":
        asyncio.run(_serve(address, int(port)))
    else:
        _hold(address, int(port), int(count[0]))


if __name__ == "__main__":
    main()
