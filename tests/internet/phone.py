"""A phone: a namespace whose default route leads over a bad link into another one, which forwards what it sends.

Packets forwarded into a TUN come one by one and without offload marks, and what comes back crosses the bad link.
"""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.internet.impairment import Quality
from tests.internet.link import Link, link

PHONE_V4, PHONE_V6 = "198.19.0.2", "2001:2:0:9::2"
NETWORK_V4: Final = "198.19.0.0/24"  # benchmarking, RFC 2544
GATEWAY_V4, GATEWAY_V6 = "198.19.0.1", "2001:2:0:9::1"
DEVICE: Final = "radio0"

CUBIC: Final = "congctl cubic"
"""Of a route: what the kernel's TCP uses there, whatever this machine's own default is (RFC 9438; Linux's default).

The sysctl would not do: in a namespace it takes only what `tcp_allowed_congestion_control` of the machine lists.
"""


@contextmanager
def phone_at(phone: Path, gateway: Path, quality: Quality, seed: int, *, back: Quality | None = None) -> Iterator[Link]:
    """Connect the namespace `phone` to `gateway`, both given by their paths. quality is of what the phone sends."""
    with link(phone, gateway, quality, seed, back=back, name=DEVICE) as running:
        run_in(phone, ["ip", "-batch", "-"], f"""
            address add {PHONE_V4}/24 dev {DEVICE}
            address add {PHONE_V6}/64 dev {DEVICE} nodad
            link set {DEVICE} up
            route add default dev {DEVICE} {CUBIC}
            route add ::/0 dev {DEVICE} {CUBIC}
        """)  # fmt: skip
        run_in(gateway, ["ip", "-batch", "-"], f"""
            address add {GATEWAY_V4}/24 dev {DEVICE}
            address add {GATEWAY_V6}/64 dev {DEVICE} nodad
            link set {DEVICE} up
        """)  # fmt: skip
        # A redirect, or its own idea of who may send, is not what is being tested.
        run_in(gateway, ["sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1",
                         "net.ipv4.conf.all.send_redirects=0", "net.ipv4.conf.all.rp_filter=0",
                         f"net.ipv4.conf.{DEVICE}.rp_filter=0"])  # fmt: skip
        yield running


def forget_paths(namespace: Path) -> None:
    """Forget what earlier connections found out about paths (RFC 9040), so that the next one begins afresh."""
    run_in(namespace, ["ip", "tcp_metrics", "flush", "all"])


def run_in(namespace: Path, command: list[str], lines: str = "") -> None:
    """Run a program in a network namespace; RuntimeError with what it said if it fails."""
    text = "\n".join(line.strip() for line in lines.splitlines() if line.strip())
    done = subprocess.run(
        ["nsenter", f"--net={namespace}", *command], input=text, text=True, capture_output=True, timeout=10, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} in {namespace}: {done.stderr.strip()}")
