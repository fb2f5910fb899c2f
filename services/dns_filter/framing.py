"""Octets of a stream -> messages: the preface that tcp_fwd sends, then each message behind its two-octet length.

No I/O. The preface says who the client is: one octet L (4 or 16), L octets of address, two of port. What follows is the
client's own (RFC 1035 section 4.2.2), split anywhere.
"""

from typing import Final, NamedTuple

_ADDRESS_LENGTHS: Final = (4, 16)


class MalformedStreamError(ValueError):
    """A stream that does not begin with a preface."""


class ClientEndpoint(NamedTuple):
    """Who is at the other end of a stream."""

    address: bytes
    port: int


class Deframer:
    """Collects octets and gives back whole messages. It holds at most one message that is not whole."""

    def __init__(self, client: ClientEndpoint | None = None) -> None:
        """Without a client, a preface says who it is."""
        self._buffer = bytearray()
        self.client = client
        """Known once the preface is complete."""

    def feed(self, octets: bytes) -> list[bytes]:
        """Take octets, give the messages that are now whole; raises MalformedStreamError."""
        self._buffer += octets
        if self.client is None:
            self._read_preface()
        messages: list[bytes] = []
        at = 0
        buffer = self._buffer
        while self.client is not None and len(buffer) - at >= 2:
            end = at + 2 + int.from_bytes(buffer[at : at + 2], "big")
            if end > len(buffer):
                break
            messages.append(bytes(buffer[at + 2 : end]))
            at = end
        del buffer[:at]
        return messages

    def _read_preface(self) -> None:
        buffer = self._buffer
        if not buffer:
            return
        length = buffer[0]
        if length not in _ADDRESS_LENGTHS:
            raise MalformedStreamError(f"an address of {length} octets")
        if len(buffer) < 1 + length + 2:
            return
        port = int.from_bytes(buffer[1 + length : 3 + length], "big")
        self.client = ClientEndpoint(bytes(buffer[1 : 1 + length]), port)
        del buffer[: 3 + length]


def frame(message: bytes) -> bytes:
    """A message with its length in front."""
    return len(message).to_bytes(2, "big") + message
