"""What one process counts: packets and octets in and out, and drops by reason."""

from collections import Counter

from netstack.packet.reason import Reason
from netstack.wire.messages import Sample


class Counters:
    """Plain integers; the hot path adds to them directly."""

    def __init__(self) -> None:
        self.packets_in = 0
        self.packets_out = 0
        self.octets_in = 0
        self.octets_out = 0
        self.queue = 0
        """Messages that wait for room."""
        self.drops: Counter[str] = Counter()
        self.gauges: dict[str, int] = {}
        """What else is worth showing: flows, leases, and counts that only this stage has."""
        self.notes: dict[str, str] = {}
        """Lines for `netstack status` about what does not work, by subject; removed when it works again."""

    def drop(self, reason: Reason, count: int = 1) -> None:
        """Count something dropped or refused."""
        self.drops[reason.value] += count

    def sample(self, stage: str, worker: str, pid: int, ready_since: float) -> Sample:
        """What `netstack status` shows of this process."""
        return Sample(
            stage=stage,
            worker=worker,
            pid=pid,
            ready_since=ready_since,
            packets_in=self.packets_in,
            packets_out=self.packets_out,
            octets_in=self.octets_in,
            octets_out=self.octets_out,
            queue=self.queue,
            drops=dict(self.drops),
            gauges=dict(self.gauges),
            notes=list(self.notes.values()),
        )
