"""The addresses of a host from which a list is fetched, by our own upstreams."""

import ipaddress
import time
from typing import Final

from services.dns_filter.lists.fetch import FetchError
from services.dns_filter.message import AAAA, IN, RD, A
from services.dns_filter.names import to_wire
from services.dns_filter.query import MAX_UDP, Query
from services.dns_filter.upstreams.pool import AllFailedError, Pool

ANSWER_WITHIN: Final = 5.0  # seconds


async def addresses(pool: Pool, host: str) -> list[str]:
    """IPv4 before IPv6, filtered as for any client; raises FetchError where there are none."""
    found: list[str] = []
    for qtype in (A, AAAA):
        try:
            answer, _ = await pool.ask(_question(host, qtype), time.monotonic() + ANSWER_WITHIN)
        except AllFailedError as error:
            raise FetchError(f"{host} cannot be resolved: {error}") from None
        found += [str(ipaddress.ip_address(address)) for address in answer.addresses]
    if not found:
        raise FetchError(f"{host} has no address that may be used")
    return found


def _question(host: str, qtype: int) -> Query:
    name = to_wire(host.lower().removesuffix("."))
    question = name + qtype.to_bytes(2, "big") + IN.to_bytes(2, "big")
    return Query(0, RD, question, name, qtype, IN, edns=True, udp_size=MAX_UDP, dnssec_ok=False)
