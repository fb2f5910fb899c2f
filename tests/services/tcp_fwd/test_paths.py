"""Path MTUs of clients beyond the TUN's machine."""

import pytest

from netstack.packet.icmp_error import IcmpError
from services.tcp_fwd import paths
from services.tcp_fwd.paths import LASTS, MOST, Paths
from tests.services.tcp_fwd.builders import ISS, established

OWN, CLIENT = bytes([10, 0, 0, 2]), bytes([10, 0, 9, 2])
SERVER = bytes([198, 18, 0, 1])


def test_what_was_learned_is_known_for_ten_minutes():
    known = Paths({OWN})
    assert known.mtu(CLIENT, 0.0) == 0
    known.learn(CLIENT, 1400, 0.0)
    assert known.mtu(CLIENT, LASTS - 1) == 1400
    assert known.mtu(CLIENT, LASTS) == 0


def test_of_the_tuns_own_addresses_nothing_is_kept():
    known = Paths({OWN})
    known.learn(OWN, 1400, 0.0)
    assert known.mtu(OWN, 0.0) == 0


def test_the_oldest_makes_room():
    known = Paths(())
    for number in range(MOST + 1):
        known.learn(number.to_bytes(4, "big"), 1400, 0.0)
    assert known.mtu((0).to_bytes(4, "big"), 0.0) == 0
    assert known.mtu((1).to_bytes(4, "big"), 0.0) == 1400


@pytest.mark.parametrize(
    ("seq", "believed"),
    [(0, False), (1, True), (1000, True), (1001, False), (-1, False), (1 << 31, False)],
    ids=["acknowledged", "the first octet", "the last", "not yet sent", "long ago", "anything"],
)
def test_only_a_segment_that_is_under_way_is_believed(seq, believed):
    bench = established()
    bench.do(bench.connection.socket_data(bytes(1000), bench.now))
    error = IcmpError(3, 4, 1400, 6, SERVER, 443, CLIENT, 40000, 1500, (ISS + seq) & 0xFFFFFFFF)
    assert paths.is_under_way(error, bench.connection.sender) == believed


def test_where_nothing_is_under_way_nothing_is_believed():
    bench = established()
    error = IcmpError(3, 4, 1400, 6, SERVER, 443, CLIENT, 40000, 1500, bench.connection.sender.snd_nxt)
    assert not paths.is_under_way(error, bench.connection.sender)
