"""What a process counts, as `netstack status` gets it."""

from netstack.packet.reason import Reason
from netstack.runtime.counters import Counters
from netstack.wire.messages import Sample, pack, unpack


def test_a_sample_says_everything_that_was_counted() -> None:
    counters = Counters()
    counters.packets_in, counters.octets_in = 3, 4500
    counters.packets_out, counters.octets_out = 2, 128
    counters.queue = 7
    counters.drop(Reason.QUEUE_FULL)
    counters.drop(Reason.QUEUE_FULL, 4)
    counters.drop(Reason.BAD_CHECKSUM)
    counters.gauges["flows"] = 9
    counters.notes["redis"] = "Redis does not answer"
    sample = counters.sample("tracker", "tracker-1", 4711, 1.5)
    assert sample == Sample(
        stage="tracker",
        worker="tracker-1",
        pid=4711,
        ready_since=1.5,
        packets_in=3,
        packets_out=2,
        octets_in=4500,
        octets_out=128,
        queue=7,
        drops={"queue-full": 5, "bad-checksum": 1},
        gauges={"flows": 9},
        notes=["Redis does not answer"],
    )
    assert unpack(pack(sample)) == sample


def test_a_sample_does_not_change_afterwards() -> None:
    counters = Counters()
    sample = counters.sample("tracker", "tracker-1", 1, 0.0)
    counters.drop(Reason.QUEUE_FULL)
    counters.gauges["flows"] = 1
    counters.notes["redis"] = "away"
    assert (sample.drops, sample.gauges, sample.notes) == ({}, {}, [])
