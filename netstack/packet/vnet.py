"""The virtio_net_hdr that IFF_VNET_HDR puts before each packet (linux/virtio_net.h, native byte order, 10 octets)."""

import struct
from typing import Final

VNET_LEN: Final = 10  # octets
_FORMAT: Final = struct.Struct("=BBHHHH")  # flags, gso_type, hdr_len, gso_size, csum_start, csum_offset

F_NEEDS_CSUM: Final = 1  # the checksum field holds only the pseudo-header's sum
F_DATA_VALID: Final = 2

GSO_NONE: Final = 0
GSO_TCPV4: Final = 1
GSO_UDP: Final = 3  # UFO; withdrawn from the kernel, seen only from old guests
GSO_TCPV6: Final = 4
GSO_UDP_L4: Final = 5
GSO_ECN: Final = 0x80

NO_OFFLOAD: Final = bytes(VNET_LEN)
"""The header of a packet that is complete: checksums filled in, no segmentation asked."""


def emit(gso_type: int, header_length: int, gso_size: int, csum_start: int, csum_offset: int) -> bytes:
    """A header that asks the kernel for the checksum and, where gso_type is not GSO_NONE, for segmentation.

    header_length is that of the IP and transport headers together; csum_start counts from the first octet of the IP
    header and csum_offset from csum_start; gso_size is the payload of each segment. All in octets.
    """
    return _FORMAT.pack(F_NEEDS_CSUM, gso_type, header_length, gso_size, csum_start, csum_offset)


def parse(frame: bytes) -> tuple[int, int, int, int, int, int]:
    """The six fields of the header at the start of frame; the caller has checked that VNET_LEN octets are there."""
    return _FORMAT.unpack_from(frame)
