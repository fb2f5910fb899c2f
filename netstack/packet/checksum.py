"""The Internet checksum (RFC 1071) and the pseudo-headers it covers.

A ones' complement sum of 16-bit words is the number that the octets spell in base 65536, modulo 65535: one division
of a big integer takes 2.3 us for 1,400 octets where a loop over the words takes eleven.
"""

from typing import Final

_WORD: Final = 0xFFFF


def octet_sum(octets: bytes | bytearray | memoryview) -> int:
    """The ones' complement sum of octets as 16-bit words, 0..0xFFFF, not inverted.

    Zero means that every octet was zero; any other multiple of 65535 is given as 0xFFFF.
    """
    if len(octets) & 1:
        number = int.from_bytes(octets, "big") << 8
    else:
        number = int.from_bytes(octets, "big")
    if number == 0:
        return 0
    return number % _WORD or _WORD


def fold(total: int) -> int:
    """Reduce a sum of ones' complement sums to 16 bits."""
    if total == 0:
        return 0
    return total % _WORD or _WORD


def checksum(octets: bytes | bytearray | memoryview, initial: int = 0) -> int:
    """The value that goes in a checksum field whose octets were zero when summed; over a valid message it is 0."""
    return _WORD - fold(octet_sum(octets) + initial)


def pseudo_sum(source: bytes, destination: bytes, protocol: int, length: int) -> int:
    """The sum, not inverted, of the pseudo-header of IPv4 (RFC 9293 section 3.1) or IPv6 (RFC 8200 section 8.1).

    Addresses are 4 or 16 octets each; length is that of the upper-layer header and data, in octets.
    """
    return fold(octet_sum(source) + octet_sum(destination) + protocol + (length >> 16) + (length & _WORD))
