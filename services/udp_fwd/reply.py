"""What comes back from a server, as frames for the client. No I/O."""

from typing import Final

from netstack.packet import datagram, udp, vnet
from netstack.packet.vnet import VNET_LEN

_IPV4_HEADER: Final = 20  # octets
_IPV6_HEADER: Final = 40
_CHECKSUM_AT: Final = 6  # octets into the UDP header


class Sender:
    """A server endpoint that a mapping hears from, with the headers of its last reply at hand.

    Headers differ between two replies of one server by their length alone, and a stream has mostly one length.
    """

    __slots__ = ("_headers", "_length", "_segment", "address", "client", "client_port", "last", "port")

    def __init__(self, address: bytes, port: int, client: bytes, client_port: int) -> None:
        self.address = address
        self.port = port
        self.client = client
        self.client_port = client_port
        self.last = 0.0
        self._headers = b""
        self._length = -1
        self._segment = 0

    def frame(self, payload: bytes, segment: int = 0) -> bytes:
        """One datagram, or with `segment` a train of datagrams of that many octets each (the last may be shorter)."""
        length = len(payload)
        if length != self._length or segment != self._segment:
            self._headers = self._build(payload, segment)
            self._length = length
            self._segment = segment
        return self._headers + payload

    def _build(self, payload: bytes, segment: int) -> bytes:
        whole = datagram.emit(self.address, self.port, self.client, self.client_port, payload)
        headers = whole[: len(whole) - len(payload)]
        if not segment:
            return headers
        ip = _IPV4_HEADER if len(self.client) == 4 else _IPV6_HEADER
        return vnet.emit(vnet.GSO_UDP_L4, ip + udp.HEADER_LEN, segment, ip, _CHECKSUM_AT) + headers[VNET_LEN:]
