"""DNS over TLS (RFC 7858, the strict profile of RFC 8310): tcp.py in an encrypted connection."""

from collections.abc import Sequence

from services.dns_filter.upstreams.certificates import authorities
from services.dns_filter.upstreams.tcp import TcpTransport, Tls
from services.dns_filter.upstreams.upstream import OnMismatch


class TlsTransport(TcpTransport):
    """One resolver over TLS."""

    def __init__(
        self, label: str, addresses: Sequence[str], endpoint: tuple[str, int], tls_ca: str, on_mismatch: OnMismatch
    ) -> None:
        """The endpoint's name, or address, is what the certificate must be for. Raises OSError, see authorities."""
        name, port = endpoint
        super().__init__(label, addresses, port, on_mismatch, Tls(authorities(tls_ca), name))
