"""What kind of place an address is: public or not, one host or many. Addresses are packed, 4 or 16 octets.

Used twice on purpose: dns_filter removes such addresses from answers, and the tracker leases none of them even if
it is told to. An attacker who owns a name can answer with an address of the victim's own network (DNS rebinding).
"""

from typing import Final


def is_public(address: bytes) -> bool:
    """Whether a public name may honestly have this address; False for octets that are no address.

    Documentation and benchmarking ranges (RFC 5737, RFC 3849, RFC 2544) are ordinary here.
    """
    if len(address) == _IPV4:
        return _is_public_ipv4(int.from_bytes(address, "big"))
    if len(address) == _IPV6:
        return _is_public_ipv6(address)
    return False


def is_multicast(address: bytes) -> bool:
    """Whether many would get what is sent there: multicast, or IPv4's limited broadcast (RFC 919)."""
    if len(address) == _IPV4:
        return address[0] & 0xF0 == 0xE0 or address == _LIMITED_BROADCAST
    return len(address) == _IPV6 and address[0] == 0xFF  # ff00::/8, RFC 4291 2.7


_IPV4: Final = 4
_IPV6: Final = 16
_LIMITED_BROADCAST: Final = b"\xff\xff\xff\xff"


def _network(text: str) -> tuple[int, int]:
    prefix, _, length = text.partition("/")
    shift = 32 - int(length)
    return int.from_bytes(bytes(map(int, prefix.split("."))), "big") >> shift, shift


def _first_octets(prefix: int, shift: int) -> range:
    return range(prefix << shift >> 24, (((prefix + 1) << shift) - 1 >> 24) + 1)


# Prefix and by how much an address is shifted right before they are compared.
_NOT_PUBLIC_IPV4: Final = tuple(
    _network(text)
    for text in (
        "0.0.0.0/8",  # this network, and 0.0.0.0, which Linux takes for the host itself (RFC 791, RFC 1122 3.2.1.3)
        "10.0.0.0/8",  # private (RFC 1918)
        "100.64.0.0/10",  # shared, behind carriers' NAT (RFC 6598)
        "127.0.0.0/8",  # loopback (RFC 1122 3.2.1.3)
        "169.254.0.0/16",  # link-local, where clouds keep their metadata service (RFC 3927)
        "172.16.0.0/12",  # private (RFC 1918)
        "192.168.0.0/16",  # private (RFC 1918)
        "224.0.0.0/4",  # multicast (RFC 5771)
        "240.0.0.0/4",  # reserved, and limited broadcast (RFC 1112 4, RFC 919)
    )
)

MAPPED: Final = bytes(10) + b"\xff\xff"
"""::ffff:0:0/96, IPv4 addresses as a host's own programs write them: RFC 4291 2.5.5.2."""

_WELL_KNOWN_NAT64: Final = bytes.fromhex("0064ff9b0000000000000000")  # 64:ff9b::/96, RFC 6052 2.1
_6TO4: Final = bytes.fromhex("2002")  # 2002::/16, the IPv4 address follows: RFC 3056 2
_SITE_LOCAL_OR_LINK_LOCAL: Final = (0xFE80, 0xFEC0)  # fe80::/10 and the deprecated fec0::/10: RFC 4291 2.5.6, RFC 3879


_NOT_ALL_PUBLIC: Final = frozenset(
    first for first in range(256) for prefix, shift in _NOT_PUBLIC_IPV4 if first in _first_octets(prefix, shift)
)
"""First octets of addresses of which some are not public."""


def _is_public_ipv4(address: int) -> bool:
    if address >> 24 not in _NOT_ALL_PUBLIC:
        return True
    return not any(address >> shift == prefix for prefix, shift in _NOT_PUBLIC_IPV4)


def _is_public_ipv6(address: bytes) -> bool:
    # Translators take these to the IPv4 address inside, so that is what counts.
    if address.startswith(_WELL_KNOWN_NAT64):
        return is_public(address[12:])
    if address.startswith(_6TO4):
        return is_public(address[2:6])
    first = address[0]
    # ::/8 is reserved (RFC 4291 4): in it lie ::, ::1, the v4-mapped and v4-compatible forms, and 64:ff9b:1::/48, which
    # each network uses for itself (RFC 8215). fc00::/7 is unique local (RFC 4193), ff00::/8 multicast.
    if first in (0x00, 0xFC, 0xFD, 0xFF):
        return False
    return int.from_bytes(address[:2], "big") & 0xFFC0 not in _SITE_LOCAL_OR_LINK_LOCAL
