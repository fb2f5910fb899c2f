"""The host that a client's first HTTP/1 request names (RFC 9112). No I/O, no clock.

An absolute-form or authority-form target goes before the Host field (RFC 9112 sections 3.2.2 and 3.2.3). Where servers
are lenient this is lenient too: what one of them takes for a request must not pass for something else here.
"""

import re
from typing import Final

from services.tcp_fwd.server_name import combine, host_of

_CR: Final = 13
_LF: Final = 10
_SLASH: Final = 47
_MAX_METHOD: Final = 32  # octets; the longest of IANA's registry is UPDATEREDIRECTREF
_METHOD: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,32}(?:[ \t]|\Z)")  # a token (RFC 9110 section 5.6.2)
_REQUEST_LINE: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,32})[ \t]+(\S+)\s+HTTP/1\.[0-9]\s*\Z")
_HEAD_ENDS: Final = re.compile(rb"\n\r?\n")
# A line that begins with a space or a tab continues the one before (RFC 9112 section 5.2).
_HOST_FIELD: Final = re.compile(rb"\n[\r\v\f]*host[ \t\r\v\f]*:([^\n]*(?:\n[ \t][^\n]*)*)", re.IGNORECASE)
_USUAL: Final = b"\nhost:"
_CONTINUES: Final = (b" ", b"\t")
_ABSOLUTE: Final = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]*://([^/?#]*)")


class NotRequestError(ValueError):
    """The octets are no HTTP/1 request."""


class RequestHead:
    """What has come of the head of a request."""

    __slots__ = ("_begin", "_end", "_method", "_searched", "_target")

    def __init__(self) -> None:
        self._begin = 0
        self._searched = 0
        self._end = -1  # of the head, once it is whole
        self._method = b""  # of the request line, once that is whole, and is one
        self._target = b""

    def complete(self, octets: bytes | bytearray) -> bool:
        """Read on in octets, all that the client has sent; True where the head is whole.

        Raises NotRequestError where it can be none.
        """
        # A server passes over empty lines before the request line (RFC 9112 section 2.2).
        begin = self._begin
        while begin < len(octets) and (octets[begin] == _CR or octets[begin] == _LF):
            begin += 1
        self._begin = begin
        if not self._method and not self._find_line(octets):
            return False
        end = _HEAD_ENDS.search(octets, self._searched)
        if end is not None:
            self._end = end.start()
            return True
        self._searched = max(len(octets) - 2, self._searched)
        return False

    def _find_line(self, octets: bytes | bytearray) -> bool:
        begin = self._begin
        end = octets.find(b"\n", max(begin, self._searched))
        if end < 0:
            start = octets[begin : begin + _MAX_METHOD + 1]
            if start and not _METHOD.match(start):
                raise NotRequestError
            self._searched = len(octets)
            return False
        request = _REQUEST_LINE.match(octets, begin, end)
        if request is None:
            raise NotRequestError
        method, target = request.groups()
        self._method, self._target = bytes(method), bytes(target)
        self._searched = end
        return True

    def host(self, octets: bytes | bytearray) -> str | None:
        """The host in what has come so far, as far as its lines are whole; None where none is named."""
        if not self._method:
            return None
        if self._method == b"CONNECT":
            return combine([host_of(self._target)])
        if self._target[0] != _SLASH:
            absolute = _ABSOLUTE.match(self._target)
            if absolute is not None:
                return combine([host_of(absolute[1])])
        end = self._end if self._end >= 0 else octets.rfind(b"\n")
        head = bytes(octets[self._begin : end])
        value = _only_host(head)
        if value is not None:
            return combine([host_of(value)])
        values = _HOST_FIELD.findall(head)
        return combine([host_of(b"".join([line.strip() for line in value.split(b"\n")])) for value in values])


def _only_host(head: bytes) -> bytes | None:
    """The value of the Host field in the form that all but a few have: said once, at the beginning of a line.

    None where a closer look is needed: it takes several times as long.
    """
    lower = head.lower()
    at = lower.find(_USUAL) + len(_USUAL)
    if at < len(_USUAL) or lower.count(b"host") != 1:
        return None
    end = head.find(b"\n", at)
    if end < 0:
        return head[at:].strip()
    return None if head[end + 1 : end + 2] in _CONTINUES else head[at:end].strip()
