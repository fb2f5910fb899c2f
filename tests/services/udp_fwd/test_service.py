"""The batch handler takes whatever octets there are."""

import asyncio
import shutil
import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from netstack.packet import datagram, icmp, ipv4, ipv6, vnet
from netstack.packet.vnet import NO_OFFLOAD
from netstack.runtime.config import Config
from netstack.runtime.service import Runtime
from netstack.wire.topology import Topology
from services.udp_fwd.service import UdpService

CLIENT, SERVER = bytes([10, 0, 0, 2]), bytes([198, 18, 0, 1])
CLIENT_V6 = bytes.fromhex("fd006e73000000000000000000000002")
SERVER_V6 = bytes.fromhex("20010db8000000000000000000000001")
_ECHO = icmp.emit(icmp.ECHO_REQUEST, 0, 0x12340001, b"ping")
_ECHO_V6 = icmp.emit_v6(CLIENT_V6, SERVER_V6, icmp.V6_ECHO_REQUEST, 0, 0x12340001, b"ping")
_TRAIN = datagram.emit(CLIENT, 5000, SERVER, 53, bytes(100))[vnet.VNET_LEN :]
VALID = [
    datagram.emit(CLIENT, 5000, SERVER, 53, b"ping"),
    datagram.emit(CLIENT_V6, 5000, SERVER_V6, 53, b"ping"),
    NO_OFFLOAD + ipv4.emit(CLIENT, SERVER, icmp.PROTOCOL, len(_ECHO)) + _ECHO,
    NO_OFFLOAD + ipv6.emit(CLIENT_V6, SERVER_V6, icmp.PROTOCOL_V6, len(_ECHO_V6)) + _ECHO_V6,
    vnet.emit(vnet.GSO_UDP_L4, 28, 30, 20, 6) + _TRAIN,
]


@st.composite
def damaged(draw):
    """A valid frame with octets changed, cut off or added; or noise."""
    octets = bytearray(draw(st.sampled_from(VALID)))
    for at, value in draw(st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=4)):
        octets[at % len(octets)] = value
    end = draw(st.integers(0, 2 * len(octets)))
    return bytes(octets[:end]) + draw(st.binary(max_size=8))


def counted(batches: list[list[bytes]]) -> tuple[int, int]:
    """How many packets were dropped, and how many wait for a tracker that is not there."""

    async def scenario() -> tuple[int, int]:
        run_dir = Path(tempfile.mkdtemp(prefix="ns-"))
        runtime = Runtime("udp_fwd", "udp_fwd-1", Config(), Topology(run_dir))
        service = UdpService(runtime)
        try:
            for batch in batches:
                service.batch(batch, {0: 1})
            runtime.before_sample()
            return runtime.counters.drops.total(), runtime.counters.gauges["waiting"]
        finally:
            runtime.bus.close(0.0)
            shutil.rmtree(run_dir)

    return asyncio.run(scenario())


@given(st.lists(st.lists(damaged() | st.binary(max_size=80), min_size=1, max_size=30), min_size=1, max_size=5))
def test_every_packet_is_dropped_with_a_reason_or_waits_for_its_verdict(batches):
    assert sum(counted(batches)) == sum(map(len, batches))


def test_valid_packets_wait_for_their_verdict():
    assert counted([VALID]) == (0, len(VALID))
