"""A link between two network namespaces, as bad as it is asked to be: a process with a TUN at each end.

For kernels that have no netem(8). Run as a program it takes one JSON object (that `link` makes), says "up" on standard
output, carries packets until its standard input ends, and then says what became of them, as JSON. Each passes as an IP
packet of the MTU at most, without offloads, as over a radio.
"""

import ctypes
import fcntl
import gc
import json
import os
import select
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any, Final

from tests.internet.impairment import Direction, Quality, Tally

# <linux/if_tun.h>, <linux/sched.h>
_TUNSETIFF: Final = 0x400454CA
_IFF_TUN: Final = 0x0001
_IFF_NO_PI: Final = 0x1000
_CLONE_NEWNET: Final = 0x40000000

_MAX_PACKET: Final = 65535  # octets
_BURST: Final = 64  # packets read from one end before the other has its turn
_TX_QUEUE: Final = 10_000  # packets; what overflows must overflow in the queue that is being modelled
_LATE: Final = 0.001  # seconds after which a packet that comes out counts as late
_PRIORITY: Final = 1  # sched(7), the least of real time: a real link does not wait for what it connects


@dataclass
class Report:
    """What became of the packets of both directions, and how well the process kept time."""

    tally: Tally = field(default_factory=Tally)
    late: int = 0
    """Packets that came out more than a millisecond after their time: the process was too slow, or had no processor."""
    latest: float = 0.0
    """Seconds that the worst of them was late."""


class Link:
    """A running link; `report` is there once it has ended."""

    def __init__(self) -> None:
        self.report = Report()


@contextmanager
def link(near: Path, far: Path, quality: Quality, seed: int, *, back: Quality | None = None, name: str = "radio0",
         mtu: int = 1500) -> Iterator[Link]:  # fmt: skip
    """Connect two network namespaces, given by their paths, by a device of that name in each.

    quality is of the direction from near to far, and of the other one too unless `back` is given. The devices are
    there, without addresses and down, until the end.
    """
    running = Link()
    words = {
        "near": str(near), "far": str(far), "name": name, "mtu": mtu, "seed": seed,
        "there": quality.as_dict(), "back": (back or quality).as_dict(),
    }  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-m", __name__, json.dumps(words)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    with process:
        try:
            assert process.stdout is not None
            if process.stdout.readline() != b"up\n":
                raise RuntimeError("the link did not come up; see the message above")
            yield running
            out, _ = process.communicate(b"", timeout=10)
            said = json.loads(out)
            running.report = Report(Tally(**said.pop("tally")), **said)
        finally:
            process.kill()


def main() -> None:
    """The link itself."""
    words = json.loads(sys.argv[1])
    namespaces = [os.open(words[end], os.O_RDONLY) for end in ("near", "far")]
    near, far = (_tun(namespace, words["name"], words["mtu"]) for namespace in namespaces)
    gc.disable()  # nothing here refers to itself
    with suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(_PRIORITY))
    there, back = (
        Direction(Quality(**words[word]), words["seed"] + number) for number, word in enumerate(("there", "back"))
    )
    os.write(1, b"up\n")
    report = _carry({near: (there, far), far: (back, near)})
    report.tally = there.tally + back.tally
    os.write(1, json.dumps(asdict(report)).encode())


def _carry(ways: dict[int, tuple[Direction, int]]) -> Report:
    """Carry packets from each descriptor to the other until standard input ends."""
    report = Report()
    directions = list(ways.values())
    watched = [0, *ways]
    while True:
        timeouts = [when for direction, _ in directions if (when := direction.next_timeout()) is not None]
        # select(2) rather than epoll(7), whose time-outs are whole milliseconds.
        wait = max(min(timeouts) - monotonic(), 0.0) if timeouts else None
        readable, _, _ = select.select(watched, [], [], wait)
        if 0 in readable:
            return report
        for descriptor in readable:
            _read(descriptor, ways[descriptor][0])
        for direction, out in directions:
            now = monotonic()
            when = direction.next_timeout()
            if when is None or when > now:
                continue
            packets = direction.due(now)
            for packet in packets:
                # What the device refuses (it is down) would have been lost on a real link too.
                with suppress(OSError):
                    os.write(out, packet)
            if now - when > _LATE:
                report.late += len(packets)
                report.latest = max(report.latest, now - when)


def _read(descriptor: int, direction: Direction) -> None:
    with suppress(OSError):  # nothing more, or the device is down
        for _ in range(_BURST):
            direction.receive(os.read(descriptor, _MAX_PACKET), monotonic())


def _tun(namespace: int, name: str, mtu: int) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(namespace, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    fcntl.ioctl(descriptor, _TUNSETIFF, struct.pack("=16sH22x", name.encode(), _IFF_TUN | _IFF_NO_PI))
    ip: list[Any] = ["ip", "link", "set", name, "txqueuelen", _TX_QUEUE, "mtu", mtu, "addrgenmode", "none"]
    subprocess.run([str(word) for word in ip], check=True, timeout=10)
    return descriptor


if __name__ == "__main__":
    main()
