"""The servers that no Debian package offers: echo over TCP and UDP, one that answers after EOF, one that resets.

Run as a program in the namespace of the small internet; says "up" on standard output once all of them listen.
"""

import asyncio
import hashlib
import random
import socket
import struct
import sys

from tests.internet import datagrams, zones

MEBIBYTE = 1 << 20


def reply_after_eof() -> bytes:
    """What the server on AFTER_EOF_PORT sends after the SHA-256 of what it read: 1 MiB, the same in every run."""
    return random.Random(1).randbytes(MEBIBYTE)


def _echo_datagrams(endpoint: socket.socket) -> None:
    # Not through asyncio's transport, which sends no empty datagram.
    try:
        while True:
            endpoint.sendto(*endpoint.recvfrom(65535))
    except BlockingIOError:
        return


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


async def _after_eof(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    digest = hashlib.sha256()
    while data := await reader.read(65536):
        digest.update(data)
    writer.write(digest.digest() + reply_after_eof())
    await writer.drain()
    writer.close()


async def _reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1)
    # A close with a linger time of zero is a RST.
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def main() -> None:
    """Listen everywhere, then serve until killed."""
    loop = asyncio.get_running_loop()
    addresses = (zones.ECHO_V4, zones.ECHO_V6, zones.WWW_V4, zones.WWW_V6, zones.UNNAMED_V4, zones.UNNAMED_V6)
    for address in addresses:
        # 443 stands for a QUIC server: it is there and would answer.
        for port in (zones.ECHO_PORT, 443):
            endpoint = datagrams.bound(address, port)
            loop.add_reader(endpoint, _echo_datagrams, endpoint)
        datagrams.serve(loop, address)
    listeners = {
        zones.ECHO_PORT: _echo,
        zones.AFTER_EOF_PORT: _after_eof,
        zones.RESET_PORT: _reset,
    }
    for port, serve in listeners.items():
        await asyncio.start_server(serve, port=port, backlog=1024)
    sys.stdout.write("up\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
