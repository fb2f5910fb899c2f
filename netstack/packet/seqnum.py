"""Arithmetic of TCP sequence numbers (RFC 9293 section 3.4): 32 bits, compared around the circle."""

from typing import Final

MODULUS: Final = 1 << 32
MASK: Final = MODULUS - 1
_HALF: Final = 1 << 31


def add(a: int, octets: int) -> int:
    """The sequence number that comes `octets` after a (octets may be negative)."""
    return (a + octets) & MASK


def diff(a: int, b: int) -> int:
    """How far a is after b, -2**31 .. 2**31-1; negative when a comes before b."""
    return ((a - b + _HALF) & MASK) - _HALF


def lt(a: int, b: int) -> bool:
    """a < b in the order of the circle."""
    return a != b and (b - a) & MASK < _HALF


def le(a: int, b: int) -> bool:
    """a =< b in the order of the circle."""
    return (b - a) & MASK < _HALF


def in_window(number: int, first: int, size: int) -> bool:
    """Whether `number` lies in the `size` octets that start at `first`."""
    return (number - first) & MASK < size
