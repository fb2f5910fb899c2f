"""A resolver over QUIC (port 853) and HTTP/3 (port 443), which no Debian package offers; it asks unbound.

Run as a program: ADDRESS CERTIFICATE KEY; says "up" on standard output once it listens.
"""

import asyncio
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import dns.message
import dns.query

from tests.internet import zones
from tests.services.dns_filter.upstreams.certificates import Chain
from tests.services.dns_filter.upstreams.quic_servers import quic_server

DOQ_PORT, H3_PORT = 853, 443


def forward(asked: bytes) -> list[bytes]:
    """The answer of unbound, a fraction of a millisecond away: it may be waited for."""
    query = dns.message.from_wire(asked)
    return [dns.query.tcp(query, zones.DNS, timeout=5).to_wire()]


async def main(address: str, certificate: str, key: str) -> None:
    """Serve until killed."""
    chain = Chain(Path(certificate), Path(key))
    async with AsyncExitStack() as stack:
        for alpn, port in (("doq", DOQ_PORT), ("h3", H3_PORT)):
            await stack.enter_async_context(quic_server(forward, chain, alpn=alpn, port=port, address=address))
        sys.stdout.write("up\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:4]))
