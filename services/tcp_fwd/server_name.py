"""A server's name as a client writes it, brought into the form in which names are compared. No I/O, no clock."""

from collections.abc import Sequence
from typing import Final

MAX_NAME: Final = 255
"""Characters kept of a name. A DNS name has at most 253 (RFC 1035 section 2.3.4), so nothing cut off can match one."""


def normalize(octets: bytes) -> str:
    """A name in lower case and without the final dot; octets that no name has are escaped, as they may be logged."""
    text = octets.decode("latin-1").lower().removesuffix(".")
    if len(text) <= MAX_NAME and text.isascii() and text.isprintable() and " " not in text:
        return text
    return "".join(one if "!" <= one <= "~" else f"\\{ord(one):03}" for one in text[:MAX_NAME])


def host_of(authority: bytes) -> bytes:
    """The host of an authority (RFC 3986 section 3.2): no user information, no port, no brackets."""
    host = authority.rpartition(b"@")[2]
    if host.startswith(b"["):
        return host[1:].partition(b"]")[0]
    return host.partition(b":")[0]


def combine(names: Sequence[bytes]) -> str | None:
    """The name that was said; None where there was none.

    Which of two different names a server takes is its own affair. They are joined as a field said twice is (RFC 9110
    section 5.3): the result is no DNS name, so that it matches none.
    """
    if len(names) == 1:
        return normalize(names[0]) or None
    unique = dict.fromkeys(filter(None, map(normalize, names)))
    return ",".join(unique) or None
