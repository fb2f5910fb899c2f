"""A TCP server that does what its client orders in the first line of each connection, a JSON object (see `Order`).

It sends its octets, reads the client's at the same time, and then says what it got: 40 octets after its own, the number
of octets in 8 and their SHA-256. Where it is to close first it says nothing and closes when it has sent its own.

Run as a program it listens on ORDERS_PORT and says "up" on standard output.
"""

import asyncio
import functools
import hashlib
import json
import random
import resource
import socket
import sys
from dataclasses import asdict, dataclass
from typing import Final

ORDERS_PORT: Final = 2100
_BACKLOG: Final = 4096  # connections; as many may come at once


@dataclass(frozen=True)
class Order:
    """What the server is to do on a connection."""

    send: int = 0
    """Octets: those of `octets(send, seed)`."""
    seed: int = 1
    write_size: int = 1 << 16
    """Octets written at once."""
    write_pause: float = 0.0
    """Seconds after each of them."""
    read_size: int = 1 << 16
    read_pause: float = 0.0
    """Seconds before each reading; the receive buffer is small then, so that the client's window closes."""
    closes_first: bool = False
    """Whether it closes when it has sent its octets, and not after the client."""

    def line(self) -> bytes:
        """What the client begins with."""
        return json.dumps(asdict(self)).encode() + b"\n"


@functools.lru_cache(maxsize=4)
def octets(count: int, seed: int) -> bytes:
    """The same in every process."""
    return random.Random(seed).randbytes(count)


def receipt(count: int, digest: bytes) -> bytes:
    """What the server says of the octets that it got."""
    return count.to_bytes(8) + digest


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        order = Order(**json.loads(await reader.readline()))
        sending = asyncio.ensure_future(_send(order, writer))
        if order.closes_first:
            await sending
        else:
            got, _ = await asyncio.gather(_read(order, reader, writer), sending)
            writer.write(got)
        writer.close()
        await writer.wait_closed()
    except ConnectionError:  # what the client sees of it is what is tested
        writer.close()


async def _send(order: Order, writer: asyncio.StreamWriter) -> None:
    data = octets(order.send, order.seed)
    for start in range(0, len(data), order.write_size):
        writer.write(data[start : start + order.write_size])
        await writer.drain()
        if order.write_pause:
            await asyncio.sleep(order.write_pause)


async def _read(order: Order, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    if order.read_pause:
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
    count, digest = 0, hashlib.sha256()
    while True:
        if order.read_pause:
            await asyncio.sleep(order.read_pause)
        data = await reader.read(order.read_size)
        if not data:
            return receipt(count, digest.digest())
        count += len(data)
        digest.update(data)


async def main() -> None:
    """Listen, then serve until killed."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    await asyncio.start_server(_serve, port=ORDERS_PORT, backlog=_BACKLOG)
    sys.stdout.write("up\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
