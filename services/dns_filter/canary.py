"""Names by which software asks the network whether to leave DNS to it. No I/O, no clock.

Each is answered as its owner documents, so that a browser stays with this resolver instead of trying one of its own,
which could not be reached.
"""

from typing import Final, NamedTuple

from services.dns_filter.message import NOERROR, NXDOMAIN
from services.dns_filter.names import NameSet, to_wire


class Canary(NamedTuple):
    """How such a name is answered: an rcode, and no records."""

    rcode: int
    name: str


# The owners' own words. Mozilla, "Canary domain - use-application-dns.net": "a response code other than NOERROR" turns
# DNS over HTTPS off where it is on by default. Apple, "Prepare your network or web server for iCloud Private Relay":
# "a 'no error no answer' response or an NXDOMAIN response". RFC 9462 section 4: a resolver without designated resolvers
# "SHOULD return NODATA for queries to the 'resolver.arpa' zone", and section 6.1: it is not passed on.
_ANSWERS: Final = {
    "use-application-dns.net": NXDOMAIN,
    "mask.icloud.com": NXDOMAIN,
    "mask-h2.icloud.com": NXDOMAIN,
    "resolver.arpa": NOERROR,
}
_NAMES: Final = NameSet(_ANSWERS)
_ENDINGS: Final = tuple(map(to_wire, _ANSWERS))  # looked at first, since nearly no name is one of these


def canary(qname: bytes) -> Canary | None:
    """How to answer a name (wire form, lower case) if it is one of these, or below one."""
    name = _NAMES.match(qname) if qname.endswith(_ENDINGS) else None
    return None if name is None else Canary(_ANSWERS[name], name)
