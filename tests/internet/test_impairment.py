"""The bad link's decisions, on a virtual clock."""

from itertools import groupby

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.internet.impairment import Direction, Quality, Tally

PACKET = bytes(1000)


def run(quality, packets, *, seed=1, every=0.001):
    """Send one packet each `every` seconds from 0 on; (time, packet) of what comes out, in order, and the tally."""
    direction = Direction(quality, seed)
    out = []

    def drain(until):
        while (when := direction.next_timeout()) is not None and when <= until:
            out.extend((when, packet) for packet in direction.due(when))

    for index, packet in enumerate(packets):
        drain(index * every)
        direction.receive(packet, index * every)
    drain(float("inf"))
    return out, direction.tally


def numbered(count):
    return [index.to_bytes(4) for index in range(count)]


def test_perfect_link_gives_everything_at_once_and_in_order():
    out, _ = run(Quality(), numbered(5))

    assert [(round(when, 6), packet) for when, packet in out] == [
        (index * 0.001, packet) for index, packet in enumerate(numbered(5))
    ]


def test_delay_is_added_to_each():
    out, _ = run(Quality(delay=0.02), [PACKET] * 3)

    assert [when for when, _ in out] == pytest.approx([0.020, 0.021, 0.022])


def test_bandwidth_spaces_what_comes_at_once():
    # 1,000 octets at 8 Mbit/s take 1 ms.
    out, _ = run(Quality(bandwidth=8e6, delay=0.01), [PACKET] * 4, every=0)

    assert [when for when, _ in out] == pytest.approx([0.011, 0.012, 0.013, 0.014])


def test_an_idle_link_has_saved_no_bandwidth():
    out, _ = run(Quality(bandwidth=8e6), [PACKET] * 2, every=5)

    assert [when for when, _ in out] == pytest.approx([0.001, 5.001])


def test_a_full_queue_drops_what_comes_last_and_has_room_again_later():
    quality = Quality(bandwidth=8e6, queue=3000)
    direction = Direction(quality, 1)
    for packet in numbered(5):
        direction.receive(packet + bytes(996), 0.0)
    direction.receive(b"late" + bytes(996), 0.0015)

    assert [packet[:4] for packet in direction.due(1.0)] == [*numbered(3), b"late"]
    assert direction.tally == Tally(received=6, delivered=4, overflowed=2)


@pytest.mark.parametrize("burst", [1, 3, 10], ids=["each by itself", "three in a row", "ten in a row"])
@pytest.mark.parametrize("loss", [0.01, 0.05, 0.3])
def test_loss_has_the_share_and_the_mean_run_that_were_asked_for(loss, burst):
    packets = numbered(40_000)
    out, tally = run(Quality(loss=loss, burst=burst), packets)

    arrived = {packet for _, packet in out}
    runs = [len(list(group)) for is_lost, group in groupby(packets, lambda p: p not in arrived) if is_lost]
    assert tally.lost == len(packets) - len(out)
    assert tally.lost / len(packets) == pytest.approx(loss, rel=0.2)
    expected = burst if burst > 1 else 1 / (1 - loss)  # independent losses follow each other by chance
    assert sum(runs) / len(runs) == pytest.approx(expected, rel=0.2)


def test_an_overtaken_packet_comes_out_later_by_the_time_given():
    out, tally = run(Quality(reorder=0.2, reorder_by=0.0035), numbered(200))

    late = [(when, packet) for when, packet in out if when > int.from_bytes(packet) * 0.001 + 1e-6]
    assert len(out) == 200
    assert 20 < len(late) == tally.reordered < 60
    assert all(when == pytest.approx(int.from_bytes(packet) * 0.001 + 0.0035) for when, packet in late)


def test_duplicates_come_out_twice():
    out, tally = run(Quality(duplicate=0.3), numbered(200))

    assert {packet for _, packet in out} == set(numbered(200))
    assert len(out) == 200 + tally.duplicated
    assert 40 < tally.duplicated < 80


def test_the_same_seed_loses_the_same_packets_whatever_else_is_wrong():
    def lost(seed, **more):
        out, _ = run(Quality(loss=0.1, **more), numbered(500), seed=seed)
        return set(numbered(500)) - {packet for _, packet in out}

    assert lost(1) == lost(1) == lost(1, reorder=0.5, duplicate=0.5)
    assert lost(1) != lost(2)


@given(
    st.builds(
        Quality, delay=st.floats(0, 0.2), loss=st.floats(0, 0.5), burst=st.floats(1, 5), reorder=st.floats(0, 0.5),
        duplicate=st.floats(0, 0.5), bandwidth=st.sampled_from([0.0, 1e6]), queue=st.integers(0, 5000),
    ),
    st.integers(0, 1000),
)  # fmt: skip
def test_every_packet_is_accounted_for(quality, seed):
    out, tally = run(quality, numbered(50), seed=seed)

    assert tally.delivered == len(out)
    assert tally.received == 50
    assert tally.delivered == tally.received - tally.lost - tally.overflowed + tally.duplicated
    assert [when for when, _ in out] == sorted(when for when, _ in out)


@pytest.mark.parametrize(
    "wrong", [{"loss": 1.0}, {"loss": -0.1}, {"reorder": 2}, {"burst": 0.5}, {"delay": -1}, {"bandwidth": -1}], ids=str
)
def test_what_no_link_can_be_is_refused(wrong):
    with pytest.raises(ValueError, match="no link"):
        Quality(**wrong)
