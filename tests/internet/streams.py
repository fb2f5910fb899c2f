"""Servers of long conversations: WebSocket (RFC 6455) and gRPC, with the libraries that others use.

python -m tests.internet.streams WEBSOCKET_PORT GRPC_PORT
"""

import asyncio
import hashlib
import sys
from collections.abc import AsyncIterator
from typing import Any, Final

import grpc.aio
from websockets.asyncio.server import ServerConnection, serve

SERVICE: Final = "test.Streams"


async def _echo(websocket: ServerConnection) -> None:
    async for message in websocket:
        await websocket.send(message)


async def _talk(messages: AsyncIterator[bytes], _context: Any) -> AsyncIterator[bytes]:
    """Both ways at once: each message is answered by its SHA-256 before the next has come."""
    async for message in messages:
        yield hashlib.sha256(message).digest()


async def _count(message: bytes, _context: Any) -> AsyncIterator[bytes]:
    """A stream from the server: as many messages of 10,000 octets as were asked for."""
    for index in range(int(message)):
        yield index.to_bytes(4) * 2500


async def _collect(messages: AsyncIterator[bytes], _context: Any) -> bytes:
    """A stream from the client: the SHA-256 of it."""
    digest = hashlib.sha256()
    async for message in messages:
        digest.update(message)
    return digest.digest()


async def main() -> None:
    """Listen, then serve until killed."""
    websocket_port, grpc_port = sys.argv[1:]
    server = grpc.aio.server()
    handlers = {
        "Talk": grpc.stream_stream_rpc_method_handler(_talk),
        "Count": grpc.unary_stream_rpc_method_handler(_count),
        "Collect": grpc.stream_unary_rpc_method_handler(_collect),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    server.add_insecure_port(f"[::]:{grpc_port}")
    await server.start()
    async with serve(_echo, None, int(websocket_port), max_size=None):
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
