"""What comes back from a server, as frames for the client. No I/O."""

from typing import Final, NamedTuple

from netstack.packet import datagram, ipv4, ipv6, udp, vnet
from netstack.packet.vnet import VNET_LEN

_IPV4_HEADER: Final = 20  # octets
_IPV6_HEADER: Final = 40
_CHECKSUM_AT: Final = 6  # octets into the UDP header


class Arrived(NamedTuple):
    """What of the server's IP header is carried over to the client's."""

    tos: int = 0
    ttl: int = 64
    """As it is to arrive: one hop less than it came with."""
    flow_label: int = 0


UNKNOWN: Final = Arrived()
"""Where the kernel does not say."""


class Sender:
    """A server endpoint that a mapping hears from, with the headers of its last reply at hand.

    Headers differ between two replies of one server by their length and by little else, and a stream has mostly one.
    """

    __slots__ = ("_arrived", "_headers", "_length", "_segment", "address", "client", "client_port", "last", "port")

    def __init__(self, address: bytes, port: int, client: bytes, client_port: int) -> None:
        self.address = address
        self.port = port
        self.client = client
        self.client_port = client_port
        self.last = 0.0
        self._headers = b""
        self._length = -1
        self._segment = 0
        self._arrived = UNKNOWN

    def frame(self, payload: bytes, segment: int = 0, arrived: Arrived = UNKNOWN) -> bytes:
        """One datagram, or with `segment` a train of datagrams of that many octets each (the last may be shorter)."""
        length = len(payload)
        if length != self._length or segment != self._segment or arrived is not self._arrived:
            self._headers = self._build(payload, segment, arrived)
            self._length = length
            self._segment = segment
            self._arrived = arrived
        return self._headers + payload

    def packet(self, payload: bytes, arrived: Arrived = UNKNOWN) -> bytes:
        """One datagram as an IP packet, its checksums filled in."""
        upper = udp.emit(self.address, self.client, self.port, self.client_port, payload)
        if len(self.client) == 4:
            head = ipv4.emit(
                self.address, self.client, udp.PROTOCOL, len(upper), tos=arrived.tos, ttl=arrived.ttl
            )  # fmt: skip
        else:
            head = ipv6.emit(
                self.address, self.client, udp.PROTOCOL, len(upper),
                traffic_class=arrived.tos, hop_limit=arrived.ttl, flow_label=arrived.flow_label,
            )  # fmt: skip
        return head + upper

    def _build(self, payload: bytes, segment: int, arrived: Arrived) -> bytes:
        whole = datagram.emit(
            self.address, self.port, self.client, self.client_port, payload,
            tos=arrived.tos, ttl=arrived.ttl, flow_label=arrived.flow_label,
        )  # fmt: skip
        headers = whole[: len(whole) - len(payload)]
        if not segment:
            return headers
        ip = _IPV4_HEADER if len(self.client) == 4 else _IPV6_HEADER
        return vnet.emit(vnet.GSO_UDP_L4, ip + udp.HEADER_LEN, segment, ip, _CHECKSUM_AT) + headers[VNET_LEN:]
