"""The server name in a TLS ClientHello (RFC 8446 section 4.1.2, RFC 6066 section 3). No I/O, no clock.

The message may be cut anywhere: into segments, and into records (RFC 8446 section 5.1), the handshake's header
included. With Encrypted ClientHello the name is the outer one, which is all that can be seen (RFC 9849 section 5).
"""

from typing import Final

from services.tcp_fwd.server_name import combine

HANDSHAKE: Final = 22  # ContentType (RFC 8446 section 5.1)
_MAJOR: Final = 3  # of every version from SSL 3.0 on, in the record's header
_RECORD_HEADER: Final = 5
_MAX_RECORD: Final = 1 << 14  # octets; RFC 8446 section 5.1
_CLIENT_HELLO: Final = 1  # HandshakeType
_HANDSHAKE_HEADER: Final = 4
_RANDOM: Final = 32
_SERVER_NAME: Final = 0  # ExtensionType
_HOST_NAME: Final = 0  # NameType


class NotClientHelloError(ValueError):
    """The octets are no ClientHello."""


class ClientHello:
    """What has come of a ClientHello."""

    __slots__ = ("_message", "_read")

    def __init__(self) -> None:
        self._read = 0  # octets of whole records
        self._message = bytearray()

    def complete(self, octets: bytes | bytearray) -> bool:
        """Read on in octets, all that the client has sent; True where the message is whole.

        Raises NotClientHelloError where it can be none.
        """
        while len(octets) >= self._read + _RECORD_HEADER:
            at = self._read
            length = octets[at + 3] << 8 | octets[at + 4]
            if octets[at] != HANDSHAKE or octets[at + 1] != _MAJOR or length > _MAX_RECORD:
                raise NotClientHelloError
            body = at + _RECORD_HEADER
            if len(octets) < body + length:
                break
            self._message += octets[body : body + length]
            self._read = body + length
            if self._whole():
                return True
        if octets[self._read : self._read + 2] not in _RECORD_BEGINS:
            raise NotClientHelloError
        return False

    def server_name(self, octets: bytes | bytearray) -> str | None:
        """The name in what has come so far, whole or not; None where there is none."""
        message = bytes(self._message + octets[self._read + _RECORD_HEADER :])
        if message[:1] != bytes([_CLIENT_HELLO]):
            return None
        end = _HANDSHAKE_HEADER + int.from_bytes(message[1:_HANDSHAKE_HEADER], "big")
        return combine(_host_names(message[:end]))

    def _whole(self) -> bool:
        message = self._message
        if message and message[0] != _CLIENT_HELLO:
            raise NotClientHelloError
        if len(message) < _HANDSHAKE_HEADER:
            return False
        return len(message) >= _HANDSHAKE_HEADER + int.from_bytes(message[1:_HANDSHAKE_HEADER], "big")


_RECORD_BEGINS: Final = (b"", bytes([HANDSHAKE]), bytes([HANDSHAKE, _MAJOR]))


def _host_names(message: bytes) -> list[bytes]:
    """Every host_name of every server_name extension in a ClientHello, as far as it goes."""
    at = _HANDSHAKE_HEADER + 2 + _RANDOM  # legacy_version, random
    for width in (1, 2, 1):  # legacy_session_id, cipher_suites, legacy_compression_methods: each a vector
        at += width + int.from_bytes(message[at : at + width], "big")
    end = at + 2 + int.from_bytes(message[at : at + 2], "big")
    at += 2
    found: list[bytes] = []
    while at + 4 <= min(end, len(message)):
        kind = int.from_bytes(message[at : at + 2], "big")
        length = int.from_bytes(message[at + 2 : at + 4], "big")
        at += 4
        if kind == _SERVER_NAME and at + length <= len(message):
            found += _names_of(message[at : at + length])
        at += length
    return found


def _names_of(extension: bytes) -> list[bytes]:
    """The host names of one ServerNameList."""
    found: list[bytes] = []
    at = 2  # the list's own length, which must be the extension's less two
    while at + 3 <= len(extension):
        length = int.from_bytes(extension[at + 1 : at + 3], "big")
        if extension[at] == _HOST_NAME:
            found.append(extension[at + 3 : at + 3 + length])
        at += 3 + length
    return found
