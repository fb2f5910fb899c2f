"""The servers of the demo's small internet: a resolver, a web server, and one that would answer QUIC.

Run as a child of the demo, which talks to it on its standard input and output; ends when the former does.
"""

import asyncio
import contextlib
import signal
import sys
from typing import Final

import dns.exception
import dns.flags
import dns.message
import dns.rcode
import dns.rrset

from netstack.cli.demo_internet import DNS, HARD_CODED, NAME, NAMED, WORLD, configure
from netstack.cli.syscalls import CLONE_NEWNET, unshare

_TTL: Final = 300  # seconds
_BODY: Final = b"Hello from the small internet.\n"
_ZONE: Final = {(f"{NAME}.", "A"): NAMED[0], (f"{NAME}.", "AAAA"): NAMED[1]}


def answer(query: bytes) -> bytes | None:
    """The resolver's answer; None for what is no query. Raises nothing for any octets."""
    try:
        question = dns.message.from_wire(query)
        response = dns.message.make_response(question)
    except (dns.exception.DNSException, ValueError):
        return None
    response.flags |= dns.flags.RA
    if not question.question:
        response.set_rcode(dns.rcode.FORMERR)
        return response.to_wire()
    asked = question.question[0]
    name = asked.name.to_text().lower()
    address = _ZONE.get((name, asked.rdtype.name))
    if address is not None:
        response.answer.append(dns.rrset.from_text(asked.name, _TTL, "IN", asked.rdtype.name, address))
    elif not any(known == name for known, _ in _ZONE):
        response.set_rcode(dns.rcode.NXDOMAIN)
    return response.to_wire()


class _Resolver(asyncio.DatagramProtocol):
    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        reply = answer(data)
        if reply is not None:
            self._transport.sendto(reply, addr)


class _Quic(_Resolver):
    """Answers whatever it gets, so that a refusal is Netstack's."""

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._transport.sendto(data, addr)


async def _web(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        await reader.readuntil(b"\r\n\r\n")
        head = (
            f"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {len(_BODY)}\r\nConnection: close\r\n\r\n"
        )
        writer.write(head.encode() + _BODY)
        await writer.drain()
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError):
        pass  # a client that went away, or was none
    finally:
        writer.close()


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    await loop.create_datagram_endpoint(_Resolver, local_addr=(DNS, 53))
    for address in (*NAMED, HARD_CODED):
        await asyncio.start_server(_web, address, 80)
        await loop.create_datagram_endpoint(_Quic, local_addr=(address, 443))
    _say("serving")
    await loop.run_in_executor(None, sys.stdin.buffer.read)


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> None:
    """Take a namespace, wait until the demo has linked it, serve until it is gone."""
    # Ctrl-C is the demo's to obey, which then closes our standard input.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    unshare(CLONE_NEWNET)
    with contextlib.suppress(BrokenPipeError):  # the demo was ended before we served
        _say("unshared")
        if sys.stdin.buffer.readline() == b"linked\n":
            own = tuple(f"{address}/{128 if ':' in address else 32}" for address in (*NAMED, HARD_CODED))
            configure("eth0", WORLD, own=own)
            asyncio.run(_serve())


if __name__ == "__main__":
    main()
