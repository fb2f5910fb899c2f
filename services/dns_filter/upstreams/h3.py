"""DNS over HTTP/3 (RFC 8484, RFC 9114): a request for each question, on one QUIC connection."""

from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import urlsplit

from aioquic.h3.connection import H3_ALPN, ErrorCode, H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import QuicEvent, StreamDataReceived

from services.dns_filter.message import MAX_MESSAGE
from services.dns_filter.upstreams.quic import QuicTransport
from services.dns_filter.upstreams.quic_connection import Connection, Exchange
from services.dns_filter.upstreams.upstream import OnMismatch, UpstreamError

_MEDIA_TYPE: Final = b"application/dns-message"  # RFC 8484 section 6

Headers = list[tuple[bytes, bytes]]


class DohConnection(Connection):
    """Requests and responses of HTTP/3."""

    cancelled_code = ErrorCode.H3_REQUEST_CANCELLED

    def __init__(self, quic: QuicConnection) -> None:
        super().__init__(quic)
        self._http = H3Connection(quic)
        self.headers: Headers = []
        """Of each request; to be set before the first question."""

    def goodbye_code(self) -> int:
        """See Connection."""
        return ErrorCode.H3_NO_ERROR

    def send_question(self, stream_id: int, message: bytes) -> None:
        """See Connection."""
        length = (b"content-length", str(len(message)).encode())
        self._http.send_headers(stream_id, [*self.headers, length])
        self._http.send_data(stream_id, message, end_stream=True)

    def stream_received(self, exchange: Exchange, event: StreamDataReceived) -> None:
        """See Connection."""
        for part in self._http.handle_event(event):
            if isinstance(part, HeadersReceived):
                refusal = _refusal(dict(part.headers))
                if refusal:
                    exchange.fail(UpstreamError(refusal))
                ended = part.stream_ended
            elif isinstance(part, DataReceived):
                exchange.add(part.data, MAX_MESSAGE)
                ended = part.stream_ended
            else:
                continue
            if ended:
                exchange.finish(bytes(exchange.received))

    def other_received(self, event: QuicEvent) -> None:
        """Control streams, and what comes late."""
        self._http.handle_event(event)


class H3Transport(QuicTransport):
    """One resolver over HTTP/3."""

    alpn = H3_ALPN[0]

    def __init__(
        self, label: str, addresses: Sequence[str], tls_ca: str, on_mismatch: OnMismatch,
        headers: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        """label is the URL; headers are sent besides ours. Raises OSError, see authorities."""
        url = urlsplit(label)
        super().__init__(label, addresses, (url.hostname or "", url.port or 443), tls_ca, on_mismatch)
        self._headers: Headers = [
            (b":method", b"POST"),
            (b":scheme", b"https"),
            (b":authority", url.netloc.encode()),
            (b":path", url.path.encode()),
            (b"accept", _MEDIA_TYPE),
            (b"content-type", _MEDIA_TYPE),
            (b"user-agent", b"netstack"),
            *((name.encode(), value.encode()) for name, value in (headers or {}).items()),
        ]

    async def open(self, address: str) -> Connection:
        """See QuicTransport."""
        connection = await DohConnection.open(address, self._port, self._configuration)
        assert isinstance(connection, DohConnection)
        connection.headers = self._headers
        return connection


def _refusal(headers: Mapping[bytes, bytes]) -> str:
    """Why a response holds no answer; "" where it does. Trailers have no status and refuse nothing."""
    status = headers.get(b":status")
    if status is None or status.startswith(b"1"):
        return ""
    if status != b"200":
        return f"HTTP status {status.decode(errors='replace')}"
    if headers.get(b"content-type", b"").partition(b";")[0].strip().lower() != _MEDIA_TYPE:
        return "an answer that is no DNS message"
    return ""
