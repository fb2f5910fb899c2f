"""Certificates, one authority for all tests here."""

import asyncio

import pytest

from tests.services.dns_filter.upstreams.certificates import Authority


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """An authority that no system knows."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def unused_port() -> int:
    """A TCP and UDP port of 127.0.0.1 on which nobody listens."""

    async def find() -> int:
        server = await asyncio.start_server(lambda _reader, _writer: None, "127.0.0.1", 0)
        port: int = server.sockets[0].getsockname()[1]
        server.close()
        return port

    return asyncio.run(find())
