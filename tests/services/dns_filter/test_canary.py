"""Names by which software asks whether to leave DNS to the network."""

import pytest

from services.dns_filter.canary import Canary, canary
from services.dns_filter.names import to_wire


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("use-application-dns.net", Canary(3, "use-application-dns.net")),
        ("mask.icloud.com", Canary(3, "mask.icloud.com")),
        ("mask-h2.icloud.com", Canary(3, "mask-h2.icloud.com")),
        ("_dns.resolver.arpa", Canary(0, "resolver.arpa")),
        ("resolver.arpa", Canary(0, "resolver.arpa")),
        ("www.icloud.com", None),
        ("icloud.com", None),
        ("notresolver.arpa", None),
        ("1.0.0.10.in-addr.arpa", None),
    ],
    ids=[
        "Mozilla's: no such name", "Apple's: no such name", "Apple's other", "RFC 9462's: no records", "and its zone",
        "a name beside", "a name above", "a name that ends alike", "another of arpa",
    ],
)  # fmt: skip
def test_canary(name: str, expected: Canary | None) -> None:
    assert canary(to_wire(name)) == expected
