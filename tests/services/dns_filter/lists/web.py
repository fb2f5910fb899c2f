"""A web server of the tests' own, on loopback."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

Answer = Callable[[str, dict[str, str]], bytes]
"""What is sent for a path and the request's fields."""


def page(body: bytes, status: str = "200 OK", **fields: str) -> bytes:
    head = [f"HTTP/1.1 {status}", f"content-length: {len(body)}", "connection: close"]
    head += [f"{name.replace('_', '-')}: {value}" for name, value in fields.items()]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


@asynccontextmanager
async def web(answer: Answer) -> AsyncIterator[tuple[list[tuple[str, dict[str, str]]], int]]:
    """What was asked for, and the port."""
    asked: list[tuple[str, dict[str, str]]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
        path = head[0].split()[1]
        asked.append((path, fields))
        writer.write(answer(path, fields))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield asked, server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await asyncio.sleep(0)
