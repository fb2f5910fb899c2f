"""What the first octets of a client are, and which server they name. No I/O, no clock.

Theory of operation. Any port may carry anything, so that the octets decide: a TLS ClientHello names its server in the
server_name extension, an HTTP/1 request in its target or Host field. Octets are collected, at most LIMIT of them, until
it is known what they are; mostly that takes one segment. What is neither is known by its first octet, or at the end of
its first line (SSH, SMTP, Redis), and has no name. The work is linear in the octets, however they are cut.
"""

from typing import Final, NamedTuple

from services.tcp_fwd.client_hello import HANDSHAKE, ClientHello, NotClientHelloError
from services.tcp_fwd.request_head import NotRequestError, RequestHead

LIMIT: Final = 16 << 10
"""Octets that are looked at. Browsers send ClientHellos of up to 2 KiB; servers take 8 KiB of a request's head."""


class Seen(NamedTuple):
    """What the first octets are."""

    protocol: str
    """`tls`, `http`, or empty where it is neither."""
    name: str | None
    """The server that they name (services.tcp_fwd.server_name.normalize); None where they name none."""


NOTHING: Final = Seen("", None)
"""Neither TLS nor HTTP, or not within the limit: no name."""


_seen: Final = tuple.__new__  # a NamedTuple without the call of a Python function that its own __new__ is


class FirstOctets:
    """The first octets of one client."""

    __slots__ = ("_hello", "_octets", "_request")

    def __init__(self) -> None:
        self._octets: bytes | bytearray = b""  # mostly all comes in one piece
        self._hello: ClientHello | None = None
        self._request: RequestHead | None = None

    def __len__(self) -> int:
        return len(self._octets)

    def receive(self, data: bytes | memoryview) -> Seen | None:
        """The next octets in order; None as long as more are needed to know. Not to be called once it is known."""
        if not data:
            return None
        first = not self._octets
        if first:
            octets: bytes | bytearray = bytes(data[:LIMIT])
        else:
            octets = self._octets if isinstance(self._octets, bytearray) else bytearray(self._octets)
            octets += data[: LIMIT - len(octets)]
        self._octets = octets
        if first:
            # An SSLv2 ClientHello (RFC 5246 appendix E.2) has no extensions, and is no request either.
            if octets[0] == HANDSHAKE:
                self._hello = ClientHello()
            else:
                self._request = RequestHead()
        try:
            complete = self._hello.complete(octets) if self._hello else self._complete_request()
        except (NotClientHelloError, NotRequestError):
            return NOTHING
        if not complete and len(octets) < LIMIT:
            return None
        seen = self._seen()
        return seen if complete or seen.name is not None else NOTHING

    def _complete_request(self) -> bool:
        assert self._request is not None
        return self._request.complete(self._octets)

    def _seen(self) -> Seen:
        if self._hello is not None:
            return _seen(Seen, ("tls", self._hello.server_name(self._octets)))
        assert self._request is not None
        return _seen(Seen, ("http", self._request.host(self._octets)))
