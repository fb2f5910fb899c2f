"""DNS messages for tests, made and read by dnspython: another pair of eyes than the code under test."""

import socket

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import dns.rrset

from netstack.runtime.config import Allow, Config, Deny, Dns, Quic, Tcp
from services.dns_filter.policy import Policy
from services.dns_filter.query import Query, parse

NAME = "www.example.com."


def ask(
    name: str = NAME, rtype: str = "A", *,
    number: int = 0x1234, edns: bool = False, size: int = 1232, do: bool = False, flags: str = "RD",
) -> bytes:  # fmt: skip
    """A client's query."""
    edns = edns or do
    message = dns.message.make_query(
        name, rtype, use_edns=0 if edns else None, payload=size if edns else None, want_dnssec=do
    )  # fmt: skip
    message.id = number
    message.flags = dns.flags.from_text(flags)
    return message.to_wire()


def query(name: str = NAME, rtype: str = "A", **options: object) -> Query:
    return parse(ask(name, rtype, **options))  # type: ignore[arg-type]


def respond(
    asked: bytes, *records: str, rcode: str = "NOERROR", flags: str = "QR RD RA",
    authority: tuple[str, ...] = (), additional: tuple[str, ...] = (), errors: tuple[tuple[int, str], ...] = (),
) -> bytes:  # fmt: skip
    """An upstream's answer; each record is `name ttl type data`."""
    message = dns.message.make_response(dns.message.from_wire(asked))
    message.flags = dns.flags.from_text(flags)
    message.use_edns(0, options=[dns.edns.EDEOption(code, text) for code, text in errors])
    message.set_rcode(dns.rcode.from_text(rcode))
    for section, texts in ((message.answer, records), (message.authority, authority), (message.additional, additional)):
        for text in texts:
            name, ttl, rtype, data = text.split(" ", 3)
            section.append(dns.rrset.from_text(name, int(ttl), "IN", rtype, data))
    return message.to_wire(max_size=65535)


def read(octets: bytes) -> dns.message.Message:
    return dns.message.from_wire(octets)


def texts(octets: bytes) -> list[str]:
    """The answer section, a record a line."""
    return [f"{rrset.name} {rrset.ttl} {rdata.rdtype.name} {rdata}" for rrset in read(octets).answer for rdata in rrset]


def errors(octets: bytes) -> list[tuple[int, str | None]]:
    """The extended errors in a message."""
    found = read(octets).options
    return [(int(option.code), option.text) for option in found if isinstance(option, dns.edns.EDEOption)]


def address(text: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)


def policy(
    *, networks: tuple[str, ...] = (), allowed: tuple[str, ...] = (), denied: tuple[str, ...] = (),
    private: tuple[str, ...] = (), block_quic: bool = True, sni: str = "log", canaries: bool = True,
) -> Policy:  # fmt: skip
    return Policy(
        Config(
            allow=Allow(networks=list(networks), names=list(allowed)),
            deny=Deny(names=list(denied)),
            dns=Dns(private_names=list(private), canaries=canaries),
            quic=Quic(block=block_quic),
            tcp=Tcp(sni=sni),  # type: ignore[arg-type]
        )
    )
