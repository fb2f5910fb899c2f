"""A name server that has never been asked the same: nN.fresh.test has an address of its own for each N.

Run as a program: ADDRESS PORT. Even numbers have an A record, odd ones an AAAA record, of a day; a question for the
other type gets no record. Says "up" on standard output once it listens.
"""

import asyncio
import socket
import sys
from ipaddress import ip_network

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

from tests.internet import datagrams, zones

_TTL = 86400  # seconds: what the client is told is then what the lease allows
_NETWORKS = {dns.rdatatype.A: ip_network(zones.FRESH_V4), dns.rdatatype.AAAA: ip_network(zones.FRESH_V6)}


def address_of(number: int) -> str:
    """The address of nNUMBER.fresh.test."""
    kind = dns.rdatatype.AAAA if number % 2 else dns.rdatatype.A
    return str(_NETWORKS[kind][number // 2 + 1])


def answer(asked: bytes) -> bytes:
    """The answer to one query."""
    query = dns.message.from_wire(asked)
    question = query.question[0]
    reply = dns.message.make_response(query)
    reply.flags |= dns.flags.AA | dns.flags.RA
    label = question.name.labels[0].decode().lower()
    if not label[1:].isdigit():
        reply.set_rcode(dns.rcode.NXDOMAIN)
    elif (address := address_of(int(label[1:]))) and question.rdtype == (
        dns.rdatatype.AAAA if ":" in address else dns.rdatatype.A
    ):
        reply.answer.append(dns.rrset.from_text(question.name, _TTL, question.rdclass, question.rdtype, address))
    return reply.to_wire()


def _answer_all(endpoint: socket.socket) -> None:
    try:
        while True:
            asked, client = endpoint.recvfrom(65535)
            endpoint.sendto(answer(asked), client)
    except BlockingIOError:
        return


async def main(address: str, port: str) -> None:
    """Serve until killed."""
    endpoint = datagrams.bound(address, int(port))
    asyncio.get_running_loop().add_reader(endpoint, _answer_all, endpoint)
    sys.stdout.write("up\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:3]))
