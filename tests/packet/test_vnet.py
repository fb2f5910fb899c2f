"""The virtio_net_hdr, against the layout of linux/virtio_net.h."""

import sys

import pytest

from netstack.packet import vnet

# struct virtio_net_hdr of linux/virtio_net.h: u8 flags, u8 gso_type, then four u16 of native byte order.
HEADER = bytes([1, 1]) + b"".join(n.to_bytes(2, sys.byteorder) for n in (52, 1448, 20, 16))


def test_each_field_is_written() -> None:
    assert vnet.emit(vnet.GSO_TCPV4, 52, 1448, 20, 16) == HEADER


def test_each_field_is_read() -> None:
    assert vnet.parse(HEADER + b"\x45 and so on") == (vnet.F_NEEDS_CSUM, vnet.GSO_TCPV4, 52, 1448, 20, 16)


@pytest.mark.parametrize(
    ("name", "value"),
    [("GSO_NONE", 0), ("GSO_TCPV4", 1), ("GSO_UDP", 3), ("GSO_TCPV6", 4), ("GSO_UDP_L4", 5), ("GSO_ECN", 0x80)],
)
def test_the_numbers_are_those_of_the_kernel_header(name: str, value: int) -> None:
    assert getattr(vnet, name) == value


def test_a_packet_that_is_complete_asks_for_nothing() -> None:
    assert vnet.parse(vnet.NO_OFFLOAD) == (0, vnet.GSO_NONE, 0, 0, 0, 0)
    assert len(vnet.NO_OFFLOAD) == vnet.VNET_LEN == 10
