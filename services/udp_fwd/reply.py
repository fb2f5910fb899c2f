"""What comes back from a server, as frames for the client. No I/O."""

from typing import Final, NamedTuple

from netstack.packet import datagram, ipv4, ipv6, udp
from netstack.packet.vnet import NO_OFFLOAD


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

    def head(self, length: int, segment: int, arrived: Arrived) -> bytes:
        """What makes a frame of so many octets of payload: one datagram, or with `segment` a train of datagrams of that
        many octets each (the last may be shorter).
        """
        if length != self._length or segment != self._segment or arrived is not self._arrived:
            ends = datagram.Endpoints(self.address, self.port, self.client, self.client_port)
            self._headers = datagram.emit_head(
                ends, length, tos=arrived.tos, ttl=arrived.ttl, flow_label=arrived.flow_label, segment=segment
            )
            self._length = length
            self._segment = segment
            self._arrived = arrived
        return self._headers

    def ip_head(self, protocol: int, length: int, arrived: Arrived) -> bytes:
        """What makes a frame of so many octets of that protocol, whose checksums are filled in. A sender has either
        these or `head`.
        """
        if length != self._length or arrived is not self._arrived:
            self._headers = NO_OFFLOAD + self._ip(protocol, length, arrived)
            self._length = length
            self._arrived = arrived
        return self._headers

    def packet(self, payload: bytes, arrived: Arrived = UNKNOWN) -> bytes:
        """One datagram as an IP packet, its checksums filled in."""
        upper = udp.emit(self.address, self.client, self.port, self.client_port, payload)
        return self._ip(udp.PROTOCOL, len(upper), arrived) + upper

    def _ip(self, protocol: int, length: int, arrived: Arrived) -> bytes:
        if len(self.client) == 4:
            return ipv4.emit(self.address, self.client, protocol, length, tos=arrived.tos, ttl=arrived.ttl)
        return ipv6.emit(
            self.address, self.client, protocol, length,
            traffic_class=arrived.tos, hop_limit=arrived.ttl, flow_label=arrived.flow_label,
        )  # fmt: skip
