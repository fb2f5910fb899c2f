"""Which form a list has, by its beginning. No I/O, no clock."""

import re
from typing import Final

_ZONE: Final = re.compile(
    rb"^(?:\$(?:ttl|origin)[ \t]|[^\s#!;|]*[ \t]+(?:[0-9]+[ \t]+)?(?:in[ \t]+)?(?:soa|cname)[ \t]+\S)",
    re.MULTILINE | re.IGNORECASE,
)


def looks_like_zone(text: bytes) -> bool:
    """Whether the beginning of a list is that of a zone file."""
    return _ZONE.search(text) is not None
